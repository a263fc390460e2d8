"""The benchmark of cloudknot and its rivals, at tiny sizes, with the real libraries."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from tests.conftest import CACHE

pytest.importorskip("matplotlib", reason="the benchmark draws with matplotlib, of the extra `examples`")

from tests.benchmarks.rivals.__main__ import possible
from tests.benchmarks.rivals.measuring.supervisor import End, Outcome, Start
from tests.benchmarks.rivals.plan import CONTESTANTS, FRESH_SHARES, LIGHT, ONLY_FRESH, TINY
from tests.benchmarks.rivals.reporting.tables import NAMES
from tests.benchmarks.rivals.results import Results, WrongResult

ROOT = Path(__file__).parents[3]
pytestmark = [pytest.mark.examples, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """Return the folder with the figures of a tiny run. The processes of a parallel test run share one."""
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "rivals"
    log = shared.with_suffix(".log")
    with FileLock(f"{shared}.lock"):
        # Written after the run, also after a failed one, so that no process runs it again.
        if not log.exists():
            log.write_text(_run(shared), encoding="utf-8")
    failure = log.read_text(encoding="utf-8")
    assert not failure, failure
    return shared


def _run(folder):
    """Run the benchmark. Return its output if it fails, else an empty text."""
    command = [sys.executable, "-m", "tests.benchmarks.rivals", "--tiny", "--light", "--output", str(folder)]
    # The home of a test run is empty, so name the shared cache.
    variables = {**os.environ, "XDG_CACHE_HOME": str(CACHE.parent)}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
    return f"The benchmark failed. {done.stderr}" if done.returncode else ""


@pytest.fixture(scope="module")
def results(output):
    return Results.read(output / "rivals.json")


def skip_unless_installed(contestant, results):
    """Skip the test of a large rival, such as Ray, that no benchmark has installed on this machine."""
    if contestant not in LIGHT and contestant not in {m.contestant for m in results.measurements}:
        pytest.skip(f"{contestant} is not installed, as `python -m tests.benchmarks.rivals --tiny` would")


@pytest.mark.parametrize("contestant", CONTESTANTS)
def test_contestant_has_right_results_and_rows(contestant, output, results):
    skip_unless_installed(contestant, results)
    measured = [m for m in results.measurements if m.contestant == contestant]
    work = {"trivial", "process", "short", "arrays"}
    if contestant not in ONLY_FRESH:
        work |= {"pi", "heat", "mri"} | ({"microscopy"} if possible(["microscopy"]) else set())
    assert {m.workload for m in measured} == work
    squares = {repr([x * x for x in range(count)]) for count in (TINY.few, TINY.many, TINY.fresh)}
    right = {hashlib.sha256(text.encode()).hexdigest() for text in squares}
    assert {m.digest for m in measured if m.workload == "trivial"} <= right
    serial = {(m.workload, m.digest) for m in results.serial}
    assert {(m.workload, m.digest) for m in measured if m.workload != "process"} <= serial
    rows = [line for line in (output / "rivals.md").read_text().splitlines() if line.startswith("| ")]
    # Two tables of overhead, two of elements of a second, and those of short elements, arrays, memory, start-up and
    # processes.
    tables = 9 if contestant not in ONLY_FRESH else 5
    assert sum(row.startswith(f"| {NAMES[contestant]}") for row in rows) >= tables


@pytest.mark.parametrize("contestant", FRESH_SHARES)
def test_isolating_contestant_has_a_process_for_each_element(contestant, results):
    skip_unless_installed(contestant, results)
    found = [m for m in results.measurements if m.workload == "process" and m.contestant == contestant]
    processes = {tuple(process[:2]) for m in found for process in m.processes}
    assert len(processes) == sum(m.count for m in found) > 0


def test_costs_are_measured(output, results):
    assert all(m.seconds > 0 and m.client_memory > 1e6 and m.tree_memory > 1e6 for m in results.measurements)
    # Linux drops the CPU time of Ray's ended workers.
    assert all(m.cpu_seconds is None or m.cpu_seconds >= 0 for m in results.measurements)
    assert {m.contestant for m in results.measurements if m.cpu_seconds is None} <= {"ray"}
    drawings = {f"rivals_{name}.svg" for name in ("overhead", "science", "memory")}
    assert {path.name for path in output.iterdir()} == {*drawings, "rivals.json", "rivals.md"}
    assert json.loads((output / "rivals.json").read_text())["sizes"][0]["rounds"] == 1


def test_wrong_result_fails_the_benchmark(results):
    right = next(m for m in results.measurements if m.workload == "trivial")
    start = Start(right.group, right.contestant, 1, 1)
    again = Results(TINY)
    again.serial = results.serial
    again.add(Outcome(start, (right,), End({}, {})))
    with pytest.raises(WrongResult):
        again.add(Outcome(start, (dataclasses.replace(right, digest="another"),), End({}, {})))
