"""The arguments of the server: from its command line, or later from the session that started it."""

from __future__ import annotations

import argparse
import json
import os
import select
import sys
from collections.abc import Sequence
from pathlib import Path

from cloudknot.local.batch.resource_api import QUOTA
from cloudknot.local.directory.files import log_file
from cloudknot.local.options import ARGUMENTS_FROM_STDIN
from cloudknot.local.runners.choice import DEFAULT, RUNNERS

DAY = 24 * 3600.0
ARGUMENTS_TIMEOUT = 30.0
"""Seconds that a process without arguments waits for them."""


def read_arguments(argv: Sequence[str], description: str | None) -> argparse.Namespace:
    """Return the options of the server. Detach from the starting session first, if it sends them later."""
    return _parse(_arguments_later() if list(argv) == [ARGUMENTS_FROM_STDIN] else argv, description)


def _arguments_later() -> Sequence[str]:
    """Detach from the starting session, and return the arguments that it sends when it needs a cloud.

    Until then, the process has made its imports and nothing else. Exit if no arguments come.
    """
    # Before any thread starts: a child has only the thread that called fork.
    if os.fork():
        os._exit(0)
    # A process that the session forked may keep the pipe open.
    readable, _, _ = select.select([sys.stdin], [], [], ARGUMENTS_TIMEOUT)
    text = sys.stdin.read() if readable else ""
    if not text:
        raise SystemExit(0)
    argv: list[str] = json.loads(text)
    directory = Path(argv[argv.index("--directory") + 1])
    os.chdir(directory)
    with log_file(directory).open("ab") as log, open(os.devnull, "rb") as nothing:
        for source, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source.fileno(), target)
    return argv


def _parse(argv: Sequence[str], description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m cloudknot.local.server", description=description)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0, help="default: any free port")
    parser.add_argument("--vcpus", type=float, default=os.cpu_count() or 1, help="default: those of this machine")
    parser.add_argument(
        "--quota", type=int, default=QUOTA, help="maximum of job queues, and of compute environments; default: AWS's"
    )
    parser.add_argument("--runner", choices=tuple(RUNNERS), default=DEFAULT, help="how jobs are executed")
    parser.add_argument("--registry", metavar="HOST:PORT", help="registry with the images, for --runner docker")
    parser.add_argument("--iam", action="store_true", help="accept keys created by IAM, and enforce their policies")
    parser.add_argument("--idle", type=float, default=DAY, metavar="SECONDS", help="default: a day")
    parser.add_argument("--ready-fd", type=int, help="descriptor that gets a line when the server is ready")
    options = parser.parse_args(argv)
    if RUNNERS[options.runner].needs_registry != bool(options.registry):
        parser.error("--runner docker and --registry need each other. Pass both, or neither.")
    return options
