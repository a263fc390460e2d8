"""Single properties of the object store: threads, deletions during reads, upkeep, full disks, lifecycle rules."""

import contextlib
import logging
import os
import random
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from cloudknot.local.directory.database import Database
from cloudknot.local.directory.full_disk import Room
from cloudknot.local.s3.errors import S3Error
from cloudknot.local.s3.records import Condition, ObjectVersion, Properties
from cloudknot.local.s3.storage import versions
from cloudknot.local.s3.storage.commits import SharedCommits
from cloudknot.local.s3.storage.lifecycle import prefixes_of, rules_of
from tests.unit.local.s3.stores import keys, put, put_part, read, wait_until

DAY = 24 * 3600.0
ABSENT = Condition(if_none_match="*")
LARGE = b"0123456789" * 10_000
PART = bytes(5 << 20)


def code_of(function, *arguments, **keywords):
    """Return the code of the error that a call raises."""
    with pytest.raises(S3Error) as caught:
        function(*arguments, **keywords)
    return caught.value.code


def data_files(stores):
    return sorted((stores.directory / "objects" / "data").glob("*/*"))


def opened_files(store):
    """Return the open data files of a store. Other parts of this process may open and close their own meanwhile."""
    folder = str(store._files.path("00").parent.parent)
    paths = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            paths.append(os.readlink(f"/proc/self/fd/{number}"))
    return [path for path in paths if path.startswith(folder)]


class TestBuckets:
    def test_bucket_is_created_once_and_deleted_empty(self, store):
        assert code_of(store.create_bucket, "bucket", "owner") == "BucketAlreadyOwnedByYou"
        assert code_of(store.create_bucket, "bucket", "another") == "BucketAlreadyExists"
        put(store, "key", b"data")
        store.create_upload("bucket", "key", Properties())
        assert code_of(store.delete_bucket, "bucket") == "BucketNotEmpty"
        store.delete("bucket", "key")
        store.delete_bucket("bucket")
        assert store.buckets() == []
        for call in (store.bucket, store.delete_bucket, store.list, store.versions, store.uploads):
            assert code_of(call, "bucket") == "NoSuchBucket"
        assert code_of(store.get, "bucket", "key") == "NoSuchBucket"
        assert code_of(put, store, "key", b"data") == "NoSuchBucket"

    def test_configurations_survive_and_go_with_their_bucket(self, stores):
        stores.store.set_configuration("bucket", "policy", b"{}")
        assert stores.reopen().configuration("bucket", "policy") == b"{}"
        stores.store.delete_bucket("bucket")
        stores.store.create_bucket("bucket", "owner")
        assert stores.store.configuration("bucket", "policy") is None
        stores.store.set_configuration("bucket", "policy", b"{}")
        stores.store.set_configuration("bucket", "policy", None)
        assert stores.store.configuration("bucket", "policy") is None


