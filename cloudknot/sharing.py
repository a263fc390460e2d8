"""Objects that several runs of a knot read: who uses one, and who may delete it, told without a lock.

Beside an object lies a mark of each run that uses it. A run leaves its mark before it looks whether the object is
there; who gives it up leaves a mark of that before it looks who else uses it. What was stored is seen at once by all
(S3 user guide, "Amazon S3 data consistency model"), so of two that meet one at least sees the other: who sees a user
deletes nothing, and who sees the object being given up stores another one for itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from cloudknot.run_ids import ABANDONED, run_time
from cloudknot.worker.protocol import RUNS, SHARED, shared_key

if TYPE_CHECKING:
    from cloudknot.aws.s3 import Storage

USED_BY, GIVEN_UP_BY = "used-by/", "given-up-by/"


class Claim(NamedTuple):
    """The key of an object that a run may rely on, and whether it still has to be stored."""

    key: str
    missing: bool


def claim(storage: Storage, knot: str, digest: str, run_id: str) -> Claim:
    """Have a run use the object of this digest, or one of its own where that is being deleted at this moment."""
    return _claim(storage, shared_key(knot, digest), run_id) or _own(storage, knot, digest, run_id)


def _claim(storage: Storage, key: str, run_id: str) -> Claim | None:
    storage.put(_mark(key, USED_BY, run_id), b"")
    found = set(storage.keys(_folder(key)))
    if _runs(found, key, GIVEN_UP_BY):
        # Who gives it up may have seen this run and left the object, which then nobody else would delete.
        release(storage, key, run_id)
        return None
    return Claim(key, key not in found)


def _own(storage: Storage, knot: str, digest: str, run_id: str) -> Claim:
    key = shared_key(knot, f"{digest}-{run_id}")
    storage.put(_mark(key, USED_BY, run_id), b"")
    return Claim(key, True)


def release(storage: Storage, key: str, run_id: str) -> None:
    """Have a run use an object no more; the last one takes it along. Can be repeated."""
    used, given_up = _mark(key, USED_BY, run_id), _mark(key, GIVEN_UP_BY, run_id)
    storage.put(given_up, b"")
    found = set(storage.keys(_folder(key)))
    if not _runs(found, key, USED_BY) - _runs(found, key, GIVEN_UP_BY):
        storage.delete(key)
    storage.delete(used)
    # The last of all: as long as the object may go, whoever looks must see that.
    storage.delete(given_up)


def release_abandoned(storage: Storage, knot: str, now: datetime | None = None) -> None:
    """Release what only runs use that are no more, such as one whose session was killed while it stored the object."""
    folder = f"{RUNS}/{knot}/"
    long_ago = (now or datetime.now(UTC)) - ABANDONED
    marks = [key.partition(USED_BY) for key in storage.keys(f"{folder}{SHARED}/") if USED_BY in key]
    old = [(where, run_id) for where, _, run_id in marks if run_time(run_id) < long_ago]
    if not old:
        return
    there = set(storage.folders(folder))
    for where, run_id in old:
        if run_id not in there:
            release(storage, shared_key(knot, where.rstrip("/").rpartition("/")[2]), run_id)


def _folder(key: str) -> str:
    return key.rpartition("/")[0] + "/"


def _mark(key: str, kind: str, run_id: str) -> str:
    return f"{_folder(key)}{kind}{run_id}"


def _runs(found: Iterable[str], key: str, kind: str) -> set[str]:
    """The runs that have left a mark of a kind."""
    prefix = _mark(key, kind, "")
    return {each[len(prefix) :] for each in found if each.startswith(prefix)}
