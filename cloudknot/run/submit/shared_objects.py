"""Objects that several runs of a knot read: who uses one, and who may delete it, told without a lock.

Beside an object lies a mark of each run that uses it. A run leaves its mark before it looks whether the object is
there; who has a run give it up leaves a mark of that before it looks who else uses it. What was stored is seen at once
by all (S3 user guide, "Amazon S3 data consistency model"), so of two that meet one at least sees the other: who sees a
user deletes nothing, and who sees the object being given up stores another one for its run.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from cloudknot.run.submit.ids import ABANDONED, run_time
from cloudknot.worker.wire.keys import RUNS, SHARED, SHARED_OBJECT, shared_key

if TYPE_CHECKING:
    from cloudknot.aws.s3.storage import Storage

USED_BY, GIVEN_UP_BY = "used-by/", "given-up-by/"


class Claim(NamedTuple):
    """The key of an object that a run may rely on, and whether it still has to be stored."""

    key: str
    missing: bool


def claim(storage: Storage, knot: str, digest: str, run_id: str) -> Claim:
    """Have a run use the object of this digest, or one of its own where that is being given up at this moment."""
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
    """Have a run use an object no more; the last one takes it along. Can be repeated, also side by side."""
    # A mark for each call: the first of two to end must not take away what the other one still needs.
    given_up = f"{_mark(key, GIVEN_UP_BY, run_id)}/{secrets.token_hex(4)}"
    storage.put(given_up, b"")
    found = set(storage.keys(_folder(key)))
    if not _runs(found, key, USED_BY) - _runs(found, key, GIVEN_UP_BY):
        storage.delete(key)
    storage.delete(_mark(key, USED_BY, run_id))
    # The last of all: as long as the object may go, whoever looks must see that.
    storage.delete(given_up)


def discard_unused(storage: Storage, knot: str, now: datetime | None = None) -> None:
    """Delete what killed sessions have left: objects that only runs use which are no more, and marks."""
    folder = f"{RUNS}/{knot}/"
    long_ago = (now or datetime.now(UTC)) - ABANDONED
    runs: set[str] | None = None
    for stored in (stored for page in storage.pages(f"{folder}{SHARED}/") for stored in page):
        where, kind, run_id = _parts(stored.key)
        if kind == GIVEN_UP_BY and stored.modified < long_ago:
            storage.delete(stored.key)
        elif kind == USED_BY and run_time(run_id) < long_ago:
            runs = set(storage.folders(folder)) if runs is None else runs
            if run_id not in runs:
                release(storage, where, run_id)


def _folder(key: str) -> str:
    return key.rpartition("/")[0] + "/"


def _mark(key: str, kind: str, run_id: str) -> str:
    return f"{_folder(key)}{kind}{run_id}"


def _parts(key: str) -> tuple[str, str, str]:
    """Of a mark, the key of the object, the kind of mark and the run; of an object, its key."""
    for kind in (USED_BY, GIVEN_UP_BY):
        folder, found, rest = key.partition(f"/{kind}")
        if found:
            return f"{folder}/{SHARED_OBJECT}", kind, rest.partition("/")[0]
    return key, "", ""


def _runs(found: Iterable[str], key: str, kind: str) -> set[str]:
    """The runs that have a mark of a kind beside an object."""
    marks = (_parts(each) for each in found)
    return {run_id for where, its_kind, run_id in marks if (where, its_kind) == (key, kind)}
