"""Compare cloudknot with the rivals that a target names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tests.benchmarks.rivals.contestants import CHUNKS, FRESH, SINGLE
from tests.benchmarks.rivals.measuring.supervisor import Measurement
from tests.benchmarks.rivals.plan import ALWAYS_ISOLATING, FRESH_SHARES, Sizes
from tests.benchmarks.rivals.results import Results, Spread

ARRAYS_WITHIN = 2
"""The most time for arrays in and out, as a multiple of Dask's."""
ELEMENT_MS, MAP_SECONDS = 6.0, 0.1
"""The most time for a trivial element in a process of its own, and the most overhead of a map of short elements."""
WITHIN = 1.05
"""The most time for elements of a second, as a multiple of the best rival's."""
MS, MB = 1e3, 1e-6

Work = tuple[str, str, str, int]
"""Group, workload, way and number of elements, as for `Results.find`."""


@dataclass(frozen=True)
class Target:
    """A cost of cloudknot that must be below the same cost of every rival named, times a factor."""

    title: str
    unit: str
    ours: Work
    theirs: Callable[[str], Work]
    rivals: tuple[str, ...]
    cost: Callable[[Measurement], float]
    factor: float = 1

    def ratio(self, results: Results) -> tuple[float, str, float, Spread] | None:
        """Return cloudknot's median, the best rival and its median, and the ratios of all rounds."""
        ours = results.spread(self.cost, "cloudknot", *self.ours)
        spreads = {name: results.spread(self.cost, name, *self.theirs(name)) for name in self.rivals}
        medians = {name: spread.median for name, spread in spreads.items() if spread}
        if ours is None or not medians:
            return None
        best = min(medians, key=lambda name: medians[name])
        pairs = zip(results.find("cloudknot", *self.ours), results.find(best, *self.theirs(best)), strict=True)
        return ours.median, best, medians[best], Spread.of([self.cost(our) / self.cost(their) for our, their in pairs])


@dataclass(frozen=True)
class Bound:
    """A cost of cloudknot that must not exceed a number."""

    title: str
    unit: str
    cost: float
    most: float


def bounds(results: Results) -> Iterator[Bound]:
    """Yield the bounds of the work that was measured."""
    sizes = results.sizes
    count = sizes.fresh_count("cloudknot")
    if fresh := results.spread(_element_milliseconds, "cloudknot", "fresh", "trivial", FRESH, count):
        yield Bound("a trivial element in a process of its own", "ms", fresh.median, ELEMENT_MS)
    pool = results.spread(lambda m: m.seconds, "stdlib", "short", "short", SINGLE, sizes.short)
    # The processes of a map take their time in any case.
    processes = sizes.short * ELEMENT_MS / MS
    for way, words, most in (
        (CHUNKS, "4 chunks", MAP_SECONDS),
        (FRESH, "one process for each", MAP_SECONDS + processes),
    ):
        ours = results.spread(lambda m: m.seconds, "cloudknot", "short", "short", way, sizes.short)
        if ours and pool:
            title = f"overhead of {sizes.short} elements of 12 ms, {words}"
            yield Bound(title, "s", ours.median - pool.median, most)


def targets(sizes: Sizes, contestants: Iterable[str]) -> Iterator[Target]:
    """Yield all targets."""
    rivals = tuple(name for name in contestants if name != "cloudknot")
    for rival in ("dask", "spark"):
        for count in (sizes.few, sizes.many):
            work = ("trivial", "trivial", CHUNKS, count)
            title = f"overhead in chunks, {count:,} elements, beside {rival.capitalize()}"
            yield Target(title, "ms", work, _same(work), (rival,), _element_milliseconds)
    fresh = ("fresh", "trivial", FRESH, sizes.fresh_count("cloudknot"))
    isolating = tuple(name for name in rivals if name in FRESH_SHARES)
    yield Target(
        "one fresh process for each element",
        "ms",
        fresh,
        lambda name: (*fresh[:3], sizes.fresh_count(name)),
        isolating,
        _element_milliseconds,
    )
    yield from _arrays(sizes)
    for workload, title in (("heat", "heat equation"), ("mri", "diffusion MRI")):
        for way, words in ((FRESH, "one process for each element"), (CHUNKS, "4 chunks")):
            yield _science(workload, f"{title}, {words}", way, getattr(sizes, workload), rivals)
    memory = ("memory", "trivial", CHUNKS, sizes.many)
    title = f"memory of the user's session, {sizes.many:,} elements"
    yield Target(title, "MB", memory, _same(memory), rivals, lambda m: m.client_memory * MB)


def _arrays(sizes: Sizes) -> Iterator[Target]:
    for way, words in ((FRESH, "one process for each element"), (CHUNKS, "4 chunks")):
        work, rival = ("arrays", "arrays", way, sizes.arrays), ("arrays", "arrays", SINGLE, sizes.arrays)
        title = f"{sizes.arrays} arrays of 8 MB, {words}, beside Dask"
        yield Target(title, "s", work, _same(rival), ("dask",), lambda m: m.seconds, ARRAYS_WITHIN)
        title = f"memory of the user's session in that, {words}, beside Dask"
        yield Target(title, "MB", work, _same(rival), ("dask",), lambda m: m.client_memory * MB)


def _science(workload: str, title: str, way: str, count: int, rivals: tuple[str, ...]) -> Target:
    def theirs(name: str) -> Work:
        return ("science", workload, FRESH if name in ALWAYS_ISOLATING else SINGLE, count)

    return Target(title, "s", ("science", workload, way, count), theirs, rivals, lambda m: m.seconds, WITHIN)


def _same(work: Work) -> Callable[[str], Work]:
    return lambda name: work


def _element_milliseconds(measurement: Measurement) -> float:
    return measurement.seconds * MS / measurement.count