class TestThreads:
    def test_exactly_one_of_many_writers_creates_a_key(self, store):
        def write(number):
            try:
                put(store, f"key{number // 16}", b"%d" % number, condition=ABSENT)
            except S3Error as error:
                return error.code
            return number

        with ThreadPoolExecutor(16) as threads:
            results = list(threads.map(write, range(160)))
        for group in range(10):
            of_group = results[16 * group : 16 * group + 16]
            (winner,) = [result for result in of_group if result != "PreconditionFailed"]
            assert store.get("bucket", f"key{group}").content == b"%d" % winner

    def test_exactly_one_of_many_writers_replaces_a_version(self, store):
        etag = put(store, "key", b"first").etag

        def write(number):
            try:
                return put(store, "key", LARGE + b"%d" % number, condition=Condition(if_match=etag)).size
            except S3Error as error:
                return error.code

        with ThreadPoolExecutor(16) as threads:
            results = list(threads.map(write, range(16)))
        assert sorted(map(str, results))[1:] == ["PreconditionFailed"] * 15

    def test_readers_see_whole_objects_while_writers_replace_and_delete_them(self, store):
        """Every read is one of the written values. A deletion gives NoSuchKey, never a part of the data."""
        stop, seen = threading.Event(), set()

        def write(number):
            random_ = random.Random(number)
            while not stop.is_set():
                size = random_.choice([10, 100_000])
                put(store, "key", bytes([random_.randrange(256)]) * size)
                if random_.random() < 0.3:
                    store.delete("bucket", "key")

        def check():
            for _ in range(300):
                try:
                    data = read(store, store.get("bucket", "key"))
                except S3Error as error:
                    seen.add(error.code)
                    continue
                assert len(data) in (10, 100_000)
                assert len(set(data)) == 1

        with ThreadPoolExecutor(5) as threads:
            writers = [threads.submit(write, number) for number in range(3)]
            readers = [threads.submit(check) for _ in range(2)]
            try:
                for reader in readers:
                    reader.result()
            finally:
                stop.set()
            for writer in writers:
                writer.result()
        assert seen <= {"NoSuchKey", "SlowDown"}

    def test_opened_object_is_readable_after_its_deletion(self, stores):
        store = stores.store
        (segment,) = store.segments(put(store, "key", LARGE), 0, len(LARGE))
        found = store.get("bucket", "key")
        store.delete("bucket", "key")
        # The files go in the order of the deletions.
        put(store, "later", LARGE)
        store.delete("bucket", "later")
        wait_until(lambda: len(data_files(stores)) == 1)
        assert segment.file.read() == LARGE
        segment.file.close()
        wait_until(lambda: data_files(stores) == [])
        assert code_of(store.segments, found, 0, 10) == "SlowDown"

    def test_concurrent_small_objects_share_transactions(self, store):
        """A sync takes milliseconds: one for each of many waiting writers would limit all of them together."""
        statements = []
        store._database._connection.set_trace_callback(statements.append)
        with ThreadPoolExecutor(16) as threads, store._database.transaction():
            puts = [threads.submit(put, store, f"key{number}", b"x") for number in range(16)]
            while len(store._commits._waiting) < 16:
                threading.Event().wait(0.01)
        for done in puts:
            done.result()
        store._database._connection.set_trace_callback(None)
        # The empty transaction that held the others up, then one for all of them.
        assert statements.count("COMMIT") == 2
        assert len(keys(store)) == 16


class TestListing:
    def test_page_of_many_prefixes_reads_few_rows(self, store):
        """The rows below a common prefix are skipped by the index."""
        with store._database.transaction() as connection:
            for number in range(5_000):
                version = ObjectVersion(
                    "bucket", f"p{number // 1000:02}/{number % 1000:03}", "", 0, "", 0.0, content=b""
                )
                versions.insert(connection, version, Condition())
        steps = []
        # The only reading connection, so that the listing uses it.
        with store._database.reading() as connection:
            connection.set_progress_handler(lambda: steps.append(1) and None, 100)
        page = store.list("bucket", delimiter="/")
        assert page.prefixes == tuple(f"p{n:02}/" for n in range(5))
        # A scan of all rows takes more than 25,000 instructions of SQLite's machine.
        assert len(steps) < 20
        assert store.list("bucket", prefix="p04/", after="p04/998").objects[0].key == "p04/999"

    def test_key_that_is_deleted_between_pages_is_neither_lost_nor_repeated(self, store):
        for name in "abcd":
            put(store, name, b"x")
        page = store.list("bucket", limit=2)
        store.delete("bucket", page.following)
        assert [version.key for version in store.list("bucket", after=page.following).objects] == ["c", "d"]

    def test_versions_are_all_deleted_page_by_page(self, store):
        store.set_versioning("bucket", "Enabled")
        for number in range(30):
            put(store, f"key{number % 3}", b"x")
        markers = ("", "")
        while markers[0] is not None:
            page = store.versions("bucket", "", *markers, limit=4)
            store.delete_many("bucket", [(version.key, version.version) for version in page.objects])
            markers = page.following, page.following_version
        assert store.versions("bucket").objects == ()

    def test_uploads_are_listed_by_key_and_start(self, store):
        expected = [store.create_upload("bucket", key, Properties()) for key in ("a", "b", "b", "c/d", "c/e")]
        found, markers, prefixes = [], ("", ""), ()
        while markers[0] is not None:
            page = store.uploads("bucket", "", *markers, delimiter="/", limit=1)
            found += page.uploads
            prefixes += page.prefixes
            markers = page.following, page.following_id
        assert found == expected[:3]
        assert prefixes == ("c/",)


