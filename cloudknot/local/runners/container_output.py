"""A container's output on its way to the file that its log is made from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

LONGEST_LINE = 256 * 1024
"""Bytes of a line that are held back until it ends."""


def copy_output(output: Iterable[tuple[bytes | None, bytes | None]], path: Path) -> None:
    """Write a container's output to a file, as it comes, until it ends or the engine goes away.

    A line of standard output and one of standard error stay two, also where one is begun before the other has ended.
    """
    begun = [b"", b""]
    with path.open("wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            for pieces in output:
                for number, piece in enumerate(pieces):
                    lines, newline, rest = (begun[number] + (piece or b"")).rpartition(b"\n")
                    file.write(lines + newline)
                    if len(rest) > LONGEST_LINE:
                        file.write(rest)
                        rest = b""
                    begun[number] = rest
        for rest in filter(None, begun):
            file.write(rest + b"\n")
