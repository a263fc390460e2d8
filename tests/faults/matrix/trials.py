"""Trials run kinds of maps under one fault each, and count faults injected, results checked and results lost.

`tests/faults/matrix/test_maps.py` runs each kind once under each switch.
``python -m tests.benchmarks.faults`` runs every kind in every trial and prints a table.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import cloudknot as ck
from tests.faults.matrix.kinds import GATE, KINDS, Expected, Kind, Place
from tests.faulty_cloud.plan import Faults, Kill
from tests.faulty_cloud.switches import FaultSwitches
from tests.helpers.waiting import LONG, until

RETRIES = 3
EVERYTHING = ("s3", "batch", "logs", "cloudformation", "sts", "iam", "ecr", "ec2")


@dataclass(frozen=True)
class Trial:
    """A fault, its switch, and the names of faults that the trial must inject to count.

    ``passing`` faults begin when all maps are submitted, while the calls wait, and end after this number of faults.
    ``fatal`` faults end jobs. `retry_failed` must compute the missing results after the faults have ended.
    """

    name: str
    switch: str
    faults: Faults
    injected: tuple[str, ...]
    passing: int = 0
    fatal: bool = False
    meanwhile: Callable[[FaultSwitches, ck.MapFuture], None] | None = None


def kills(*how: str, **choices: Any) -> Faults:
    """Return faults that kill attempt 1 of every child in the first way, attempt 2 in the second way, and so on."""
    return Faults(kills=tuple(Kill(way, attempts=n, **choices) for n, way in enumerate(how, 1)), seed=11)


def forget(switches: FaultSwitches, future: ck.MapFuture) -> None:
    """Make Batch forget the jobs of a map."""
    for job_id in future.job.job_ids:
        switches.forget(job_id)


BOTH = ("s3", "batch")
TRIALS = (
    Trial("no fault", "", Faults(), ()),
    Trial("S3 errors, 10 %", "errors", Faults(errors=0.1, seed=8), ("error 500", "error 503")),
    Trial("S3 errors, 30 %", "errors", Faults(errors=0.3, seed=2), ("error 500", "error 503")),
    Trial("S3 errors, 50 %", "errors", Faults(errors=0.5, seed=3), ("error 500", "error 503")),
    Trial("errors of S3 and Batch, 30 %", "errors", Faults(errors=0.3, services=BOTH, seed=4), ("error 500",)),
    Trial("acknowledgements dropped, 30 %", "dropped", Faults(dropped=0.3, services=BOTH, seed=5), ("dropped",)),
    Trial(
        "acknowledgements dropped, 30 % of all services",
        "dropped",
        Faults(dropped=0.3, services=EVERYTHING, seed=14),
        ("dropped",),
    ),
    Trial("answers of S3 cut to half, 50 %", "truncated", Faults(truncated=0.5, cut=0.5, seed=6), ("truncated",)),
    *(
        Trial(
            f"answers of all services cut, {percent} %",
            "truncated",
            Faults(truncated=percent / 100, services=EVERYTHING, seed=percent),
            ("truncated",),
        )
        for percent in (10, 30, 50)
    ),
    Trial("connections reset, 30 %", "reset", Faults(reset=0.3, services=EVERYTHING, seed=15), ("reset",)),
    Trial(
        "answers without a member, 30 %", "missing", Faults(missing=0.3, services=EVERYTHING, seed=16), ("missing",)
    ),
    Trial(
        "answers to other operations, 30 %",
        "misplaced",
        Faults(misplaced=0.3, services=EVERYTHING, seed=17),
        ("misplaced",),
    ),
    Trial("login pages, 30 %", "pages", Faults(pages=0.3, services=EVERYTHING, seed=18), ("pages",)),
    Trial("login pages for a while", "pages", Faults(pages=1.0, services=EVERYTHING), ("pages",), passing=30),
    Trial("slow answers, 30 % by 0.2 s", "slow", Faults(slow=0.3, delay=0.2, services=EVERYTHING, seed=7), ("slow",)),
    Trial("429 of Batch, 50 %", "throttled", Faults(throttled=0.5, seed=8), ("throttled",)),
    Trial("429 of Batch, a burst of 12", "throttled", Faults(throttled=1.0, limit=12), ("throttled",)),
    Trial("expired tokens, renewed later", "expired", Faults(expired=True), ("expired",), passing=15),
    Trial("silence for a while", "silent", Faults(silent=True), ("silence",), passing=30),
    Trial(
        "killed as they start",
        "start",
        kills("host", "spot", "pull"),
        ("killed: host", "killed: spot", "killed: pull"),
    ),
    Trial("out of memory, then repaired", "memory", kills("memory"), ("killed: memory",), fatal=True),
    Trial("never started, then repaired", "not started", kills("start"), ("killed: start",), fatal=True),
    Trial(
        "killed when something is stored",
        "stored",
        kills("host", "spot", when="stored"),
        # On a busy machine, an attempt may store everything before its kill. The next one then stores nothing.
        ("killed: host",),
    ),
    Trial(
        "killed when all is stored",
        "end",
        kills("host", "docker", when="end"),
        ("killed: host", "killed: docker"),
        fatal=True,
    ),
    Trial("overlapping attempts", "overlap", kills("host", overlap=True), ("overlapping: host",)),
    Trial("jobs forgotten while they run", "forgotten", Faults(), ("forgotten",), meanwhile=forget),
    Trial(
        "all at once",
        "all",
        replace(
            kills("host", "spot", when="stored"),
            errors=0.2,
            dropped=0.1,
            slow=0.1,
            truncated=0.1,
            reset=0.05,
            missing=0.05,
            misplaced=0.05,
            pages=0.05,
            throttled=0.2,
            services=BOTH,
        ),
        ("error 500", "dropped", "slow", "throttled", "truncated", "missing"),
    ),
)


def share(trial: Trial) -> tuple[Kind, ...]:
    """Return the kinds of maps for a trial. The trials of one switch share all kinds among them."""
    same = [candidate for candidate in TRIALS if candidate.switch == trial.switch]
    return KINDS[same.index(trial) :: len(same)]


@dataclass
class Outcome:
    """The faults and results of a trial."""

    name: str
    injected: dict[str, int] = field(default_factory=dict)
    checked: int = 0
    lost: list[str] = field(default_factory=list)
    hung: int = 0
    """Elements without an end, which count as lost, too."""
    repeated: int = 0
    """Calls for elements of which an earlier call has succeeded."""
    seconds: float = 0.0

    @property
    def faults(self) -> int:
        return sum(self.injected.values())


NamedMap = tuple[str, Expected]


def submit_all(kinds: Sequence[Kind], place: Place) -> list[NamedMap]:
    """Submit maps of these kinds, all at the same time."""
    if not kinds:
        return []
    with ThreadPoolExecutor(len(kinds)) as pool:
        submitted = list(pool.map(lambda kind: kind.submit(place), kinds))
    return [(kind.name, expected) for kind, maps in zip(kinds, submitted, strict=True) for expected in maps]


def run(trial: Trial, kinds: Sequence[Kind], place: Place, switches: FaultSwitches) -> Outcome:
    """Run maps of these kinds under the faults of a trial, and compare every result."""
    outcome, begun = Outcome(trial.name), time.perf_counter()
    if trial.passing:
        maps = submit_held(trial, kinds, place, switches)
        outcome.injected = switches.injected()
        switches.off()
    else:
        switches.set(trial.faults)
        maps = submit_all(kinds, place)
    for _, expected in maps:
        if trial.meanwhile is not None:
            trial.meanwhile(switches, expected.future)
    if trial.fatal:
        maps = repair(maps, outcome, switches)
    for name, expected in maps:
        compare(outcome, name, expected)
    outcome.injected = outcome.injected or switches.injected()
    switches.off()
    outcome.seconds = time.perf_counter() - begun
    return outcome


def submit_held(trial: Trial, kinds: Sequence[Kind], place: Place, switches: FaultSwitches) -> list[NamedMap]:
    """Submit maps while their calls wait, inject faults, and let the calls begin."""
    gate = place.folder / f"{uuid.uuid4().hex}.gate"
    held = replace(place, env_vars={GATE: str(gate)})
    try:
        maps = submit_all([kind for kind in kinds if kind.early], held)
        maps += submit_all([kind for kind in kinds if not kind.early], held)
        switches.set(trial.faults)
        until(switches.injected)
    finally:
        gate.touch()
    until(lambda: sum(switches.injected().values()) >= trial.passing)
    return maps


def repair(maps: list[NamedMap], outcome: Outcome, switches: FaultSwitches) -> list[NamedMap]:
    """Retry failed elements without faults, in the order of their dependencies."""
    for _, expected in maps:
        expected.future.exception(LONG)
    outcome.injected = switches.injected()
    switches.off()
    again = []
    for name, expected in maps:
        again.append((name, replace(expected, future=expected.future.retry_failed())))
        again[-1][1].future.exception(LONG)
    return again


def compare(outcome: Outcome, name: str, expected: Expected) -> None:
    """Compare a map with its expected results, and record elements with another value as lost."""
    for index, (element, value) in enumerate(zip(expected.future, expected.values, strict=True)):
        outcome.checked += 1
        try:
            error = element.exception(LONG)
        except TimeoutError as waited:
            outcome.hung += 1
            error = waited
        if error is not None or element.result() != value:
            outcome.lost.append(f"{name}, element {index}: {error or 'another value'!r}")
    outcome.repeated += expected.repeated
    if not outcome.lost and expected.future.result(LONG) != expected.result:
        outcome.lost.append(f"{name}: the list")


def table(outcomes: Iterable[Outcome]) -> str:
    """Format the outcomes, one line for each trial."""
    rows = list(outcomes)
    lines = [f"{'fault':46} {'injected':>8} {'checked':>8} {'lost':>5} {'hung':>5} {'again':>6} {'seconds':>8}"]
    for o in (*rows, total(rows)):
        figures = f"{o.faults:8,} {o.checked:8,} {len(o.lost):5} {o.hung:5} {o.repeated:6} {o.seconds:8.1f}"
        lines.append(f"{o.name:46} {figures}")
    return "\n".join(lines)


def total(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the sum of outcomes."""
    sums = Outcome("in all")
    for outcome in outcomes:
        sums.injected = Counter(sums.injected) + Counter(outcome.injected)
        sums.checked, sums.hung = sums.checked + outcome.checked, sums.hung + outcome.hung
        sums.lost, sums.repeated = sums.lost + outcome.lost, sums.repeated + outcome.repeated
        sums.seconds += outcome.seconds
    return sums
