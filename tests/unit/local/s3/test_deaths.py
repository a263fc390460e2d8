"""The server dies before each step of an operation: the store then has all of it or nothing, and no file too many."""

import hashlib
import shutil
import time

import pytest

from cloudknot.local.s3.records import Properties
from cloudknot.local.s3.store import ObjectStore
from tests.unit.local.s3.deaths import dies_at
from tests.unit.local.s3.stores import Stores, put, put_part, read

LARGE, OTHER, SMALL = b"l" * 100_000, b"o" * 90_000, b"s" * 100
PART = b"p" * (5 << 20)
EXPIRY = b"""<LifecycleConfiguration><Rule><ID>all</ID><Filter><Prefix></Prefix></Filter><Status>Enabled</Status>
<Expiration><Days>1</Days></Expiration><NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays>
</NoncurrentVersionExpiration><AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation>
</AbortIncompleteMultipartUpload></Rule></LifecycleConfiguration>"""


def begin(store):
    """Store objects, versions and an upload."""
    for bucket in ("bucket", "versioned", "unused"):
        store.create_bucket(bucket, "owner")
    store.set_versioning("versioned", "Enabled")
    for bucket in ("bucket", "versioned"):
        put(store, "large", LARGE, bucket=bucket)
        put(store, "small", SMALL, bucket=bucket)
    put(store, "large", OTHER, bucket="versioned")
    for bucket in ("bucket", "unused"):
        upload = store.create_upload(bucket, "made", Properties())
        put_part(store, upload, 1, PART)
        put_part(store, upload, 2, SMALL)


def upload_of(store, bucket="bucket"):
    return store.uploads(bucket).uploads[0]


def complete(store):
    upload = upload_of(store)
    parts = [(part.number, part.etag) for part in store.parts(upload)]
    store.complete(upload, parts, hashlib.md5(b"made").hexdigest() + "-2")


def first_version(store):
    return store.versions("versioned", "large").objects[-1].version


OPERATIONS = {
    "put a large object": lambda store: put(store, "new", LARGE),
    "replace a large object": lambda store: put(store, "large", OTHER),
    "replace a large object by a small one": lambda store: put(store, "large", SMALL),
    "put a version": lambda store: put(store, "large", LARGE, bucket="versioned"),
    "copy": lambda store: store.copy(store.get("bucket", "large"), "bucket", "small", Properties()),
    "delete": lambda store: store.delete("bucket", "large"),
    "delete many": lambda store: store.delete_many("bucket", [("large", None), ("small", None)]),
    "put a delete marker": lambda store: store.delete("versioned", "large"),
    "delete a version": lambda store: store.delete("versioned", "large", first_version(store)),
    "put a part": lambda store: put_part(store, upload_of(store), 1, b"q" * (5 << 20)),
    "complete an upload": complete,
    "abort an upload": lambda store: store.abort(upload_of(store)),
    "delete a bucket with an upload": lambda store: store.delete_bucket("unused"),
}


def seen(store):
    """Return everything that a client can see, with the data."""
    found = []
    for bucket in store.buckets():
        for item in store.versions(bucket.name).objects:
            data = b"" if item.is_delete_marker else read(store, store.get(bucket.name, item.key, item.version))
            found.append((bucket.name, item.key, item.is_latest, hashlib.sha256(data).hexdigest()))
        for upload in store.uploads(bucket.name).uploads:
            found.append((bucket.name, upload.key, [part.etag for part in store.parts(upload)]))
        found.append(bucket.name)
    return found


def opened(directory):
    """Open a store whose background work has ended, so that all further steps are those of an operation."""
    store = ObjectStore(directory)
    assert store._is_checked.wait(60)
    return store


def deaths(tmp_path, act, configure=lambda store: None):
    """Yield the stores of processes that died before each step of ``act``, then that of one that did not."""
    store = ObjectStore(tmp_path / "first")
    begin(store)
    configure(store)
    store.close()
    step, is_dead = 0, True
    while is_dead:
        step += 1
        directory = tmp_path / str(step)
        shutil.copytree(tmp_path / "first", directory)
        is_dead = dies_at(step, lambda directory=directory: opened(directory), act)
        stores = Stores(directory)
        assert stores.store._is_checked.wait(60)
        yield stores.store
        # Also the files: none too many, none missing.
        stores.close()
        shutil.rmtree(directory)
    assert step > 5


@pytest.mark.parametrize("name", OPERATIONS)
def test_death_at_each_step_leaves_all_or_nothing(tmp_path, name):
    states = []
    for store in deaths(tmp_path, OPERATIONS[name], lambda store: states.append(seen(store))):
        if (found := seen(store)) not in states:
            states.append(found)
        if found == states[0]:
            # The client repeats it.
            OPERATIONS[name](store)
            assert seen(store) != states[0]
    # Before and after.
    assert len(states) == 2


def test_death_at_each_step_of_expiry_leaves_whole_objects(tmp_path):
    later = time.time() + 3 * 86400

    def configure(store):
        for bucket in ("bucket", "versioned", "unused"):
            store.set_configuration(bucket, "lifecycle", EXPIRY)

    counts = set()
    for store in deaths(tmp_path, lambda store: store.expire(later), configure):
        counts.add(len(seen(store)))
        store.expire(later)
        assert seen(store)[:1] == ["bucket"]
    assert len(counts) > 2
