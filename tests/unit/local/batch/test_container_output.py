"""The Docker runner merges a container's stdout and stderr into one log. Lists of pieces stand in for the engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudknot.local.runners.docker import LONGEST_LINE, copy_output

LONG = b"x" * LONGEST_LINE


@pytest.mark.parametrize(
    ("pieces", "log"),
    [
        ([(b"one\ntw", None), (None, b"problem\n"), (b"o\nend", None)], b"one\nproblem\ntwo\nend\n"),
        ([(b"a", b"b")], b"a\nb\n"),
        ([], b""),
        ([(LONG, None), (b"x", None), (b"y", None)], LONG + b"xy\n"),
    ],
    ids=["interleaved lines", "two unfinished lines", "no output", "line longer than the buffer"],
)
def test_log_keeps_lines_of_both_outputs_whole(
    tmp_path: Path, pieces: list[tuple[bytes | None, bytes | None]], log: bytes
) -> None:
    copy_output(pieces, tmp_path / "log")
    assert (tmp_path / "log").read_bytes() == log


def test_log_keeps_output_received_before_connection_to_engine_broke(tmp_path: Path) -> None:
    def broken() -> Iterator[tuple[bytes, None]]:
        yield b"one\ntw", None
        raise ConnectionResetError

    copy_output(broken(), tmp_path / "log")
    assert (tmp_path / "log").read_bytes() == b"one\ntw\n"
