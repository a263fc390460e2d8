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
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import FrameType
from typing import Any

from . import element, previous_results
from .attempts import Attempts
from .inputs import read_inputs
from .kwargs import with_keywords
from .program import load_function, load_travelled
from .results import ResultWriter
from .s3 import client
from .wire.buffers import Unreachable, Unreadable, loads
from .wire.container import MANIFEST_VARIABLE, TRY_AGAIN, child_index
from .wire.envelope import Envelope, Failure
from .wire.input_index import OFFSET_SIZE, unpack_offsets
from .wire.keys import RunKeys
from .wire.manifest import Manifest, submission_record


def warm() -> None:
    """Load what every child needs, so that a fork of this process need not."""
    client.warm_up()


def main(argv: Sequence[str]) -> int:
    """Run one child, or one element by hand. The exit code is 0 when every element has a value."""
    # Batch gives just the run, and argparse takes its time in a process that was forked for a single element.
    plain = len(argv) == 1 and argv[0].startswith("s3://")
    arguments = argparse.Namespace(run=argv[0], element=None) if plain else _parser().parse_args(argv)
    client.connect()
    keys = RunKeys.parse(arguments.run)
    manifest = _manifest(keys)
    client.encrypt(manifest.sse)
    if arguments.element is not None:
        return _by_hand(keys, manifest, arguments.element)
    _write_lines_at_once()
    signal.signal(signal.SIGTERM, _stop)
    try:
        return _attempt(keys, manifest)
    except Unreachable as error:
        print(f"Batch is asked for another attempt. {error}", file=sys.stderr)
        return TRY_AGAIN
    except element.Stopped:
        print("Batch stopped this job; the results so far are stored.", file=sys.stderr)
        return 128 + signal.SIGTERM


def _attempt(keys: RunKeys, manifest: Manifest) -> int:
    _record(keys, manifest, os.environ)
    attempts = Attempts(keys, manifest.attempts, os.environ)
    return attempts.run(lambda: run_child(keys, manifest, child_index(os.environ), attempts))


def _record(keys: RunKeys, manifest: Manifest, environment: Mapping[str, str]) -> None:
    """Have the first child record the submission, for a client that ended before it did."""
    job_id = environment.get("AWS_BATCH_JOB_ID", "").partition(":")[0]
    if job_id and child_index(environment) == 0:
        record = submission_record(keys.job_name(manifest.round), manifest, [job_id])
        client.write(keys.bucket, keys.started_of(manifest.round), json.dumps(record, sort_keys=True).encode())


def _write_lines_at_once() -> None:
    """Output to a file or pipe waits in a buffer otherwise, and a log would not be live."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    element.stopping.ask()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cloudknot_worker", description=__doc__)
    parser.add_argument("run", help="where the run's objects are: s3://bucket/prefix")
    parser.add_argument("--element", type=int, metavar="N", help="run element N only and print its result")
    return parser


def _manifest(keys: RunKeys) -> Manifest:
    text = os.environ.get(MANIFEST_VARIABLE)
    return Manifest.from_json(text or client.read(keys.bucket, keys.manifest))


def run_child(keys: RunKeys, manifest: Manifest, child: int, attempts: Attempts) -> int:
    """Run the elements of one child that have no stored result yet, and store theirs.

    An element that raises does not stop the others. Its failure is stored by the last attempt; an earlier one leaves
    it to the next.
    """
    todo = _elements(keys, manifest, child)
    todo = _missing(keys, manifest, todo) if attempts.number > 1 else todo
    if not todo:
        return 0
    function, broken = _load(keys, manifest)
    failed = 0
    with ResultWriter(keys, manifest.round) as results:
        for index, load in zip(todo, _inputs(keys, manifest, todo), strict=True):
            outcome = broken or element.run_element(function, load, manifest.starmap)
            failed += not outcome.ok
            if outcome.ok or attempts.last:
                results.add(index, outcome, last=index == todo[-1])
            element.stopping.check()
            del outcome  # It may be large, and would be in memory until the next one is there.
    return 1 if failed else 0


def _load(keys: RunKeys, manifest: Manifest) -> tuple[Callable[..., Any], Envelope | None]:
    """The function, and the outcome of every element where it cannot be loaded."""
    try:
        return _function(keys, manifest), None
    except (element.Stopped, Unreadable):
        raise
    except BaseException as error:
        element.stopping.check()
        print(f"The program could not be loaded: {error!r}", file=sys.stderr)
        return _unloaded, element.not_loaded(error)


def _function(keys: RunKeys, manifest: Manifest) -> Callable[..., Any]:
    """The image's function or the run's own, with the run's keyword arguments."""
    own = manifest.own_function
    function = load_travelled(client.read(keys.bucket, keys.function)) if own else load_function()
    return with_keywords(function, keys, manifest)


def _unloaded(*arguments: Any) -> Any:
    raise RuntimeError("the program could not be loaded")


def _elements(keys: RunKeys, manifest: Manifest, child: int) -> list[int]:
    """The elements of a child; in a round after the first, a slice of those that are to be run again."""
    if not manifest.round:
        return list(manifest.chunk(child))
    first = child * manifest.chunksize
    end = min(first + manifest.chunksize, manifest.todo)
    return unpack_offsets(client.read(keys.bucket, keys.todo(manifest.round), first * OFFSET_SIZE, end * OFFSET_SIZE))


def _missing(keys: RunKeys, manifest: Manifest, elements: list[int]) -> list[int]:
    """Those of a child's elements that no earlier attempt has stored."""
    after, until = keys.output(elements[0], 0), keys.output(elements[-1] + 1, 0)
    stored: set[int] = set()
    for key in client.keys(keys.bucket, keys.outputs, after, until):
        first, count, round = keys.parse_output(key)
        # What an earlier round stored of them is a failure, or it would not be run again.
        if round == manifest.round:
            stored.update(range(first, first + count))
    return [index for index in elements if index not in stored]


def _inputs(keys: RunKeys, manifest: Manifest, todo: list[int]) -> Iterable[Callable[[], Any]]:
    """What gives the inputs of some elements: those that were stored for the run, or another run's results."""
    return previous_results.inputs(manifest, todo) if manifest.source else read_inputs(keys, manifest, todo)


def _by_hand(keys: RunKeys, manifest: Manifest, index: int) -> int:
    if not 0 <= index < manifest.count:
        print(f"Element {index} is not one of this run's {manifest.count}.", file=sys.stderr)
        return 2
    (load,) = _inputs(keys, manifest, [index])
    function = _function(keys, manifest)
    outcome = element.run_element(function, load, manifest.starmap)
    if outcome.ok:
        print(repr(loads(b"".join(outcome.pieces) or outcome.payload)))
        return 0
    failure = Failure.from_bytes(outcome.payload)
    print(f"Element {index} ended with {failure.type}: {failure.message}", file=sys.stderr)
    return failure.exit_code or 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
