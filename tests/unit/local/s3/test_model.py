"""The object store behaves like a model of S3 in dictionaries, under operations that hypothesis draws."""

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cloudknot.local.s3.errors import S3Error
from cloudknot.local.s3.records import Condition, Properties
from tests.unit.local.s3.stores import Stores, put, put_part, read

# The last characters before and after the surrogates, the last one of all, and a null character.
CHARACTERS = "ab/\0\x7fé\ud7ff\ue000\U0010ffff"
SIZES = (0, 1, 32 * 1024, 32 * 1024 + 1, 100_000)
MIB = 1 << 20
LARGE = bytes(range(256)) * 4096 * 6
"""6 MiB: enough for a part that is not the last one."""

bucket_names = st.sampled_from(["plain", "versioned"])
names = st.text(CHARACTERS, min_size=1, max_size=4)
versions = st.integers(0, 10)
"""Numbers that choose among the versions of a key."""


@dataclass
class Entry:
    """A version in the model. ``data`` is None for a delete marker."""

    version: str
    data: bytes | None = field(repr=False)
    tags: dict = field(default_factory=dict)


class Bucket:
    """A bucket of the model: for each key, its versions from the oldest."""

    def __init__(self):
        self.versioning = ""
        self.keys = {}

    def add(self, key, entry):
        entries = self.keys.setdefault(key, [])
        if self.versioning != "Enabled":
            entries[:] = [old for old in entries if old.version != "null"]
        entries.append(entry)

    def drop(self, key, version):
        self.keys[key] = [entry for entry in self.keys.get(key, ()) if entry.version != version]

    def latest(self, key):
        entries = self.keys.get(key)
        return entries[-1] if entries and entries[-1].data is not None else None

    def objects(self):
        return {key: self.latest(key) for key in sorted(self.keys) if self.latest(key)}

    def listed(self):
        return [(key, entry) for key in sorted(self.keys) for entry in reversed(self.keys[key])]


def grouped(found, prefix, delimiter):
    """Return the keys of a listing, or common prefixes in their place. Equal neighbours are one."""
    shown = []
    for key in found:
        if not key.startswith(prefix):
            continue
        end = key.find(delimiter, len(prefix)) if delimiter else -1
        name = key if end < 0 else key[: end + len(delimiter)]
        if end < 0 or shown[-1:] != [name]:
            shown.append(name)
    return shown


