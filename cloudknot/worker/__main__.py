"""``python -m cloudknot_worker s3://bucket/prefix``: read a chunk of the inputs, call the function, store the results.

Batch starts this program once for each child. By hand, ``--element N`` runs one element and prints its result without
storing it.
"""

from __future__ import annotations

import argparse
import io
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
from .program.load import load_ahead
from .program.load import warm as warm_program
from .program.own_modules import own_modules
from .program.own_modules import warm as warm_own_modules
from .program.seeds import set_element
from .s3.client import connect
from .s3.plain_requests import PlainRequests
from .stored_run import StoredRun
from .stored_run import prepare as prepare_run
from .wire.buffers import Unreachable, loads
from .wire.container import TRY_AGAIN, child_index
from .wire.documents import to_document
from .wire.failure import Failure
from .wire.manifest import submission_record


def warm() -> None:
    """Load everything that a child needs, so that a fork of this process need not load it."""
    connect().plain.warm_up()
    warm_own_modules()
    warm_program()


def warm_further() -> None:
    """Load the function, after the imports of all jobs, if no job can notice that. The last step before the forks."""
    own_modules.enable()
    load_ahead()


def prepare(argv: Sequence[str], environment: Mapping[str, str]) -> None:
    """Read what all children of a run read, before this process forks one with these arguments and variables."""
    if len(argv) == 1:
        prepare_run(argv[0], environment)


def shared_requests() -> PlainRequests:
    """Return the requests of this process, which lends their connections to its forks."""
    return connect().plain


def main(argv: Sequence[str]) -> int:
    """Run one child, or one element by hand. Return exit code 0 if every element has a value."""
    # argparse is slow in a process that was forked for a single element, and Batch passes only the run.
    if len(argv) == 1 and argv[0].startswith("s3://"):
        run = StoredRun.at(argv[0], os.environ)
    else:
        arguments = _parser().parse_args(argv)
        run = StoredRun.at(arguments.run, os.environ, arguments.owner)
        if arguments.element is not None:
            return _run_by_hand(run, arguments.element)
    _write_lines_at_once()
    signal.signal(signal.SIGTERM, _stop)
    try:
        return _attempt(run, os.environ)
    except Unreachable as error:
        print(f"{error}. This attempt ends, and Batch starts another one if attempts are left.", file=sys.stderr)
        return TRY_AGAIN
    except element.Stopped:
        print("Batch stopped this job. The results so far are stored.", file=sys.stderr)
        return 128 + signal.SIGTERM


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cloudknot_worker", description=__doc__)
    parser.add_argument("run", help="URL of the run: s3://bucket/prefix")
    parser.add_argument("--element", type=int, metavar="N", help="run only element N and print its result")
    parser.add_argument("--owner", metavar="ACCOUNT", default="", help="account of the bucket, if it is not your own")
    return parser


def _write_lines_at_once() -> None:
    """Flush output after each line."""
    # Python buffers output to a file or pipe. The job's log would then lag behind.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not stream.line_buffering:
            stream.reconfigure(line_buffering=True)


def _stop(number: int, frame: FrameType | None) -> None:
    # A second SIGTERM could interrupt the clean-up after the first one.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    element.stop_signal.receive()


def _attempt(run: StoredRun, environment: Mapping[str, str]) -> int:
    _record(run, environment)
    attempts = Attempts(run, environment)
    return attempts.run(lambda: _run_child(run, child_index(environment), attempts))


def _run_child(run: StoredRun, child: int, attempts: Attempts) -> int:
    # In the process that calls the function: another one watches it if several attempts are left.
    own_modules.enable()
    return run_child(run, child, attempts)


def _record(run: StoredRun, environment: Mapping[str, str]) -> None:
    """Store the record of the submission, if this is the first child."""
    # The client may have died between SubmitJob and its own record, and Batch forgets jobs some days after they end.
    job_id = environment.get("AWS_BATCH_JOB_ID", "").partition(":")[0]
    if job_id and child_index(environment) == 0:
        round = run.manifest.round
        record, key = submission_record(run.keys.job_name(round), run.manifest, [job_id]), run.keys.started_of(round)
        run.write(key, to_document(record, key))


def _run_by_hand(run: StoredRun, index: int) -> int:
    count = run.manifest.count
    if not 0 <= index < count:
        print(f"Element {index} does not exist. This run has elements 0 to {count - 1}.", file=sys.stderr)
        return 2
    own_modules.enable()
    (load,) = inputs_of(run, [index])
    function = function_of(run)
    set_element(index)
    outcome = element.run_element(function, load, run.manifest.starmap)
    if outcome.ok:
        print(repr(loads(b"".join(outcome.pieces) or outcome.payload)))
        return 0
    failure = Failure.from_bytes(outcome.payload)
    print(f"Element {index} failed with {failure.type}: {failure.message}", file=sys.stderr)
    return failure.exit_code or 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
