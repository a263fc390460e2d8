"""Helpers for tests of the object store: open, fill, read and check it."""

import contextlib
import hashlib
import json
import sqlite3
import time
from collections import Counter

from cloudknot.local.s3.records import Condition, Properties
from cloudknot.local.s3.store import ObjectStore


class Stores:
    """The object store of a directory, open or closed."""

    def __init__(self, directory):
        self.directory = directory
        self.store = ObjectStore(directory)

    def reopen(self):
        """Close the store, and open it as the next process would. Its check of the files has ended."""
        self.store.close()
        self.store = ObjectStore(self.directory)
        assert self.store._is_checked.wait(60)
        return self.store

    def close(self):
        """Close the store. Check that exactly the recorded files are on the disk, with all their uses."""
        self.store.close()
        check_files(self.directory)


def check_files(directory):
    """Check that the data files of a closed store are those that its versions and parts use, as often as recorded."""
    place = directory / "objects"
    with contextlib.closing(sqlite3.connect(place / "objects.sqlite")) as database:
        recorded = dict(database.execute("SELECT name, uses FROM files"))
        texts = database.execute("SELECT extents FROM versions UNION ALL SELECT extents FROM parts").fetchall()
    uses = Counter(file for (text,) in texts if text for file, _, _ in json.loads(text))
    assert recorded == uses
    assert {path.name for path in (place / "data").glob("*/*")} == recorded.keys()
    assert not list((place / "incoming").iterdir())


def wait_until(condition):
    """Wait until a condition holds, for at most a minute."""
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("the condition does not become true")


def put(store, key, data, *, bucket="bucket", condition=None, **properties):
    """Store an object in two blocks, and return its version."""
    with store.writer(len(data)) as writer:
        writer.write(data[: len(data) // 2])
        writer.write(data[len(data) // 2 :])
        etag = hashlib.md5(data).hexdigest()
        return store.put(bucket, key, writer, Properties(**properties), etag, condition or Condition())


def put_part(store, upload, number, data):
    """Store a part, and return its number and entity tag."""
    with store.writer() as writer:
        writer.write(data)
        part = store.put_part(upload, number, writer, hashlib.md5(data).hexdigest())
    return part.number, part.etag


def read(store, version, start=0, end=None):
    """Return the data of a version that `ObjectStore.get` returned."""
    end = version.size if end is None else end
    if version.content is not None:
        return version.content[start:end]
    blocks = []
    for segment in store.segments(version, start, end):
        segment.file.seek(segment.offset)
        blocks.append(segment.file.read(segment.length))
        segment.file.close()
    return b"".join(blocks)


def keys(store, **place):
    """Return the keys of all pages of a listing, with the common prefixes."""
    found, page = [], store.list("bucket", **place)
    while True:
        found += sorted((*(version.key for version in page.objects), *page.prefixes))
        if page.following is None:
            return found
        page = store.list("bucket", **{**place, "after": page.following})
