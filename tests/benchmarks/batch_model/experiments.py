"""The experiments: the paper's two sweeps, then the same with other chunk sizes, Spot losses and other constants."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

from cloudknot.errors import CloudknotInputError
from tests.benchmarks.batch_model import heat, paper
from tests.benchmarks.batch_model.constants import BatchConstants
from tests.benchmarks.batch_model.pywren import simulate_pywren
from tests.benchmarks.batch_model.simulation import Environment, Outcome, simulate
from tests.benchmarks.batch_model.submission import plan

Chunksize = int | str | None
Settings = dict[str, int]
SPOT_RATES = {"0": 0.0, "20 % a month": 0.2 / (30 * 24), "0.2 an hour": 0.2, "1 an hour": 1.0, "4 an hour": 4.0}
"""Losses of a machine. The worst class of AWS's Spot Instance Advisor is 20 % a month and more. Higher ones are tests.

They show the effect, which would otherwise be invisible.
"""
STRESS = 1.0
"""Losses per machine and hour in the figures, 3,600 times the worst class of the Advisor."""
TINY = 10
"""Side of the grid for elements that take 8 ms."""


@dataclass(frozen=True)
class Scale:
    """The sizes of the experiments."""

    arguments: tuple[int, ...] = tuple(paper.ARGUMENTS)
    wide: tuple[int, ...] = tuple(2**power for power in range(1, 17))
    sides: tuple[int, ...] = tuple(heat.SWEEPS)
    chunksizes: tuple[int, ...] = (1, 2, 5, 10, 20, 50, 100, 157, 250, 500, 1000, 2500, 10_000)
    seeds: int = 5
    draws: int = 3
    several: int = 1_000
    many: int = 10_000


QUICK = Scale(
    (2, 16, 128), (2, 64, 1024, 10_240), (10, 50, 100, 150), (1, 8, 64), seeds=2, draws=2, several=100, many=500
)


@dataclass(frozen=True)
class Series:
    """A line of a figure: seconds over ``x``, from ``low`` to ``high``. None where a map is impossible."""

    x: tuple[int, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]

    @classmethod
    def of(cls, x: Sequence[int], *bounds: Callable[[int], float | None]) -> Series:
        """Return the series of one function, or of two for a band."""
        low = tuple(map(bounds[0], x))
        return cls(tuple(x), low, tuple(map(bounds[1], x)) if bounds[1:] else low)


def warm(settings: Settings) -> Environment:
    """Return an environment in which all machines run already and have the image."""
    most = paper.MAX_INSTANCES * BatchConstants().instance_vcpus
    return replace(cold(settings), warm_vcpus=min(settings["max_vcpus"], most), has_image=True)


def cold(settings: Settings) -> Environment:
    """Return an environment in which only the machines for ``min_vcpus`` run, and none has the image."""
    least, most = settings["min_vcpus"], settings["max_vcpus"]
    return Environment(least, most, paper.MAX_INSTANCES, warm_vcpus=least, has_image=False)


def run(
    count: int,
    seconds: Callable[[int], float],
    environment: Environment,
    chunksize: Chunksize = None,
    *,
    constants: BatchConstants | None = None,
    seed: int = 0,
) -> Outcome:
    """Return the outcome of a map after an earlier map with the same elements."""
    measured = seconds(count - 1)
    chunks = plan(count, chunksize, max_vcpus=environment.max_vcpus, measured=measured).chunks
    return simulate(chunks, seconds, environment, constants, seed)


def run_heat(count: int, side: int, environment: Environment, chunksize: Chunksize = None, seed: int = 0) -> Outcome:
    """Return the outcome of one point of the paper's sweeps."""
    return run(count, heat.seconds_of(side, count), environment, chunksize, seed=seed)


def pywren(count: int, side: int, warm: int) -> float | None:
    """Return PyWren's seconds for one point of the paper's sweeps."""
    return simulate_pywren(count, heat.seconds_of(side, count), heat.memory_of(side), warm)


def _band(x: Sequence[int], settings: Settings, seeds: int, size: Callable[[int], tuple[int, int]]) -> Series:
    """Return the times from warm machines to the slowest of some cold starts."""
    return Series.of(
        x,
        lambda point: run_heat(*size(point), warm(settings)).seconds,
        lambda point: max(run_heat(*size(point), cold(settings), seed=seed).seconds for seed in range(seeds)),
    )


def figure_2(scale: Scale) -> dict[str, Series]:
    """Return the lines of the paper's figure 2: seconds over the number of arguments, at a grid of 10 x 10."""
    x = scale.arguments
    return {
        "default": _band(x, paper.DEFAULT, scale.seeds, lambda count: (count, TINY)),
        "custom": _band(x, paper.CUSTOM, scale.seeds, lambda count: (count, TINY)),
        # The paper's first map found two containers that an earlier map had left.
        "pywren": Series.of(x, lambda count: pywren(count, TINY, warm=2)),
    }