class StoreMachine(RuleBasedStateMachine):
    """Operations on the store and on the model."""

    @initialize()
    def create(self):
        self.directory = Path(tempfile.mkdtemp())
        self.stores = Stores(self.directory)
        self.model = {"plain": Bucket(), "versioned": Bucket()}
        for name in (*self.model, "sources"):
            self.store.create_bucket(name, "owner")
        put(self.store, "source", LARGE, bucket="sources")

    @property
    def store(self):
        return self.stores.store

    def teardown(self):
        if hasattr(self, "stores"):
            self.stores.close()
            shutil.rmtree(self.directory)

    @rule(versioning=st.sampled_from(["Enabled", "Suspended"]))
    def change_versioning(self, versioning):
        self.store.set_versioning("versioned", versioning)
        self.model["versioned"].versioning = versioning

    @rule(bucket=bucket_names, key=names, size=st.sampled_from(SIZES), byte=st.integers(0, 255))
    def put(self, bucket, key, size, byte):
        data = bytes([byte]) * size
        version = put(self.store, key, data, bucket=bucket, headers={"content-type": "text/plain"})
        assert (version.version != "null") == (self.model[bucket].versioning == "Enabled")
        self.model[bucket].add(key, Entry(version.version, data))

    @rule(bucket=bucket_names, key=names, none_match=st.sampled_from(["*", ""]), match=st.sampled_from(["*", '"x"']))
    def put_on_condition(self, bucket, key, none_match, match):
        condition = Condition(if_none_match=none_match) if none_match else Condition(if_match=match)
        latest = self.model[bucket].latest(key)
        if (latest is None) if none_match else (latest is not None and match == "*"):
            version = put(self.store, key, b"new", bucket=bucket, condition=condition)
            self.model[bucket].add(key, Entry(version.version, b"new"))
        else:
            with pytest.raises(S3Error) as caught:
                put(self.store, key, b"new", bucket=bucket, condition=condition)
            is_missing = not none_match and latest is None
            assert caught.value.code == ("NoSuchKey" if is_missing else "PreconditionFailed")

    @rule(bucket=bucket_names, key=names)
    def delete(self, bucket, key):
        deleted = self.store.delete(bucket, key)
        if self.model[bucket].versioning:
            self.model[bucket].add(key, Entry(deleted.marker, None))
        else:
            self.model[bucket].drop(key, "null")

    @rule(bucket=bucket_names, number=versions, data=st.data())
    def delete_versions(self, bucket, number, data):
        listed = self.model[bucket].listed()
        chosen = data.draw(st.lists(st.sampled_from(listed), max_size=3)) if listed else []
        keys = [(key, entry.version) for key, entry in chosen] + [("a", "missing")]
        deleted = self.store.delete_many(bucket, keys)
        assert [result.version for result in deleted] == [version for _, version in keys]
        for key, version in keys:
            self.model[bucket].drop(key, version)

    @rule(source=bucket_names, number=versions, bucket=bucket_names, key=names)
    def copy(self, source, number, bucket, key):
        held = [(name, entry) for name, entry in self.model[source].listed() if entry.data is not None]
        if held:
            name, entry = held[number % len(held)]
            found = self.store.get(source, name, entry.version)
            copied = self.store.copy(found, bucket, key, Properties(tags={"copy": "yes"}))
            self.model[bucket].add(key, Entry(copied.version, entry.data, {"copy": "yes"}))

    @rule(bucket=bucket_names, number=versions, value=names)
    def tag(self, bucket, number, value):
        held = [(name, entry) for name, entry in self.model[bucket].listed() if entry.data is not None]
        if held:
            name, entry = held[number % len(held)]
            self.store.set_tags(self.store.get(bucket, name, entry.version), {"tag": value})
            entry.tags = {"tag": value}

    @rule(
        bucket=bucket_names, key=names, size=st.sampled_from(SIZES), ranges=st.lists(st.integers(0, MIB), max_size=3)
    )
    def upload_parts(self, bucket, key, size, ranges):
        """Upload ranges of another object as parts, and new data as the last one. Abort another upload."""
        source = self.store.get("sources", "source")
        upload = self.store.create_upload(bucket, key, Properties())
        parts, data = [], b""
        for number, start in enumerate(ranges, start=1):
            part = self.store.copy_part(upload, number, source, start, start + 5 * MIB, f"etag{number}")
            parts.append((number, part.etag))
            data += LARGE[start : start + 5 * MIB]
        put_part(self.store, upload, 9999, b"replaced")
        parts.append(put_part(self.store, upload, 9999, b"z" * size))
        put_part(self.store, upload, 10_000, b"not chosen")
        version = self.store.complete(upload, parts, "etag")
        assert len(version.parts) == len(parts)
        self.model[bucket].add(key, Entry(version.version, data + b"z" * size))
        aborted = self.store.create_upload(bucket, key, Properties())
        put_part(self.store, aborted, 1, b"a part")
        self.store.abort(aborted)

    @rule()
    def restart(self):
        self.stores.reopen()

    @rule(
        bucket=bucket_names,
        prefix=st.text(CHARACTERS, max_size=2),
        delimiter=st.sampled_from(["", "/", "a", "a/"]),
        limit=st.integers(1, 5),
    )
    def list_pages(self, bucket, prefix, delimiter, limit):
        expected = grouped(self.model[bucket].objects(), prefix, delimiter)
        found, after = [], ""
        while after is not None:
            page = self.store.list(bucket, prefix, after, delimiter, limit)
            entries = sorted([*(version.key for version in page.objects), *page.prefixes])
            assert len(entries) <= limit
            found += entries
            after = page.following
        assert found == expected

    @rule(bucket=bucket_names, prefix=st.text(CHARACTERS, max_size=2), limit=st.integers(1, 5))
    def list_version_pages(self, bucket, prefix, limit):
        expected = [(key, entry.version) for key, entry in self.model[bucket].listed() if key.startswith(prefix)]
        found, markers = [], ("", "")
        while markers[0] is not None:
            page = self.store.versions(bucket, prefix, *markers, limit=limit)
            found += [(version.key, version.version) for version in page.objects]
            markers = page.following, page.following_version
        assert found == expected

    @rule(bucket=bucket_names, key=names, start=st.integers(0, 200_000), size=st.integers(0, 100_000))
    def read_range(self, bucket, key, start, size):
        latest = self.model[bucket].latest(key)
        if latest is None:
            with pytest.raises(S3Error) as caught:
                self.store.get(bucket, key)
            assert caught.value.code == "NoSuchKey"
        else:
            end = min(start + size, len(latest.data))
            assert read(self.store, self.store.get(bucket, key), start, end) == latest.data[start:end]

    @precondition(lambda self: hasattr(self, "stores"))
    @invariant()
    def store_equals_model(self):
        for name, bucket in self.model.items():
            shown = self.store.versions(name, limit=10_000).objects
            expected = bucket.listed()
            assert [(v.key, v.version, v.is_delete_marker) for v in shown] == [
                (key, entry.version, entry.data is None) for key, entry in expected
            ]
            latest = [(key, bucket.keys[key][-1].version) for key in sorted(bucket.keys) if bucket.keys[key]]
            assert [(v.key, v.version) for v in shown if v.is_latest] == latest
            for version, (_, entry) in zip(shown, expected, strict=True):
                if entry.data is not None:
                    found = self.store.get(name, version.key, version.version)
                    assert found.properties.tags == entry.tags
                    assert found.size == len(entry.data)
                    # The ends of large objects: reading them whole after each step takes too long.
                    for start in (0, max(0, found.size - 100_000)):
                        end = min(start + 100_000, found.size)
                        assert read(self.store, found, start, end) == entry.data[start:end]


TestStore = StoreMachine.TestCase
# Each step syncs the disk. A third of the examples of the profile.
TestStore.settings = settings(max_examples=settings().max_examples // 3, stateful_step_count=20)
