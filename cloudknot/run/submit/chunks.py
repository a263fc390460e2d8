"""Chunk sizes: decide how many elements each child job gets, by the caller's choice or by measured times."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from cloudknot.errors import ResourceDoesNotExistException, StoredDataError, refuse
from cloudknot.run.submit.stored_documents import get_manifest
from cloudknot.run.submit.stored_runs import runs_of
from cloudknot.run.submit.submit_job import MAX_CHILDREN
from cloudknot.worker.wire.keys import Location, RunKeys
from cloudknot.worker.wire.pack import head_size, wall_seconds

if TYPE_CHECKING:
    from cloudknot.aws import Cloud
    from cloudknot.aws.s3.storage import StoredObject

AUTO = "auto"
# By default a knot has 256 vCPUs. With 500 children each vCPU gets some in turn, which evens out elements of different
# length. More children are dearer to collect, because each stores an object, and reading that takes a request. With
# 1,000 of them, listing a million small results took nearly five times as long as a bare read, and with 10,000 reading
# took most of the time. Elements that took no time do not lower this number: the earlier map may have been a trial.
MIN_CHILDREN = 500
"""Least number of child jobs if a map has too many elements for one child each, and the caller chose no chunk size."""
# A long child loses little: on Spot instances its last minute at most. But a job has ten attempts, and a child of days
# may use them up.
LONGEST = 240.0
SHORTEST = 60.0
"""Seconds that a child should take: four minutes, or less if vCPUs would be idle otherwise, but at least one minute.
AWS advises three to five minutes (Batch user guide, "Best practices"). A cloud whose jobs start at once has a smaller
`Cloud.shortest_child`."""
TIMEOUT_SHARE = 0.5
"""Share of the timeout of an attempt that a child should take at most: some elements take longer than others."""
RUNS_READ = 5
PACKS_READ = 5
ELEMENTS_READ = 1000
"""Limits of one measurement: the number of latest runs, of packs of each run, and of elements of each pack."""


def is_automatic(count: int, choice: int | str | None, default: int) -> bool:
    """Return whether the chunk size depends on measured times.

    It does for ``"auto"``, and if the default size would make too many children.
    """
    return choice == AUTO or (choice is None and count > default * MAX_CHILDREN)


def chunksize(
    count: int,
    choice: int | str | None,
    default: int,
    seconds: float | None,
    slots: int,
    timeout: int | None = None,
    shortest: float = SHORTEST,
) -> int:
    """Return the number of elements for each child.

    Parameters
    ----------
    count : int
        Number of elements.
    choice : int, "auto" or None
        The caller's choice. None is ``default``, or similar to ``"auto"`` if an array cannot have so many children.
    default : int
    seconds : float or None
        Measured time of an element, if `is_automatic`; None if there is no earlier map.
    slots : int
        Number of children that can run at the same time.
    timeout : int, optional
        Seconds that an attempt of a child may take.
    shortest : float
        Seconds that a child should take at least.

    Raises
    ------
    CloudknotInputError
        The choice would make more children than an array can have.
    """
    smallest = -(-count // MAX_CHILDREN)
    if is_automatic(count, choice, default):
        size = _automatic(count, seconds, slots, timeout, shortest)
        # A timeout without a measurement may be meant for one or two calls, so the children are as small as possible.
        largest_default = 1 if timeout and seconds is None else count // MIN_CHILDREN
        largest = count if choice == AUTO else largest_default
        return max(smallest, min(largest, size))
    size = default if choice is None else int(choice)
    if size < smallest:
        refuse(
            problem=f"chunksize={size} would make {-(-count // size):,} child jobs for {count:,} elements.",
            cause=f"A Batch array job has {MAX_CHILDREN:,} child jobs at most.",
            fix=f"Pass chunksize={smallest} or more, or leave it out.",
        )
    return size


def _automatic(count: int, seconds: float | None, slots: int, timeout: int | None, shortest: float) -> int:
    """Return the size that makes children of ``shortest`` seconds to four minutes, and uses all slots."""
    even = -(-count // max(1, slots))
    if seconds is None:
        return even
    seconds = max(seconds, shortest / count)
    longest = min(LONGEST, timeout * TIMEOUT_SHARE) if timeout else LONGEST
    return max(1, min(max(even, round(shortest / seconds)), round(longest / seconds)))


def measured_seconds(cloud: Cloud, run: RunKeys, image: str) -> float | None:
    """Return the mean time of an element in the latest map before ``run`` with the same image.

    If no map used this image, return the mean time in the latest map with another one. None without any map.
    """
    # A few small reads of packs are enough. A separate list of times could become outdated.
    other_image = None
    earlier = (keys for keys in reversed(runs_of(cloud, run.knot)) if keys != run)
    for keys in islice(earlier, RUNS_READ):
        sample = _sample(cloud, keys)
        if sample and _image(cloud, keys) == image:
            return math.fsum(sample) / len(sample)
        other_image = other_image or sample
    return math.fsum(other_image) / len(other_image) if other_image else None


def mean_seconds(cloud: Cloud, keys: RunKeys) -> float | None:
    """Return the mean wall seconds of some elements of a run; None without a value."""
    sample = _sample(cloud, keys)
    return math.fsum(sample) / len(sample) if sample else None


def _image(cloud: Cloud, keys: RunKeys) -> str:
    try:
        return get_manifest(cloud.storage, keys.manifest).image
    except (ResourceDoesNotExistException, StoredDataError):
        return ""


def _sample(cloud: Cloud, keys: RunKeys) -> list[float]:
    """Return the wall seconds of some elements of a run."""
    # One listing page and the heads of a few packs. The heads hold the times, so no result is read.
    page = next(cloud.storage.pages(keys.outputs), [])
    packs = [keys.parse_output(stored.key) for stored in _spread(page, PACKS_READ)]
    return [seconds for location in packs if location for seconds in _wall_seconds(cloud, keys, location)]


def _wall_seconds(cloud: Cloud, keys: RunKeys, location: Location) -> Iterable[float]:
    try:
        head = cloud.storage.get(keys.output(*location), 0, head_size(min(location.number, ELEMENTS_READ)))
    except ResourceDoesNotExistException:
        # Somebody has deleted the run since the listing.
        return ()
    return wall_seconds(head)


def _spread(items: Sequence[StoredObject], number: int) -> Iterator[StoredObject]:
    """Yield ``number`` of the items, evenly spread."""
    number = min(number, len(items))
    return (items[len(items) * n // number] for n in range(number))
