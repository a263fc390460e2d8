"""Shared objects: objects that several runs of a knot read, counted by marks because S3 has no locks.

Each run that uses an object has a ``used-by`` mark beside it. A run stores its mark before it looks for the object. A
release stores a ``given-up-by`` mark before it looks for other users. S3 shows a stored object at once (S3 user guide,
"Amazon S3 data consistency model"). So if a claim meets a release, at least one of them sees the other. A release that
sees a user deletes nothing. A claim that sees a release stores a private copy for its run.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from cloudknot.run.submit.ids import ABANDONED, is_run_id, run_time
from cloudknot.worker.wire.keys import RUNS, SHARED, SHARED_OBJECT, shared_key

if TYPE_CHECKING:
    from cloudknot.aws.s3.storage import Storage

USED_BY, GIVEN_UP_BY = "used-by/", "given-up-by/"


class Claim(NamedTuple):
    """The key of the object for a run, and whether the run must still store the object."""

    key: str
    missing: bool


def claim(storage: Storage, knot: str, digest: str, run_id: str) -> Claim:
    """Claim the object with this digest for a run. While it is being released, claim a private copy."""
    # A copy for each run would need no marks, but would upload hundreds of megabytes again with every map.
    return _claim(storage, shared_key(knot, digest), run_id) or _claim_private(storage, knot, digest, run_id)


def _claim(storage: Storage, key: str, run_id: str) -> Claim | None:
    storage.put(_mark(key, USED_BY, run_id), b"")
    stored = set(storage.keys(_folder(key)))
    if _runs_with_mark(stored, key, GIVEN_UP_BY):
        # The other release may have seen this mark and kept the object. Without this release it would stay forever.
        release(storage, key, run_id)
        return None
    return Claim(key, key not in stored)


def _claim_private(storage: Storage, knot: str, digest: str, run_id: str) -> Claim:
    key = shared_key(knot, f"{digest}-{run_id}")
    storage.put(_mark(key, USED_BY, run_id), b"")
    return Claim(key, True)


def release(storage: Storage, key: str, run_id: str) -> None:
    """Release an object for a run, and delete it if no other run uses it. Repeated and concurrent calls are safe."""
    # A mark for each call: the first of two concurrent calls must not delete the mark of the other.
    given_up = f"{_mark(key, GIVEN_UP_BY, run_id)}/{secrets.token_hex(4)}"
    storage.put(given_up, b"")
    stored = set(storage.keys(_folder(key)))
    if not _runs_with_mark(stored, key, USED_BY) - _runs_with_mark(stored, key, GIVEN_UP_BY):
        storage.delete(key)
    storage.delete(_mark(key, USED_BY, run_id))
    # Last, because a claim must see this mark for as long as the object may be deleted.
    storage.delete(given_up)


def discard_unused(storage: Storage, knot: str, now: datetime | None = None) -> None:
    """Delete old marks, and objects that only deleted runs used. Both are from killed sessions, and a week old."""
    folder = f"{RUNS}/{knot}/"
    long_ago = (now or datetime.now(UTC)) - ABANDONED
    runs: set[str] | None = None
    for stored in (stored for page in storage.pages(f"{folder}{SHARED}/") for stored in page):
        object_key, kind, run_id = _parse_mark(stored.key)
        if kind == GIVEN_UP_BY and stored.modified < long_ago:
            storage.delete(stored.key)
        elif kind == USED_BY and is_run_id(run_id) and run_time(run_id) < long_ago:
            # Listed once, and only if there is an old mark at all.
            runs = set(storage.folders(folder)) if runs is None else runs
            if run_id not in runs:
                release(storage, object_key, run_id)


def _folder(key: str) -> str:
    return key.rpartition("/")[0] + "/"


def _mark(key: str, kind: str, run_id: str) -> str:
    return f"{_folder(key)}{kind}{run_id}"


def _parse_mark(key: str) -> tuple[str, str, str]:
    """Return the key of the object, the kind of mark and the run id for a mark; for an object only its key."""
    for kind in (USED_BY, GIVEN_UP_BY):
        folder, separator, rest = key.partition(f"/{kind}")
        if separator:
            return f"{folder}/{SHARED_OBJECT}", kind, rest.partition("/")[0]
    return key, "", ""


def _runs_with_mark(stored: Iterable[str], key: str, kind: str) -> set[str]:
    """Return the ids of the runs with a mark of this kind beside an object."""
    marks = (_parse_mark(stored_key) for stored_key in stored)
    return {run_id for object_key, mark_kind, run_id in marks if (object_key, mark_kind) == (key, kind)}
