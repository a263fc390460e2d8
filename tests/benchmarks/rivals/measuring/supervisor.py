"""Run turns, each in a fresh process, and measure their process trees."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks.rivals.environments import folder, python_of, science_versions
from tests.benchmarks.rivals.measuring.watch import MemoryWatch, cpu_seconds, end_tree, reap_orphans, unaccounted
from tests.benchmarks.rivals.plan import WITH_NUMPY, Job, Turn

ROOT = Path(__file__).parents[4]
USUAL_INTERVAL, MEMORY_INTERVAL = 1.0, 0.1
"""Seconds between two looks at the memory of the tree."""
LONGEST = 600
"""Seconds after which a turn has failed."""
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""For all alike: two workers with two threads each would compete for two cores."""


@dataclass(frozen=True)
class Measurement:
    """The costs of one piece of work."""

    group: str
    contestant: str
    workload: str
    way: str
    count: int
    seconds: float
    cpu_seconds: float | None
    """Of all processes: client, servers and workers. None if Linux has dropped the time of some."""
    client_memory: int
    """The largest memory of the user's session, from its start until the end of the work, in bytes."""
    tree_memory: int
    """The largest memory of all processes together, during the work."""
    digest: str
    processes: list[list[Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Start:
    """The costs of a session before the work: imports, servers, workers, knots, and the first tasks."""

    group: str
    contestant: str
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class End:
    """The last step of a turn: the versions of its packages, and its calls."""

    versions: Mapping[str, str]
    calls: Mapping[str, str]


@dataclass(frozen=True)
class Outcome:
    """A turn that has ended."""

    start: Start
    measurements: tuple[Measurement, ...]
    end: End


Step = Start | Measurement | End


class TurnFailed(Exception):
    """A contestant raised an exception, or took too long."""


def run_turn(turn: Turn) -> Outcome:
    """Run a turn, and return its measurements. No process of it is left."""
    start, *measurements, end = steps(turn)
    assert isinstance(start, Start)
    assert isinstance(end, End)
    return Outcome(start, tuple(m for m in measurements if isinstance(m, Measurement)), end)


def steps(turn: Turn) -> Generator[Step, None, None]:
    """Yield the start, each measurement and the end of a turn. The contestant waits until the next one is asked for.

    No process of it is left when the generator ends or is closed.
    """
    with tempfile.TemporaryDirectory(prefix="rivals-") as scratch:
        log = Path(scratch, "stderr")
        before = cpu_seconds()
        with log.open("w") as errors, _process(turn, scratch, errors) as process:
            try:
                yield from _follow(turn, process, before)
            except (EOFError, TimeoutError) as error:
                raise TurnFailed(f"{turn}: {error!r}\n{log.read_text()[-4000:]}") from error


@contextmanager
def _process(turn: Turn, scratch: str, errors: Any) -> Iterator[subprocess.Popen[str]]:
    """Start the turn's process with an empty directory for files. End all processes that descend from it."""
    python = python_of(turn.contestant)
    command = [python, "-m", "tests.benchmarks.rivals.measuring.turn", repr(time.time())]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors, "text": True}
    process = subprocess.Popen(command, cwd=ROOT, env=_environment(turn, python, scratch), **pipes)
    try:
        yield process
        process.wait(LONGEST)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()
        end_tree()


def _environment(turn: Turn, python: Path, scratch: str) -> dict[str, str]:
    """Return variables without settings of the user. Programs of the environment are found first."""
    kept = ("PATH", "HOME", "LANG", "JAVA_HOME", "PIP_", "UV_", "SSL_CERT_FILE")
    variables = {name: value for name, value in os.environ.items() if name.startswith(kept)}
    examples = [ROOT / "examples" / name for name in ("heat_equation", "diffusion_mri", "microscopy")]
    return {
        **variables,
        **ONE_THREAD,
        "PATH": f"{python.parent}{os.pathsep}{variables['PATH']}",
        "PYTHONPATH": os.pathsep.join(map(str, [ROOT, *examples])),
        "TMPDIR": scratch,
        "AWS_EC2_METADATA_DISABLED": "true",
        "CLOUDKNOT_LOCAL_ENVIRONMENTS": str(folder().parent / "environments"),
        "RIVALS_REQUIREMENTS": " ".join(_requirements(turn)),
    }


def _requirements(turn: Turn) -> Sequence[str]:
    needed = turn.contestant == "cloudknot" and any(job.workload in WITH_NUMPY for job in turn.jobs)
    return science_versions() if needed else []


def _follow(turn: Turn, process: subprocess.Popen[str], before: float) -> Iterator[Step]:
    """Follow the turn's events to its end."""
    _write(process, asdict(turn))
    ready = _read(process)
    reap_orphans(process.pid)
    yield Start(turn.group, turn.contestant, ready["seconds"], cpu_seconds() - before)
    for job in turn.jobs:
        _write(process, {})
        yield _measure(turn, job, process)
    _write(process, {})
    done = _read(process)
    _write(process, {})
    yield End({"Python": done["python"], **done["versions"]}, done["calls"])


def _measure(turn: Turn, job: Job, process: subprocess.Popen[str]) -> Measurement:
    _read(process)
    watch = MemoryWatch(MEMORY_INTERVAL if job.for_memory else USUAL_INTERVAL)
    droppable, before = unaccounted(), cpu_seconds()
    _write(process, {})
    end = _read(process)
    reap_orphans(process.pid)
    cpu = cpu_seconds() - before if droppable <= unaccounted() else None
    memory = watch.stop()
    values = {name: end[name] for name in ("seconds", "client_memory", "digest", "processes")}
    identity = {"workload": job.workload, "way": job.way, "count": job.count, "contestant": turn.contestant}
    group = "memory" if job.for_memory else turn.group
    return Measurement(group, **identity, **values, cpu_seconds=cpu, tree_memory=memory)


def _write(process: subprocess.Popen[str], message: Mapping[str, Any]) -> None:
    assert process.stdin
    process.stdin.write(json.dumps(message) + "\n")
    process.stdin.flush()


def _read(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Return the next event."""
    assert process.stdout
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(LONGEST):
            raise TimeoutError(f"no event in {LONGEST} seconds")
    line = process.stdout.readline()
    if not line:
        raise EOFError("the process ended early")
    event: dict[str, Any] = json.loads(line)
    return event
