"""Run cloudknot and its rivals side by side: ``make bench``.

python -m tests.benchmarks.rivals --only cloudknot,stdlib --workload trivial
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from tests.benchmarks.rivals.environments import NotInstallable, is_made, python_of
from tests.benchmarks.rivals.measuring.held import HeldTurn
from tests.benchmarks.rivals.measuring.supervisor import Measurement, Outcome, Start, run_turn
from tests.benchmarks.rivals.measuring.watch import adopt_orphans
from tests.benchmarks.rivals.plan import (
    CONTESTANTS,
    FULL,
    GROUPS,
    LIGHT,
    SINGLE,
    TINY,
    Sizes,
    Turn,
    expected_jobs,
    science_turns,
    turns,
)
from tests.benchmarks.rivals.reporting.tables import MARKERS, insert, linked, render
from tests.benchmarks.rivals.results import Results

RAW = "rivals.json"
QUICK_SECONDS = 510
"""Seconds of a quick run. The environments are made before."""
JARS = ("/usr/share/java/jython.jar", "/usr/share/java/ij.jar")
"""The programs of the microscopy example. Its own module needs numpy, which this process does not."""


def main() -> None:
    arguments = _arguments()
    if arguments.redraw:
        publish(Results.read(arguments.output / RAW), arguments.output, arguments.page)
        return
    sizes = replace(FULL, science_rounds=1) if arguments.quick else TINY if arguments.tiny else FULL
    if arguments.rounds:
        sizes = replace(sizes, rounds=arguments.rounds, science_rounds=arguments.rounds)
    adopt_orphans()
    # An exception ends the processes of the running turn. The signal alone would leave them.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    is_taken = _is_light if arguments.light else _installed
    contestants = [name for name in arguments.only if is_taken(name)]
    until = time.monotonic() + QUICK_SECONDS if arguments.quick else math.inf
    results = measure(possible(arguments.workload), contestants, sizes, until)
    print(render(results))
    if arguments.output:
        publish(results, arguments.output, arguments.page)


def measure(groups: list[str], contestants: list[str], sizes: Sizes, until: float = math.inf) -> Results:
    """Run all turns, and check all results. No round begins that would end after the time ``until``."""
    results = Results(sizes)
    planned, science = list(turns(groups, contestants, sizes)), list(science_turns(groups, contestants, sizes))
    results.expect(_run(Turn("serial", "serial", SINGLE, expected_jobs([*planned, *science]), 1)))
    for outcome in _take_turns(science, sizes.science_rounds):
        results.add(outcome)
    rounds, seconds = 0, 0.0
    while planned and rounds < sizes.rounds and (not rounds or time.monotonic() + seconds < until):
        start = time.monotonic()
        for turn in planned:
            results.add(_run(turn))
        rounds, seconds = rounds + 1, time.monotonic() - start
    results.sizes = replace(sizes, rounds=rounds or sizes.rounds)
    return results


def _take_turns(planned: list[Turn], rounds: int) -> list[Outcome]:
    """Start a session for each turn, and let them take turns at each workload. Another one begins in each round."""
    with ExitStack() as stack:
        held = []
        for turn in planned:
            held.append(HeldTurn(turn, rounds))
            stack.callback(held[-1].stop)
            _print(turn, held[-1].start)
        for number in range(rounds):
            first = number * len(held) // rounds
            for workload in dict.fromkeys(job.workload for turn in planned for job in turn.jobs):
                for session in held[first:] + held[:first]:
                    _print(session.turn, None, session.work(workload))
        return [session.outcome() for session in held]


def publish(results: Results, output: Path, page: Path | None) -> None:
    """Write the raw figures and the drawings, and the tables into a page."""
    # Drawing needs matplotlib, and measuring does not.
    from tests.benchmarks.rivals.reporting.figures import draw

    output.mkdir(parents=True, exist_ok=True)
    results.write(output / RAW)
    draw(results, output)
    if page:
        insert(page, linked(render(results), page, output), MARKERS)
    else:
        (output / "rivals.md").write_text(render(results))


def _run(turn: Turn) -> Outcome:
    start = time.perf_counter()
    outcome = run_turn(turn)
    _print(turn, outcome.start, outcome.measurements)
    print(f"{'':9} {'':10} in all {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
    return outcome


def _print(turn: Turn, start: Start | None, measurements: Sequence[Measurement] = ()) -> None:
    """Say what has been measured, since a run takes minutes."""
    parts = [f"ready after {start.seconds:.2f} s, CPU {start.cpu_seconds:.2f} s"] if start else []
    parts += [
        f"{m.workload} {m.way} x {m.count:,}: {m.seconds:.2f} s, CPU {_shown(m.cpu_seconds)}" for m in measurements
    ]
    print(f"{turn.group:9} {turn.contestant:10} {'; '.join(parts)}", file=sys.stderr, flush=True)


def _shown(seconds: float | None) -> str:
    return "dropped" if seconds is None else f"{seconds:.2f} s"


def _installed(contestant: str) -> bool:
    try:
        python_of(contestant)
    except NotInstallable as error:
        print(f"{contestant} is left out. {error}", file=sys.stderr)
        return False
    return True


def _is_light(contestant: str) -> bool:
    """Return whether a contestant is ready, or soon installed."""
    return (contestant in LIGHT or is_made(contestant)) and _installed(contestant)


def possible(groups: list[str]) -> list[str]:
    """Return the kinds of work that this machine has the programs for."""
    if "microscopy" not in groups or (all(map(os.path.exists, JARS)) and shutil.which("java")):
        return groups
    print("microscopy is left out. On Debian, install: apt-get install jython libij-java", file=sys.stderr)
    return [group for group in groups if group != "microscopy"]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=_names(CONTESTANTS), default=CONTESTANTS, help="contestants, with commas")
    parser.add_argument("--workload", type=_names(GROUPS), default=GROUPS, help=f"of {', '.join(GROUPS)}")
    parser.add_argument("--rounds", type=int)
    parser.add_argument(
        "--quick", action="store_true", help="usual sizes, and the rounds that 8.5 minutes have room for"
    )
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, one round: a test of the benchmark")
    parser.add_argument(
        "--light", action="store_true", help="leave out large contestants that must be installed first"
    )
    parser.add_argument("--output", type=Path, help="folder for rivals.json and the figures")
    parser.add_argument("--page", type=Path, help="page for the tables, else rivals.md in the output folder")
    parser.add_argument("--redraw", action="store_true", help="measure nothing: read rivals.json of the output folder")
    return parser.parse_args()


def _names(known: tuple[str, ...]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)} is none of {', '.join(known)}")
        return names

    return parse


if __name__ == "__main__":
    main()
