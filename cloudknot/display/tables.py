"""Tables of text, for terminals and for other programs."""

from __future__ import annotations

from collections.abc import Sequence

GAP = "  "
SHORTEST = 8
"""Characters that a shortened cell keeps at least."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None) -> str:
    """Return the rows as text, in aligned columns under a header and a line.

    Parameters
    ----------
    head : sequence of str
    rows : sequence of sequence of str
    width : int, optional
        Shorten the cells of the widest columns, so that a line has at most this number of characters. Default: show
        all cells whole.
    """
    cells = [tuple(head), *map(tuple, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    if width is not None:
        widths = _narrowed(widths, width - len(GAP) * (len(widths) - 1))
    lines = [GAP.join(_padded(cell, size) for cell, size in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def _narrowed(widths: Sequence[int], room: int) -> list[int]:
    """Return the widths of columns that fit into ``room`` characters together, if they can."""
    narrowed = list(widths)
    while sum(narrowed) > room and max(narrowed) > SHORTEST:
        narrowed[narrowed.index(max(narrowed))] -= 1
    return narrowed


def _padded(cell: str, width: int) -> str:
    """Return a cell with exactly ``width`` characters."""
    return shortened(cell, width).ljust(width)


def shortened(text: str, width: int) -> str:
    """Return a text of at most ``width`` characters. A longer one keeps its beginning and its end."""
    if len(text) <= width:
        return text
    end = (width - 1) // 2
    return f"{text[: width - 1 - end]}…{text[len(text) - end :]}"


def size(number: float) -> str:
    """Return a number of bytes in a readable unit, such as ``"1.5 MB"``."""
    for unit in ("bytes", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"
