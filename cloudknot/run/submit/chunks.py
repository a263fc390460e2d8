"""How many elements a child gets: as asked for, or so that it takes minutes, by what earlier maps of the knot took.

Where nobody asks, an element has a child of its own, as long as one array can have so many. Above that, the children
are minutes long, too, but 500 at least: see "Chunks of minutes" in docs/design.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from cloudknot.errors import CloudknotInputError, ResourceDoesNotExistException
from cloudknot.run.submit.stored_runs import runs_of
from cloudknot.run.submit.submit_job import MAX_CHILDREN
from cloudknot.worker.wire.keys import Location, RunKeys
from cloudknot.worker.wire.manifest import Manifest
from cloudknot.worker.wire.pack import head_size, walls

if TYPE_CHECKING:
    from cloudknot.aws import Cloud
    from cloudknot.aws.s3.storage import StoredObject

AUTO = "auto"
FEWEST_CHILDREN = 500
"""Of a map of more elements than an array can have children, when nobody asked for fewer. Each has an object with
results at least, which takes a request to read."""
LONGEST = 240.0
SHORTEST = 60.0
"""Seconds that a child is to take: four minutes, or less where vCPUs would be idle otherwise, but a minute at least.
AWS advises three to five minutes (Batch user guide, "Best practices")."""
TIMEOUT_SHARE = 0.5
"""Of the seconds that an attempt may take: what a child is to take at most. Not all elements take equally long."""
RUNS_READ = 5
PACKS_READ = 5
ELEMENTS_READ = 1000
"""Of so many runs, the latest, of so many packs of each, and of so many elements of each pack times are read."""


def is_automatic(count: int, asked: int | str | None, usual: int) -> bool:
    """Whether the chunk size depends on what elements take: it was asked for so, or the usual one is too small."""
    return asked == AUTO or (asked is None and count > usual * MAX_CHILDREN)


def chunksize(
    count: int,
    asked: int | str | None,
    usual: int,
    seconds: float | None,
    slots: int,
    timeout: int | None = None,
) -> int:
    """The number of elements of a child.

    Parameters
    ----------
    count : int
        Of elements.
    asked : int, "auto" or None
        The choice of the user; None is ``usual``, or with more elements than an array can have so, about ``"auto"``.
    usual : int
    seconds : float or None
        What an element takes, where `is_automatic`; None if it is not known.
    slots : int
        Children that can run at the same time.
    timeout : int, optional
        Seconds that an attempt of a child may take.

    Raises
    ------
    CloudknotInputError
        It would take more children than an array may have.
    """
    smallest = -(-count // MAX_CHILDREN)
    if is_automatic(count, asked, usual):
        size = _automatic(count, seconds, slots, timeout)
        # Where elements may not be done within the timeout, children are as small as they can be.
        unasked = 1 if timeout and seconds is None else count // FEWEST_CHILDREN
        most = count if asked == AUTO else unasked
        return max(smallest, min(most, size))
    size = usual if asked is None else int(asked)
    if size < smallest:
        raise CloudknotInputError(
            f"chunksize={size} would take {-(-count // size):,} child jobs for {count:,} elements, and an "
            f"array has at most {MAX_CHILDREN:,}. Give chunksize={smallest} or more, or leave it out."
        )
    return size


def _automatic(count: int, seconds: float | None, slots: int, timeout: int | None) -> int:
    even = -(-count // max(1, slots))
    if seconds is None:
        return even
    seconds = max(seconds, SHORTEST / count)
    longest = min(LONGEST, timeout * TIMEOUT_SHARE) if timeout else LONGEST
    return max(1, min(max(even, round(SHORTEST / seconds)), round(longest / seconds)))


def measured_seconds(cloud: Cloud, run: RunKeys, image: str) -> float | None:
    """What an element took in the latest map before ``run`` of the same image, else of another; None without any."""
    other = None
    earlier = (keys for keys in reversed(runs_of(cloud, run.knot)) if keys != run)
    for keys in islice(earlier, RUNS_READ):
        found = _sample(cloud, keys)
        if found and _image(cloud, keys) == image:
            return math.fsum(found) / len(found)
        other = other or found
    return math.fsum(other) / len(other) if other else None


def _image(cloud: Cloud, keys: RunKeys) -> str:
    try:
        return Manifest.from_json(cloud.storage.get(keys.manifest)).image
    except ResourceDoesNotExistException:
        return ""


def _sample(cloud: Cloud, keys: RunKeys) -> list[float]:
    """Wall seconds of some elements of a run, from the heads of a few of its first packs."""
    page = next(cloud.storage.pages(keys.outputs), [])
    packs = [keys.parse_output(each.key) for each in _spread(page, PACKS_READ)]
    return [seconds for location in packs for seconds in _walls(cloud, keys, location)]


def _walls(cloud: Cloud, keys: RunKeys, location: Location) -> Iterable[float]:
    try:
        head = cloud.storage.get(keys.output(*location), 0, head_size(min(location.number, ELEMENTS_READ)))
    except ResourceDoesNotExistException:
        # The run was deleted since it was listed.
        return ()
    return walls(head)


def _spread(items: Sequence[StoredObject], number: int) -> Iterator[StoredObject]:
    """So many of the items, from all over."""
    number = min(number, len(items))
    return (items[len(items) * n // number] for n in range(number))
