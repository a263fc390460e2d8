"""The turns of a run: which contestants do which work, in which ways and sizes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tests.benchmarks.rivals.contestants import CHUNKS, FRESH, SINGLE

CONTESTANTS = ("cloudknot", "stdlib", "forkserver", "joblib", "dask", "lithops", "spark", "ray", "submitit")
PACKAGES = {
    "joblib": "joblib",
    "dask": "distributed",
    "lithops": "lithops",
    "spark": "pyspark",
    "ray": "ray",
    "submitit": "submitit",
}
"""The distribution on PyPI of each rival."""
LIGHT = ("cloudknot", "stdlib", "forkserver", "joblib", "dask")
"""The contestants that take seconds to install."""
ONLY_FRESH = ("forkserver", "submitit")
"""The contestants that are measured with fresh processes only, and not with elements of a second."""
WORKERS = 2
ALWAYS_ISOLATING = ("cloudknot", "lithops", "submitit")
"""The contestants that give each task its own process. For them, `SINGLE` and `FRESH` are the same."""


@dataclass(frozen=True)
class Job:
    """One piece of work, measured alone."""

    workload: str
    way: str
    count: int
    small: bool = False
    """Repeat the workload's small element, in place of elements that take a second."""
    for_memory: bool = False
    """Look at the memory ten times a second. This costs time, so the time of the work does not count."""


@dataclass(frozen=True)
class Turn:
    """The work of one contestant in one fresh process."""

    group: str
    contestant: str
    way: str
    jobs: tuple[Job, ...]
    workers: int = WORKERS


@dataclass(frozen=True)
class Sizes:
    """Numbers of elements, and of rounds."""

    few: int
    """Trivial elements of the smaller map."""
    many: int
    """Trivial elements of the larger map, in chunks."""
    single: int
    """Trivial elements in a task each."""
    fresh: int
    """Trivial elements in a process each. Contestants with slow processes get a share of them."""
    evidence: int
    """Elements that report their process."""
    short: int
    """Elements of 12 ms."""
    arrays: int
    """Arrays of 8 MB."""
    pi: int
    heat: int
    mri: int
    microscopy: int
    small: bool
    rounds: int
    """The most rounds, and in results the rounds that were measured."""
    science_rounds: int
    """Rounds of the work of seconds. Their sessions stay, so that the libraries take turns at each map."""

    def fresh_count(self, contestant: str) -> int:
        """Return the number of trivial elements in a process each. Each contestant's take seconds."""
        return max(self.evidence, self.fresh // FRESH_SHARES[contestant])


FRESH_SHARES = {"cloudknot": 1, "lithops": 1, "stdlib": 10, "forkserver": 10, "spark": 25, "ray": 50, "submitit": 50}
"""The divisors of the number of elements in a process each, for the contestants that have such a way.

Fixed costs weigh more with fewer elements. Those of the others are milliseconds. Dask's workers never end.
"""
_COUNTS = {
    "few": 1000,
    "many": 100_000,
    "single": 100,
    "fresh": 300,
    "evidence": 6,
    "short": 40,
    "arrays": 30,
    "pi": 4,
    "heat": 8,
    "mri": 8,
    "microscopy": 4,
}
FULL = Sizes(**_COUNTS, small=False, rounds=3, science_rounds=4)
_TINY_COUNTS = {
    "few": 20,
    "many": 1000,
    "single": 20,
    "fresh": 4,
    "evidence": 4,
    "short": 4,
    "arrays": 4,
    "pi": 2,
    "heat": 2,
    "mri": 2,
    "microscopy": 2,
}
TINY = Sizes(**_TINY_COUNTS, small=True, rounds=1, science_rounds=1)

WITH_NUMPY = ("arrays", "heat", "mri", "microscopy")
"""The workloads whose elements need the libraries of their environment."""
SCIENCE = ("pi", "heat", "mri", "microscopy")
"""Work of seconds. A contestant does it in one turn, one after the other."""
GROUPS = ("trivial", "fresh", "short", "arrays", *SCIENCE, "memory")


def turns(groups: Sequence[str], contestants: Sequence[str], sizes: Sizes) -> Iterator[Turn]:
    """Yield the turns of one round with a new session for each. The contestants take turns at each kind of work."""
    usual = [name for name in contestants if name not in ONLY_FRESH]
    if "trivial" in groups or "memory" in groups:
        yield from (_trivial(contestant, sizes, groups) for contestant in usual)
    if "fresh" in groups:
        yield from (_fresh(contestant, sizes) for contestant in contestants)
    for workload in (name for name in ("short", "arrays") if name in groups):
        for contestant in contestants:
            # A turn for each way: the largest memory of a session never falls.
            for way in ways_of(contestant):
                job = Job(workload, way, getattr(sizes, workload), sizes.small and workload == "arrays")
                yield Turn(workload, contestant, way, (job,))


def science_turns(groups: Sequence[str], contestants: Sequence[str], sizes: Sizes) -> Iterator[Turn]:
    """Yield the turns of one round of elements that take a second. Their sessions stay for all rounds."""
    if sciences := [name for name in SCIENCE if name in groups]:
        yield from (_science(name, sizes, sciences) for name in contestants if name not in ONLY_FRESH)


def ways_of(contestant: str) -> tuple[str, ...]:
    """Return the ways that a contestant runs a few elements. cloudknot has a second one, in chunks."""
    if contestant == "cloudknot":
        return FRESH, CHUNKS
    return (FRESH,) if contestant in (*ALWAYS_ISOLATING, *ONLY_FRESH) else (SINGLE,)


def _trivial(contestant: str, sizes: Sizes, groups: Sequence[str]) -> Turn:
    singles = () if contestant in ALWAYS_ISOLATING else (Job("trivial", SINGLE, sizes.single),)
    timed = (Job("trivial", CHUNKS, sizes.few), *singles, Job("trivial", CHUNKS, sizes.many))
    memory = (Job("trivial", CHUNKS, sizes.many, for_memory=True),)
    jobs = (*(timed if "trivial" in groups else ()), *(memory if "memory" in groups else ()))
    return Turn("trivial", contestant, CHUNKS, jobs)


def _fresh(contestant: str, sizes: Sizes) -> Turn:
    """Return elements in a process each, and a few elements that report their process."""
    way = FRESH if contestant in FRESH_SHARES else SINGLE
    trivial = (Job("trivial", FRESH, sizes.fresh_count(contestant)),) if way == FRESH else ()
    return Turn("fresh", contestant, way, (*trivial, Job("process", way, sizes.evidence)))


def _science(contestant: str, sizes: Sizes, names: Sequence[str]) -> Turn:
    """Return the work of seconds. cloudknot does it a second time in chunks, since its default is `FRESH`."""
    ways = ways_of(contestant)
    jobs = tuple(Job(name, way, getattr(sizes, name), sizes.small) for name in names for way in ways)
    return Turn("science", contestant, ways[0], jobs)


def expected_jobs(planned: Iterable[Turn]) -> tuple[Job, ...]:
    """Return all work once, for the serial loop whose results the others must have."""
    jobs = {(job.workload, job.count, job.small) for turn in planned for job in turn.jobs if job.workload != "process"}
    return tuple(Job(workload, SINGLE, count, small) for workload, count, small in sorted(jobs))
