"""The deletion of a cloud's directory ends before each of its steps: its rest goes at the next start."""

import shutil

import pytest

from cloudknot.local.directory.claim import claim
from cloudknot.local.directory.deletion import delete_files, finish_deletion
from cloudknot.local.directory.documents import Documents, cloud_database
from cloudknot.local.directory.files import DELETED, MARKER, server_lock, state_file
from cloudknot.local.s3.store import ObjectStore
from tests.unit.local.s3.deaths import dies_at
from tests.unit.local.s3.stores import put


@pytest.fixture
def filled(tmp_path):
    """Return the directory of a cloud with a record, objects, an environment and a file of the user's own."""
    directory = tmp_path / "cloud"
    claim(directory)
    database = cloud_database(directory)
    Documents(database, "stack")["one"] = {"name": "one"}
    database.close()
    store = ObjectStore(directory)
    store.create_bucket("bucket", "owner")
    put(store, "large", bytes(100_000))
    store.close()
    (directory / "environments" / "some" / "lib").mkdir(parents=True)
    for path in (server_lock(directory), state_file(directory), directory / "environments" / "some" / "lib" / "m.py"):
        path.touch()
    (directory / "thesis.tex").write_text("mine", encoding="utf-8")
    return directory


def test_death_at_each_step_leaves_a_cloud_that_starts_empty(filled, tmp_path):
    step, is_dead, begun = 0, True, 0
    while is_dead:
        step += 1
        directory = tmp_path / str(step)
        shutil.copytree(filled, directory)
        is_dead = dies_at(step, lambda directory=directory: directory, delete_files)
        assert (directory / "thesis.tex").read_text(encoding="utf-8") == "mine"
        if (directory / MARKER).exists():
            is_begun = (directory / MARKER).read_text(encoding="utf-8") == DELETED
            begun += is_begun
            # As a start does.
            claim(directory)
            finish_deletion(directory)
            database = cloud_database(directory)
            assert len(Documents(database, "stack")) == (not is_begun)
            database.close()
            store = ObjectStore(directory)
            assert [bucket.name for bucket in store.buckets()] == ([] if is_begun else ["bucket"])
            store.close()
            assert (directory / "environments").exists() == (not is_begun)
            delete_files(directory)
        assert [path.name for path in directory.iterdir()] == ["thesis.tex"]
    assert begun > 10
