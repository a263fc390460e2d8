"""``python -m cloudknot_worker s3://bucket/prefix``: fetch a slice of the input, run the function, store results.

Batch starts it once for each child. By hand, ``--element N`` runs one element and prints what comes out, without
storing it.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from types import FrameType

from . import element
from .attempts import Attempts
from .child import run_child
from .function import function_of
from .inputs import inputs_of
from .s3.client import connect
from .stored_run import StoredRun
from .wire.buffers import Unreachable, loads
from .wire.container import TRY_AGAIN, child_index
from .wire.failure import Failure
from .wire.manifest import submission_record


def warm() -> None:
    """Load what every child needs, so that a fork of this process need not."""
    connect().plain.warm_up()


def main(argv: Sequence[str]) -> int:
    """Run one child, or one element by hand. The exit code is 0 when every element has a value."""
    # Batch gives just the run, and argparse takes its time in a process that was forked for a single element.
    plain = len(argv) == 1 and argv[0].startswith("s3://")
    arguments = argparse.Namespace(run=argv[0], element=None) if plain else _parser().parse_args(argv)
    run = StoredRun.at(arguments.run, os.environ)
    if arguments.element is not None:
        return _by_hand(run, arguments.element)
    _write_lines_at_once()
    signal.signal(signal.SIGTERM, _stop)
    try:
        return _attempt(run, os.environ)
    except Unreachable as error:
        print(f"Batch is asked for another attempt. {error}", file=sys.stderr)
        return TRY_AGAIN
    except element.Stopped:
        print("Batch stopped this job; the results so far are stored.", file=sys.stderr)
        return 128 + signal.SIGTERM


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cloudknot_worker", description=__doc__)
    parser.add_argument("run", help="where the run's objects are: s3://bucket/prefix")
    parser.add_argument("--element", type=int, metavar="N", help="run element N only and print its result")
    return parser


def _write_lines_at_once() -> None:
    """Output to a file or pipe waits in a buffer otherwise, and a log would not be live."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    element.stopping.ask()


def _attempt(run: StoredRun, environment: Mapping[str, str]) -> int:
    _record(run, environment)
    attempts = Attempts(run, environment)
    return attempts.run(lambda: run_child(run, child_index(environment), attempts))


def _record(run: StoredRun, environment: Mapping[str, str]) -> None:
    """Have the first child record the submission, for a client that ended before it did."""
    job_id = environment.get("AWS_BATCH_JOB_ID", "").partition(":")[0]
    if job_id and child_index(environment) == 0:
        round = run.manifest.round
        record = submission_record(run.keys.job_name(round), run.manifest, [job_id])
        run.write(run.keys.started_of(round), json.dumps(record, sort_keys=True).encode())


def _by_hand(run: StoredRun, index: int) -> int:
    if not 0 <= index < run.manifest.count:
        print(f"Element {index} is not one of this run's {run.manifest.count}.", file=sys.stderr)
        return 2
    (load,) = inputs_of(run, [index])
    outcome = element.run_element(function_of(run), load, run.manifest.starmap)
    if outcome.ok:
        print(repr(loads(b"".join(outcome.pieces) or outcome.payload)))
        return 0
    failure = Failure.from_bytes(outcome.payload)
    print(f"Element {index} ended with {failure.type}: {failure.message}", file=sys.stderr)
    return failure.exit_code or 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
