"""The embedded cloud's own process: ``python -m cloudknot.local.server --directory D``.

A session starts it with ``--arguments-from-stdin``, and sends the arguments when it needs the cloud.
It serves HTTP on 127.0.0.1, and writes its address and its owner's key to ``D/cloud.json``. It ends on SIGTERM, on a
signed stop request, or after ``--idle`` seconds without requests and live jobs. All job processes end with it.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from cloudknot.errors import CKTimeoutError, CloudknotInputError
from cloudknot.local.directory.claim import claim
from cloudknot.local.directory.deletion import finish_deletion
from cloudknot.local.directory.files import SCRATCH, server_lock, state_file
from cloudknot.local.directory.identity import Identity
from cloudknot.local.directory.locks import locked
from cloudknot.local.options import local_command
from cloudknot.local.server.assembly import Server
from cloudknot.local.server.process.arguments import read_arguments
from cloudknot.local.server.process.open_files import raise_file_limit

LOCK_PATIENCE = 1.0
"""Seconds. A session that checks for a running cloud holds the lock for a moment."""


def main(argv: Sequence[str], server: Callable[[argparse.Namespace, Path], Server]) -> int:
    """Serve until the cloud is stopped. Return the exit code."""
    options = read_arguments(argv, __doc__)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
    # waitress warns whenever requests queue, but that is normal here: 16 threads answer a client's 64 connections.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    raise_file_limit()
    try:
        claim(options.directory)
    except CloudknotInputError as error:
        print(error, file=sys.stderr)
        return 1
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(server_lock(options.directory), LOCK_PATIENCE))
        except CKTimeoutError:
            print(
                f"An embedded cloud already runs in {options.directory}. "
                f"Stop it with `{local_command('stop', options.directory)}`, "
                "or choose another directory.",
                file=sys.stderr,
            )
            return 1
        # A killed cloud leaves its state file behind. The process id in it may belong to another program by now.
        state_file(options.directory).unlink(missing_ok=True)
        finish_deletion(options.directory)
        server(options, stack.enter_context(_scratch(options.directory))).run()
    return 0


@contextlib.contextmanager
def _scratch(directory: Path) -> Iterator[Path]:
    """Yield an empty directory for the files of jobs, and delete it when this process ends."""
    scratch = directory / SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o700, exist_ok=True)
    place = Identity(scratch)
    try:
        yield scratch
    finally:
        if place.remains():
            shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Server))
