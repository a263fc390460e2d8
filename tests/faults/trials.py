"""The same maps under each fault in turn: what is injected, which results are checked, how many are lost.

`tests/faults/test_maps.py` runs them as tests, ``python -m tests.benchmarks.faults`` prints the table.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import cloudknot as ck
from cloudknot.local import Faults, FaultSwitches, Kill
from tests.waiting import LONG, until

BLOCK = 300_000
LARGE = 9_000_000
"""Bytes: more than one part of an upload."""
RETRIES = 3
EVERYTHING = ("s3", "batch", "logs", "cloudformation", "sts", "iam", "ecr", "ec2")


def work(element: Any) -> Any:
    """A little work on anything: numbers are squared, bytes measured, arrays of bytes sent back as they are."""
    time.sleep(0.005)
    if isinstance(element, bytearray):
        return element
    return element * element if isinstance(element, int) else (len(element), element[:1])


MAPS: tuple[tuple[list[Any], dict[str, Any]], ...] = (
    ([7], {}),
    (list(range(12)), {}),
    (list(range(100)), {"chunksize": 17}),
    ([bytes([n]) * (BLOCK + n) for n in range(6)], {"chunksize": 2}),
    ([bytearray([5, 7]) * (LARGE // 2)], {}),
    (list(range(3)), {"job_type": "independent"}),
)


def submit_all(knot: ck.Knot) -> list[tuple[ck.MapFuture, list[Any]]]:
    """Submit every map, all at the same time; each future with the list that it must end with."""
    with ThreadPoolExecutor(len(MAPS)) as pool:
        futures = list(pool.map(lambda each: knot.map(each[0], **each[1]), MAPS))
    return [(future, [work(each) for each in inputs]) for future, (inputs, _) in zip(futures, MAPS, strict=True)]


@dataclass(frozen=True)
class Trial:
    """A fault, and what must have been injected for the trial to count.

    ``passing`` faults are switched on when the maps are submitted, and off again after ``passing`` of them.
    """

    name: str
    faults: Faults
    injected: tuple[str, ...]
    passing: int = 0
    meanwhile: Callable[[FaultSwitches, ck.MapFuture], None] | None = None


def kills(*how: str, **choices: Any) -> Faults:
    """Half of the children, each killed twice, in one way for each third of the indices."""
    found = [
        Kill(each, attempts=2, share=0.8, children=tuple(range(n, 100, len(how))), **choices)
        for n, each in enumerate(how)
    ]
    return Faults(kills=tuple(found), seed=11)


def forget(switches: FaultSwitches, future: ck.MapFuture) -> None:
    for job_id in future.job.job_ids:
        switches.forget(job_id)


TRIALS = (
    Trial("no fault", Faults(), ()),
    Trial("S3 errors, 10 %", Faults(errors=0.1, seed=1), ("error 500", "error 503")),
    Trial("S3 errors, 30 %", Faults(errors=0.3, seed=2), ("error 500", "error 503")),
    Trial("S3 errors, 50 %", Faults(errors=0.5, seed=3), ("error 500", "error 503")),
    Trial("errors of S3 and Batch, 30 %", Faults(errors=0.3, services=("s3", "batch"), seed=4), ("error 500",)),
    Trial("acknowledgements dropped, 30 %", Faults(dropped=0.3, services=("s3", "batch"), seed=5), ("dropped",)),
    Trial("answers truncated, 50 %", Faults(truncated=0.5, seed=6), ("truncated",)),
    Trial("slow answers, 30 % by 0.2 s", Faults(slow=0.3, delay=0.2, services=EVERYTHING, seed=7), ("slow",)),
    Trial("429 of Batch, 50 %", Faults(throttled=0.5, seed=8), ("throttled",)),
    Trial("429 of Batch, a burst of 12", Faults(throttled=1.0, limit=12), ("throttled",)),
    Trial("expired tokens, renewed later", Faults(expired=True), ("expired",), passing=3),
    Trial("silence for a while", Faults(silent=True), ("silence",), passing=6),
    Trial("killed as they start", kills("host", "spot", "pull"), ("killed: host", "killed: spot", "killed: pull")),
    Trial("killed when something is stored", kills("host", "spot", when="stored"), ("killed: host", "killed: spot")),
    Trial("killed when all is stored", kills("host", "docker", when="end"), ("killed: host", "killed: docker")),
    Trial("overlapping attempts", kills("host", overlap=True), ("overlapping: host",)),
    Trial("jobs forgotten while they run", Faults(), ("forgotten",), meanwhile=forget),
    Trial(
        "all at once",
        replace(
            kills("host", "docker", when="stored"),
            errors=0.2,
            dropped=0.1,
            slow=0.1,
            truncated=0.1,
            throttled=0.2,
            services=("s3", "batch"),
        ),
        ("error 500", "dropped", "slow", "throttled"),
    ),
)


@dataclass
class Outcome:
    """What a trial gave."""

    name: str
    injected: dict[str, int] = field(default_factory=dict)
    checked: int = 0
    lost: int = 0
    seconds: float = 0.0

    @property
    def faults(self) -> int:
        return sum(self.injected.values())


def run(trial: Trial, knot: ck.Knot, switches: FaultSwitches) -> Outcome:
    """Run the maps under a trial's faults, and compare every result."""
    outcome, begun = Outcome(trial.name), time.perf_counter()
    if trial.passing:
        maps = submit_all(knot)
        switches.set(trial.faults)
        # Maps that were quick have ended before the faults had their turn.
        until(lambda: sum(switches.injected().values()) >= trial.passing or all(future.done() for future, _ in maps))
        outcome.injected = switches.injected()
        switches.off()
    else:
        switches.set(trial.faults)
        maps = submit_all(knot)
    for future, _ in maps:
        if trial.meanwhile is not None:
            trial.meanwhile(switches, future)
    for future, expected in maps:
        compare(outcome, future, expected)
    outcome.injected = outcome.injected or switches.injected()
    switches.off()
    outcome.seconds = time.perf_counter() - begun
    return outcome


def compare(outcome: Outcome, future: ck.MapFuture, expected: list[Any]) -> None:
    """Count which elements have the value that they must have."""
    for element, value in zip(future, expected, strict=True):
        outcome.checked += 1
        if element.exception(LONG) is not None or element.result() != value:
            outcome.lost += 1
    if not outcome.lost and future.result(LONG) != expected:
        outcome.lost += 1


def table(outcomes: Iterable[Outcome]) -> str:
    """The figures, one line a trial."""
    rows = list(outcomes)
    lines = [f"{'fault':34} {'injected':>8} {'checked':>8} {'lost':>5} {'seconds':>8}"]
    lines += [f"{o.name:34} {o.faults:8,} {o.checked:8,} {o.lost:5} {o.seconds:8.1f}" for o in rows]
    total = (sum(o.faults for o in rows), sum(o.checked for o in rows), sum(o.lost for o in rows))
    lines.append(f"{'in all':34} {total[0]:8,} {total[1]:8,} {total[2]:5} {sum(o.seconds for o in rows):8.1f}")
    return "\n".join(lines)
