"""Summaries of objects: one line for ``repr``, and compact HTML for notebooks.

All functions are pure. They make no requests, and every value is escaped. The HTML has middle tones and inherits the
colour of text, so it is legible in light and dark notebooks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape

from cloudknot.display.progress import Snapshot, describe
from cloudknot.display.tables import table
from cloudknot.display.terminal import DONE, FAILED, QUIET, RUNNING

ROWS = 20
"""Rows of a table that are shown. A knot may have thousands of maps."""


@dataclass(frozen=True)
class Summary:
    """The facts about one object.

    Attributes
    ----------
    kind, name : str
        The class and the name: ``"BatchJob"``, ``"squares"``.
    state : str
        The state in words: ``"9 done, 1 failed, 2 running"``.
    size : str
        The size in words: ``"12 elements"``. Empty without one.
    shares : tuple of (float, str)
        The parts of a bar: a share of 1, and a colour. Empty for an object without a bar.
    details : tuple of (str, str)
        Further names and values, for notebooks only.
    failure : str
        The first failure, for notebooks only. Empty without one.
    """

    kind: str
    name: str
    state: str
    size: str = ""
    shares: tuple[tuple[float, str], ...] = ()
    details: tuple[tuple[str, str], ...] = ()
    failure: str = ""

    def line(self) -> str:
        """Return the summary in one line: ``<BatchJob squares 12 elements: 9 done, 1 failed, 2 running>``."""
        head = " ".join(part for part in (self.kind, self.name, self.size) if part)
        return f"<{head}: {self.state}>"

    def html(self) -> str:
        """Return the summary as HTML for a notebook."""
        size = f" {_quiet(self.size)}" if self.size else ""
        head = f"<div><b>{escape(self.name)}</b> {_quiet(self.kind)}{size}</div>"
        state = f"<div>{escape(self.state)}</div>"
        details = " &nbsp; ".join(
            f'<span style="white-space:nowrap">{_quiet(name)} {escape(value)}</span>'
            for name, value in self.details
            if value
        )
        failure = f'<div style="color:{FAILED}">{escape(self.failure)}</div>' if self.failure else ""
        parts = [head, _bar(self.shares), state, failure, f"<div>{details}</div>" if details else ""]
        return f'<div style="line-height:1.5;padding:2px 0">{"".join(parts)}</div>'


def summary_of_map(
    kind: str, name: str, count: int, now: Snapshot, details: Sequence[tuple[str, str]] = ()
) -> Summary:
    """Return the summary of a map of ``count`` elements with this progress."""
    live = describe(now.states, count) if now.ended < count else ""
    # Nothing is known about the jobs of a map before the first look at it.
    waiting = "" if live or now.ended == count else f"{count - now.ended:,} not ended"
    numbers = ((now.failed, "failed"), (now.cancelled, "cancelled"))
    counts = [f"{now.done:,} done", *(f"{number:,} {word}" for number, word in numbers if number)]
    running = now.states.get("RUNNING", 0) if sum(now.states.values()) == count else 0
    amounts = ((now.done, DONE), (now.failed, FAILED), (now.cancelled, QUIET), (running, RUNNING))
    return Summary(
        kind,
        name,
        ", ".join(filter(None, [*counts, live, waiting])),
        elements(count),
        tuple((min(1.0, amount / count), colour) for amount, colour in amounts if amount and count),
        tuple(details),
        now.failure,
    )


def summary_of_jobs(
    kind: str, name: str, count: int, states: Mapping[str, int], details: Sequence[tuple[str, str]] = ()
) -> Summary:
    """Return the summary of a map from the number of its child jobs in each of Batch's states.

    ``count`` is the number of elements if each has a child job, else 0: then only jobs can be counted.
    """
    jobs = sum(states.values())
    if not jobs:
        return Summary(kind, name, "not known to AWS Batch now", elements(count) if count else "", (), tuple(details))
    now = Snapshot(states.get("SUCCEEDED", 0), states.get("FAILED", 0), states=states)
    summary = summary_of_map(kind, name, jobs, now, details)
    return summary if count == jobs else replace(summary, size="1 job" if jobs == 1 else f"{jobs:,} jobs")


def elements(count: int) -> str:
    """Return a number of elements in words."""
    return "1 element" if count == 1 else f"{count:,} elements"


def safely(make: Callable[[], str], kind: str) -> str:
    """Return the text that ``make`` returns, or ``<kind>`` if it fails. A repr in a debugger must never raise."""
    try:
        return make()
    except Exception:
        return f"<{kind}>"


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> str:
    """Return the last rows as a table of text, with the number of the rows before them; ``empty`` without rows."""
    if not rows:
        return empty
    lines = table(head, rows[-ROWS:])
    return f"{lines}\n{_hidden(rows)}" if len(rows) > ROWS else lines


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> str:
    """Return the last rows as HTML; ``empty`` without rows."""
    if not rows:
        return f"<div>{escape(empty)}</div>"
    style = ' style="text-align:left"'
    names = "".join(f"<th{style}>{escape(name)}</th>" for name in head)
    lines = ["".join(f"<td{style}>{escape(cell)}</td>" for cell in row) for row in rows[-ROWS:]]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    hidden = _quiet(_hidden(rows)) if len(rows) > ROWS else ""
    return f"<table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>{hidden}"


def _hidden(rows: Sequence[object]) -> str:
    return f"{len(rows) - ROWS:,} earlier ones are not shown."


def _quiet(text: str) -> str:
    return f'<span style="opacity:.65">{escape(text)}</span>'


def _bar(shares: Sequence[tuple[float, str]]) -> str:
    """Return a bar with coloured parts, empty without parts."""
    if not shares:
        return ""
    parts = "".join(f'<span style="width:{share:.2%};background:{colour}"></span>' for share, colour in shares)
    style = f"display:flex;width:24em;max-width:100%;height:6px;border-radius:3px;overflow:hidden;background:{QUIET}44"
    return f'<div style="{style};margin:3px 0">{parts}</div>'