class TestUploads:
    def test_wrong_lists_of_parts_are_refused_and_the_upload_goes_on(self, store):
        upload = store.create_upload("bucket", "key", Properties(headers={"content-type": "text/csv"}))
        first, second = put_part(store, upload, 1, PART), put_part(store, upload, 2, b"end")
        assert code_of(store.complete, upload, [second, first], "etag") == "InvalidPartOrder"
        assert code_of(store.complete, upload, [first, first], "etag") == "InvalidPartOrder"
        assert code_of(store.complete, upload, [first, (3, "x")], "etag") == "InvalidPart"
        assert code_of(store.complete, upload, [(1, "x")], "etag") == "InvalidPart"
        third = put_part(store, upload, 3, b"end")
        assert code_of(store.complete, upload, [second, third], "etag") == "EntityTooSmall"
        put(store, "key", b"there")
        assert code_of(store.complete, upload, [first, third], "etag", ABSENT) == "PreconditionFailed"
        store.complete(upload, [first, third], "etag")
        found = store.get("bucket", "key")
        assert (found.size, found.parts) == (len(PART) + 3, (len(PART), 3))
        assert found.properties.headers == {"content-type": "text/csv"}
        assert read(store, found, len(PART) - 1) == b"\0end"

    def test_ended_upload_takes_no_parts(self, stores):
        store = stores.store
        for end in (store.abort, lambda upload: store.complete(upload, [put_part(store, upload, 1, b"x")], "etag")):
            upload = store.create_upload("bucket", "key", Properties())
            assert store.upload("bucket", "key", upload.id) == upload
            end(upload)
            assert code_of(store.upload, "bucket", "key", upload.id) == "NoSuchUpload"
            assert code_of(put_part, store, upload, 1, b"late") == "NoSuchUpload"
            assert code_of(store.complete, upload, [(1, "x")], "etag") == "NoSuchUpload"
            assert code_of(store.abort, upload) == "NoSuchUpload"

    def test_completion_is_remembered_for_a_day(self, stores):
        store, now = stores.store, time.time()
        upload = store.create_upload("bucket", "key", Properties(headers={"x-amz-meta-a": "b"}))
        parts = [put_part(store, upload, 1, b"x")]
        made = store.complete(upload, parts, "etag")
        store.delete("bucket", "key")
        store = stores.reopen()
        store.expire(now + 3600)
        found = store.completed("bucket", "key", upload.id, parts)
        assert (found.etag, found.version, found.properties.headers) == ("etag", made.version, {"x-amz-meta-a": "b"})
        assert store.completed("bucket", "other", upload.id, parts) is None
        assert store.completed("bucket", "key", upload.id, [(1, "other")]) is None
        store.expire(now + 25 * 3600)
        assert store.completed("bucket", "key", upload.id, parts) is None

    def test_object_of_many_parts_needs_no_open_file_for_each(self, store):
        source = put(store, "source", PART)
        upload = store.create_upload("bucket", "key", Properties())
        parts = [store.copy_part(upload, number, source, 0, len(PART), "etag") for number in range(1, 101)]
        assert [part.number for part in store.parts(upload, after=98)] == [99, 100]
        version = store.complete(upload, [(part.number, part.etag) for part in parts], "etag")
        before = opened_files(store)
        segments = store.segments(version, 1, version.size)
        assert len(segments) == 100
        assert opened_files(store) == before
        for segment in segments:
            segment.file.close()


class TestUpkeep:
    def test_files_without_objects_are_deleted_at_the_start(self, stores):
        put(stores.store, "key", LARGE)
        stores.store.close()
        (kept,) = data_files(stores)
        orphan, unfinished = kept.with_name(f"{kept.name[:2]}0-1"), stores.directory / "objects/incoming/unfinished"
        orphan.write_bytes(b"orphan")
        unfinished.write_bytes(b"unfinished")
        stores.reopen()
        assert not unfinished.exists()
        stores.store.close()
        assert data_files(stores) == [kept]

    def test_file_waits_for_the_name_of_its_folder(self, stores):
        """Another request may have made the folder just now. A power cut before its sync would take the object."""
        files, folders = stores.store._files, stores.directory / "objects" / "data"
        with ThreadPoolExecutor(1) as threads:
            with files._folders_lock:
                for number in range(256):
                    (folders / f"{number:02x}").mkdir()
                stored = threads.submit(put, stores.store, "key", LARGE)
                with pytest.raises(TimeoutError):
                    stored.result(0.2)
                assert data_files(stores) == []
            stored.result()
        assert len(data_files(stores)) == 1

    def test_missing_file_is_logged_and_its_object_is_an_error(self, stores, caplog):
        put(stores.store, "key", LARGE)
        (file,) = data_files(stores)
        content = file.read_bytes()
        file.unlink()
        with caplog.at_level(logging.ERROR):
            stores.reopen()
        assert str(file) in caplog.text
        # No repetition of the request brings the file back.
        with pytest.raises(S3Error, match=f"{file} of this object is missing") as caught:
            stores.store.segments(stores.store.get("bucket", "key"), 0, 1)
        assert caught.value.code == "MissingDataFile"
        file.write_bytes(content)

    def test_aborted_and_refused_data_leaves_nothing(self, stores):
        store = stores.store
        with store.writer() as writer:
            writer.write(LARGE)
        put(store, "key", b"there")
        assert code_of(put, store, "key", LARGE, condition=ABSENT) == "PreconditionFailed"
        stores.reopen()
        assert data_files(stores) == []


