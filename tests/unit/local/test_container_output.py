"""Lines of a container's two outputs in one file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudknot.local.runners.docker import LONGEST_LINE, copy_output

LONG = b"x" * LONGEST_LINE


@pytest.mark.parametrize(
    ("pieces", "written"),
    [
        ([(b"one\ntw", None), (None, b"problem\n"), (b"o\nend", None)], b"one\nproblem\ntwo\nend\n"),
        ([(b"a", b"b")], b"a\nb\n"),
        ([], b""),
        ([(LONG, None), (b"x", None), (b"y", None)], LONG + b"xy\n"),
    ],
)
def test_lines_stay_whole(tmp_path: Path, pieces: list[tuple[bytes | None, bytes | None]], written: bytes) -> None:
    copy_output(pieces, tmp_path / "log")
    assert (tmp_path / "log").read_bytes() == written


def test_an_engine_that_goes_away_leaves_what_there_was(tmp_path: Path) -> None:
    def broken() -> Iterator[tuple[bytes, None]]:
        yield b"one\ntw", None
        raise ConnectionResetError

    copy_output(broken(), tmp_path / "log")
    assert (tmp_path / "log").read_bytes() == b"one\ntw\n"
