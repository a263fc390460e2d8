"""The turns of a run: which contestants do which work, in which ways and sizes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tests.benchmarks.rivals.contestants import CHUNKS, FRESH, SINGLE

CONTESTANTS = ("cloudknot", "stdlib", "dask", "lithops", "spark", "ray")
PACKAGES = {"dask": "distributed", "lithops": "lithops", "spark": "pyspark", "ray": "ray"}
"""The distribution on PyPI of each rival."""
WORKERS = 2
ISOLATING = ("cloudknot", "stdlib", "lithops", "spark", "ray")
"""The contestants with a way to run each element in a fresh process. Dask's workers keep their process."""
ALWAYS_ISOLATING = ("cloudknot", "lithops")
"""The contestants that give each task its own process. For them, `SINGLE` and `FRESH` are the same."""


@dataclass(frozen=True)
class Job:
    """One piece of work, measured alone."""

    workload: str
    way: str
    count: int


@dataclass(frozen=True)
class Turn:
    """The work of one contestant in one fresh process."""

    group: str
    contestant: str
    way: str
    jobs: tuple[Job, ...]
    sample_seconds: float
    """Seconds between two looks at the memory of the tree."""
    workers: int = WORKERS


@dataclass(frozen=True)
class Sizes:
    """Numbers of elements, and of rounds."""

    few: int
    """Trivial elements of the smaller map, also for memory at the smaller size."""
    many: int
    """Trivial elements in chunks."""
    fresh: int
    """Trivial elements in a process each."""
    pi: int
    heat: int
    mri: int
    rounds: int


FULL = Sizes(few=1000, many=100_000, fresh=100, pi=16, heat=8, mri=8, rounds=3)
QUICK = Sizes(few=20, many=1000, fresh=4, pi=2, heat=2, mri=2, rounds=1)

SCIENCE = ("pi", "heat", "mri")
"""Work of seconds. A contestant does it in one turn, one after the other."""
GROUPS = ("trivial", "fresh", *SCIENCE, "memory", "evidence")


def turns(groups: Sequence[str], contestants: Sequence[str], sizes: Sizes, first_round: bool) -> Iterator[Turn]:
    """Yield the turns of one round. The contestants take turns at each kind of work."""
    makers = {"trivial": _trivial, "fresh": _fresh, "memory": _memory}
    for group, make in makers.items():
        if group in groups:
            yield from (turn for contestant in contestants for turn in make(contestant, sizes))
    sciences = [name for name in SCIENCE if name in groups]
    if sciences:
        yield from (_science(contestant, sizes, sciences) for contestant in contestants)
    if "evidence" in groups and first_round:
        yield from (_evidence(contestant, sizes) for contestant in contestants)


def _trivial(contestant: str, sizes: Sizes) -> Iterator[Turn]:
    singles = () if contestant in ALWAYS_ISOLATING else (Job("trivial", SINGLE, sizes.few),)
    jobs = (Job("trivial", CHUNKS, sizes.few), *singles, Job("trivial", CHUNKS, sizes.many))
    yield Turn("trivial", contestant, CHUNKS, jobs, 1)


def _fresh(contestant: str, sizes: Sizes) -> Iterator[Turn]:
    if contestant in ISOLATING:
        yield Turn("fresh", contestant, FRESH, (Job("trivial", FRESH, sizes.fresh),), 1)


def _memory(contestant: str, sizes: Sizes) -> Iterator[Turn]:
    yield Turn("memory", contestant, CHUNKS, (Job("trivial", CHUNKS, sizes.many),), 0.1)


def _science(contestant: str, sizes: Sizes, names: Sequence[str]) -> Turn:
    """Return the work of seconds. cloudknot does it a second time in chunks, since its default is `FRESH`."""
    ways = (FRESH, CHUNKS) if contestant == "cloudknot" else (_shared(contestant),)
    jobs = tuple(Job(name, way, getattr(sizes, name)) for name in names for way in ways)
    return Turn("science", contestant, _shared(contestant), jobs, 1)


def _evidence(contestant: str, sizes: Sizes) -> Turn:
    way = FRESH if contestant in ISOLATING else SINGLE
    return Turn("evidence", contestant, way, (Job("process", way, min(sizes.fresh, 20)),), 1)


def _shared(contestant: str) -> str:
    return FRESH if contestant in ALWAYS_ISOLATING else SINGLE


def expected_jobs(planned: Iterable[Turn]) -> tuple[Job, ...]:
    """Return all work once, for the serial loop whose results the others must have."""
    jobs = {(job.workload, job.count) for turn in planned for job in turn.jobs}
    return tuple(Job(workload, SINGLE, count) for workload, count in sorted(jobs))
