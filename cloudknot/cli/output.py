"""The output of commands: tables that fit a terminal, and JSON for other programs."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime

import click

from cloudknot.display.tables import table
from cloudknot.options.streams import is_terminal

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for other programs.")
NARROWEST = 80
"""Characters of a line for which all tables are made."""


def echo_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table. On a terminal, cells are shortened so that it fits. A pipe or file gets all cells whole."""
    width = max(NARROWEST, shutil.get_terminal_size().columns) if is_terminal(sys.stdout) else None
    click.echo(table(head, rows, width))


def echo_json(value: object) -> None:
    """Print a value as JSON on several lines. Times become text, as in ``2026-11-30T12:00:00+00:00``."""
    click.echo(json.dumps(value, indent=2, default=_as_text))


def confirm(question: str) -> None:
    """Ask a question, and end the command unless the answer is yes."""
    try:
        answer = sys.stdin is not None and click.confirm(question)
    except click.Abort:
        # A person at a terminal knows that Ctrl-C ended it.
        if is_terminal(sys.stdin):
            raise
        answer = None
        click.echo()
    if answer is None or sys.stdin is None:
        raise click.ClickException(
            "Nobody has answered the question, so nothing was done. Pass --yes where there is no terminal."
        )
    if not answer:
        raise click.Abort


def as_time(time: datetime | None) -> str:
    """Return a time as text for a table; empty without one."""
    return time.strftime("%Y-%m-%d %H:%M") if time else ""


def _as_text(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