def figure_3(scale: Scale) -> dict[str, Series]:
    """Return the lines of the paper's figure 3: seconds over the side of the grid, with five temperatures."""
    x, count = scale.sides, paper.TEMPERATURES
    return {
        "default": _band(x, paper.DEFAULT, scale.seeds, lambda side: (count, side)),
        "custom": _band(x, paper.CUSTOM, scale.seeds, lambda side: (count, side)),
        "pywren": Series.of(x, lambda side: pywren(count, side, warm=count)),
    }


def _seconds(count: int, side: int, chunksize: Chunksize) -> float | None:
    """Return the seconds of a map with the default settings on warm machines; None if cloudknot refuses it."""
    try:
        return run_heat(count, side, warm(paper.DEFAULT), chunksize).seconds
    except CloudknotInputError:
        return None


def slots(settings: Settings) -> int:
    """Return the number of children that can run at the same time."""
    constants = BatchConstants()
    return warm(settings).warm_vcpus // constants.instance_vcpus * constants.slots


def chunked_figure_2(scale: Scale) -> dict[str, Series]:
    """Return figure 2 for the default settings with several chunk sizes, and with more arguments than the paper's."""
    even = slots(paper.DEFAULT)
    return {
        "chunksize=1": Series.of(scale.wide, lambda count: _seconds(count, TINY, 1)),
        "default": Series.of(scale.wide, lambda count: _seconds(count, TINY, None)),
        "auto": Series.of(scale.wide, lambda count: _seconds(count, TINY, "auto")),
        "even": Series.of(scale.wide, lambda count: _seconds(count, TINY, -(-count // even))),
        "pywren": Series.of(scale.wide, lambda count: pywren(count, TINY, warm=2)),
    }


def chunked_figure_3(scale: Scale) -> dict[str, Series]:
    """Return figure 3 for the default settings with several chunk sizes, for five and for many temperatures."""
    few, several = paper.TEMPERATURES, scale.several
    return {
        "several, chunksize=1": Series.of(scale.sides, lambda side: _seconds(several, side, 1)),
        "several, auto": Series.of(scale.sides, lambda side: _seconds(several, side, "auto")),
        "several, pywren": Series.of(scale.sides, lambda side: pywren(several, side, warm=0)),
        "five, chunksize=1": Series.of(scale.sides, lambda side: _seconds(few, side, 1)),
        "five, auto": Series.of(scale.sides, lambda side: _seconds(few, side, "auto")),
        "five, chunksize=5": Series.of(scale.sides, lambda side: _seconds(few, side, few)),
    }


@dataclass(frozen=True)
class Sweep:
    """Times and costs over the chunk size, for elements of one length.

    Attributes
    ----------
    chunksizes : tuple of int
    seconds, vcpu_hours : tuple of float
        On demand.
    spot_seconds : tuple of float or None
        With Spot losses, the mean of some seeds. None if a child used up its attempts, so results are missing.
    automatic : int
        The chunk size that ``chunksize="auto"`` chooses.
    automatic_seconds, automatic_vcpu_hours : float
        On demand.
    """

    chunksizes: tuple[int, ...]
    seconds: tuple[float, ...]
    spot_seconds: tuple[float | None, ...]
    vcpu_hours: tuple[float, ...]
    automatic: int
    automatic_seconds: float
    automatic_vcpu_hours: float


def sweep(scale: Scale, element: float) -> Sweep:
    """Return times and costs of many elements of ``element`` seconds over the chunk size, default settings, warm."""
    on_demand = warm(paper.DEFAULT)
    spot = replace(on_demand, losses_per_hour=STRESS)

    def on_spot(chunksize: int) -> float | None:
        outcomes = [run(scale.many, lambda _: element, spot, chunksize, seed=seed) for seed in range(scale.draws)]
        if any(outcome.failed for outcome in outcomes):
            return None
        return statistics.mean(outcome.seconds for outcome in outcomes)

    outcomes = [run(scale.many, lambda _: element, on_demand, chunksize) for chunksize in scale.chunksizes]
    automatic = run(scale.many, lambda _: element, on_demand, "auto")
    return Sweep(
        chunksizes=scale.chunksizes,
        seconds=tuple(outcome.seconds for outcome in outcomes),
        spot_seconds=tuple(map(on_spot, scale.chunksizes)),
        vcpu_hours=tuple(outcome.vcpu_hours for outcome in outcomes),
        automatic=plan(scale.many, "auto", measured=element).manifest.chunksize,
        automatic_seconds=automatic.seconds,
        automatic_vcpu_hours=automatic.vcpu_hours,
    )


@dataclass(frozen=True)
class ColdStart:
    """A map of tiny elements that finds no machine: medians of some seeds."""

    chunksize: Chunksize
    seconds: float
    vcpu_hours: float
    most_vcpus: int


def cold_starts(scale: Scale) -> Iterator[ColdStart]:
    """Yield maps of many tiny elements with default settings and no machine, for several chunk sizes."""
    even = -(-scale.many // slots(paper.DEFAULT))
    for chunksize in (1, even, "auto"):
        outcomes = [
            run_heat(scale.many, TINY, cold(paper.DEFAULT), chunksize, seed=seed) for seed in range(scale.seeds)
        ]
        yield ColdStart(
            chunksize=chunksize,
            seconds=statistics.median(outcome.seconds for outcome in outcomes),
            vcpu_hours=statistics.median(outcome.vcpu_hours for outcome in outcomes),
            most_vcpus=max(outcome.most_vcpus for outcome in outcomes),
        )


@dataclass(frozen=True)
class SpotRow:
    """A map under Spot losses: chunk size, losses, and means of some seeds."""

    chunksize: int
    losses: str
    seconds: float
    attempts: float
    lost_share: float
    failed: int


def spot(scale: Scale, element: float = 10.0) -> Iterator[SpotRow]:
    """Yield maps of elements of ten seconds under several rates of Spot losses."""
    for chunksize in (1, plan(scale.many, "auto", measured=element).manifest.chunksize, 250):
        for name, rate in SPOT_RATES.items():
            environment = replace(warm(paper.DEFAULT), losses_per_hour=rate)
            outcomes = [
                run(scale.many, lambda _: element, environment, chunksize, seed=seed) for seed in range(scale.draws)
            ]
            yield SpotRow(
                chunksize=chunksize,
                losses=name,
                seconds=statistics.mean(outcome.seconds for outcome in outcomes),
                attempts=statistics.mean(len(outcome.attempts) for outcome in outcomes),
                lost_share=statistics.mean(lost_share(outcome) for outcome in outcomes),
                failed=sum(len(outcome.failed) for outcome in outcomes),
            )


def lost_share(outcome: Outcome) -> float:
    """Return the share of the seconds of elements that left no result."""
    return sum(attempt.lost for attempt in outcome.attempts) / sum(attempt.seconds for attempt in outcome.attempts)


@dataclass(frozen=True)
class Effect:
    """Three answers of the model with one changed constant.

    Attributes
    ----------
    name : str
    factor : float
        Factor of the constant. 1 for the model itself.
    slope : float
        Seconds of 1,024 tiny elements in as many children on warm machines.
    cold : float
        Seconds of 64 tiny elements without a running machine, the median of some seeds.
    gain : float
        Time with ``chunksize=1`` as a multiple of the time with ``"auto"``, for many tiny elements on warm machines.
    """

    name: str
    factor: float
    slope: float
    cold: float
    gain: float


def sensitivity(scale: Scale) -> Iterator[Effect]:
    """Yield the effects of half and twice each constant without a source of its own, after the model itself."""
    yield _effect(scale, "", 1.0)
    for item in fields(BatchConstants):
        if item.metadata["kind"] != "AWS":
            for factor in (0.5, 2.0):
                constants = changed(item.name, factor)
                # No job has half a vCPU, and no job fits half a machine.
                if constants.job_vcpus and constants.slots:
                    yield _effect(scale, item.name, factor)
    yield _effect(scale, "dispatch_rate", 0.1)


def changed(name: str, factor: float) -> BatchConstants:
    """Return the constants with one of them multiplied."""
    value = getattr(BatchConstants(), name)
    return replace(BatchConstants(), **{name: type(value)(value * factor)})


def _effect(scale: Scale, name: str, factor: float) -> Effect:
    constants = changed(name, factor) if name else BatchConstants()
    count, many = scale.several + 24, scale.many

    def seconds(count: int, environment: Environment, chunksize: Chunksize, seed: int = 0) -> float:
        work = heat.seconds_of(TINY, count)
        return run(count, work, environment, chunksize, constants=constants, seed=seed).seconds

    running = warm(paper.DEFAULT)
    starts = [seconds(64, cold(paper.DEFAULT), 1, seed) for seed in range(scale.seeds)]
    return Effect(
        name=name,
        factor=factor,
        slope=seconds(count, running, 1),
        cold=statistics.median(starts),
        gain=seconds(many, running, 1) / seconds(many, running, "auto"),
    )