class TestFullDisk:
    def test_announced_data_without_room_is_refused_at_once(self, stores):
        with pytest.raises(OSError, match="No space left on device") as caught:
            stores.store.writer(1 << 60)
        assert str(stores.directory) in str(caught.value)

    def test_writers_share_the_room_that_they_announced(self, stores):
        room = Room(stores.directory)
        free = 0
        for size in (1 << n for n in reversed(range(60))):
            try:
                room.announce(size)
            except OSError:
                continue
            free += size
        with pytest.raises(OSError, match="No space left"):
            room.announce(1 << 33)
        room.withdraw(free)
        room.announce(free // 2)

    def test_full_database_is_an_error_of_the_system_and_loses_nothing(self, store):
        put(store, "key", b"x")
        with store._database.transaction() as connection:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
        store._database._connection.execute(f"PRAGMA max_page_count={pages}")
        for number in range(1, 4):
            with pytest.raises(OSError, match="No space left on device"):
                put(store, f"key{number}", bytes(30_000))
        store._database._connection.execute("PRAGMA max_page_count=1000000")
        put(store, "more", bytes(30_000))
        assert store.get("bucket", "key").content == b"x"

    def test_error_of_one_change_does_not_undo_others(self, store):
        def broken(connection):
            connection.execute("INSERT INTO configurations VALUES (1, 'broken', 'x')")
            raise ZeroDivisionError

        with ThreadPoolExecutor(8) as threads, store._database.transaction():
            good = [threads.submit(put, store, f"key{number}", b"x") for number in range(4)]
            bad = [threads.submit(store._commits.change, broken) for _ in range(4)]
            while len(store._commits._waiting) < 8:
                threading.Event().wait(0.01)
        assert [done.result().key for done in good] == keys(store)
        assert all(isinstance(done.exception(), ZeroDivisionError) for done in bad)
        assert store.configuration("bucket", "broken") is None

    def test_change_that_is_not_committed_is_an_error_for_all_that_share_it(self, store):
        def interrupted(connection):
            raise KeyboardInterrupt

        with ThreadPoolExecutor(4) as threads, store._database.transaction():
            puts = [threads.submit(put, store, f"key{number}", b"x") for number in range(3)]
            puts.append(threads.submit(store._commits.change, interrupted))
            while len(store._commits._waiting) < 4:
                threading.Event().wait(0.01)
        assert all(isinstance(done.exception(), KeyboardInterrupt) for done in puts)
        assert keys(store) == []

    def test_changes_of_a_closed_database_fail_and_leave_nothing_waiting(self, tmp_path):
        database = Database(tmp_path / "database", "CREATE TABLE numbers (number INTEGER);")
        commits = SharedCommits(database)
        database.close()
        for _ in range(2):
            with pytest.raises(sqlite3.ProgrammingError, match="closed"):
                commits.change(lambda connection: connection.execute("INSERT INTO numbers VALUES (1)"))
        assert not commits._waiting

    def test_database_refuses_changes_of_readers(self, store):
        with store._database.reading() as connection, pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM buckets")


def rules(*texts):
    inner = "".join(f"<Rule><Status>Enabled</Status>{text}</Rule>" for text in texts)
    return f'<LifecycleConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{inner}</LifecycleConfiguration>'.encode()


class TestLifecycle:
    def test_objects_expire_by_prefix_tag_and_size(self, store):
        store.set_configuration(
            "bucket",
            "lifecycle",
            rules(
                "<Filter><Prefix>old/</Prefix></Filter><Expiration><Days>1</Days></Expiration>",
                "<Filter><Tag><Key>keep</Key><Value>no</Value></Tag></Filter><Expiration><Days>1</Days></Expiration>",
                "<Filter><And><Prefix>a</Prefix><ObjectSizeGreaterThan>5</ObjectSizeGreaterThan></And></Filter>"
                "<Expiration><Days>3</Days></Expiration>",
            ),
        )
        kept = ["a/short", "other"]
        for key in (*kept, "old/x"):
            put(store, key, b"x")
        put(store, "tagged", b"x", tags={"keep": "no"})
        modified = put(store, "a/long", b"longer").modified
        assert store.expire(modified + 0.5 * DAY) == 0
        assert store.expire(modified + 2 * DAY + 1) == 2
        assert keys(store) == ["a/long", *kept]
        assert store.expire(modified + 4 * DAY + 1) == 1
        assert keys(store) == kept

    def test_rules_of_cloudknot_abort_uploads_and_delete_contexts(self, store):
        """S3 writes an old rule's prefix beside its filter."""
        store.set_configuration(
            "bucket",
            "lifecycle",
            rules(
                "<Prefix></Prefix><AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation>"
                "</AbortIncompleteMultipartUpload>"
            ),
        )
        upload = store.create_upload("bucket", "key", Properties())
        put_part(store, upload, 1, LARGE)
        assert store.expire(upload.started + 6 * DAY) == 0
        assert store.expire(upload.started + 9 * DAY) == 1
        assert store.uploads("bucket").uploads == ()

    def test_noncurrent_versions_and_lonely_markers_go(self, store):
        store.set_versioning("bucket", "Enabled")
        store.set_configuration(
            "bucket",
            "lifecycle",
            rules(
                "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>"
                "<NoncurrentVersionExpiration><NoncurrentDays>2</NoncurrentDays>"
                "<NewerNoncurrentVersions>1</NewerNoncurrentVersions></NoncurrentVersionExpiration>"
            ),
        )
        for number in range(4):
            put(store, "key", b"%d" % number)
        marker = store.delete("bucket", "gone").marker
        now = store.get("bucket", "key").modified
        # The store itself applies the rules, too.
        store.expire(now + DAY)
        assert marker
        assert store.versions("bucket", "gone").objects == ()
        assert store.expire(now + 4 * DAY) == 2
        assert [version.is_latest for version in store.versions("bucket").objects] == [True, False]

    def test_expiration_in_versioned_bucket_adds_a_marker_once(self, store):
        store.set_versioning("bucket", "Enabled")
        store.set_configuration(
            "bucket", "lifecycle", rules("<Expiration><Date>2100-01-01T00:00:00Z</Date></Expiration>")
        )
        put(store, "key", b"x")
        # A date in the future: the store itself applies the rules, too.
        now = datetime(2100, 1, 1, tzinfo=UTC).timestamp()
        assert (store.expire(now), store.expire(now)) == (1, 0)
        assert [version.is_delete_marker for version in store.versions("bucket").objects] == [True, False]

    def test_only_objects_of_the_rules_are_read(self):
        """The bucket of cloudknot has rules for a few objects, and may hold a million others."""
        document = rules(
            "<Prefix>b</Prefix><Expiration><Days>1</Days></Expiration>",
            "<Prefix>a/</Prefix><Expiration><Days>1</Days></Expiration>",
            "<Prefix>a/b</Prefix><NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays>"
            "</NoncurrentVersionExpiration>",
            "<Prefix></Prefix><AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation>"
            "</AbortIncompleteMultipartUpload>",
        )
        assert prefixes_of(rules_of(document)) == ["a/", "b"]

    @pytest.mark.parametrize("document", [b"<a", rules("<Expiration><Days>soon</Days></Expiration>")])
    def test_rules_that_mean_nothing_are_refused(self, store, document):
        assert code_of(store.set_configuration, "bucket", "lifecycle", document) == "MalformedXML"

    @pytest.mark.parametrize("days", ["0", "-5"])
    @pytest.mark.parametrize(
        "path",
        [
            "Expiration/Days",
            "NoncurrentVersionExpiration/NoncurrentDays",
            "AbortIncompleteMultipartUpload/DaysAfterInitiation",
        ],
    )
    def test_rules_without_a_day_are_refused(self, store, path, days):
        """They would delete at the next midnight, or at once."""
        action, name = path.split("/")
        document = rules(f"<{action}><{name}>{days}</{name}></{action}>")
        assert code_of(store.set_configuration, "bucket", "lifecycle", document) == "InvalidArgument"
        assert store.configuration("bucket", "lifecycle") is None
