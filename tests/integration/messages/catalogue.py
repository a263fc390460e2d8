"""Cases that make messages, and the places in the package that they reach.

A case is a function that takes a `World`. It raises an error, gives a warning, or returns errors.
"""

from __future__ import annotations

import ast
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import click
import pytest

import cloudknot as ck
from cloudknot import errors
from tests.helpers.paths import ROOT

PACKAGE = ROOT / "cloudknot"
MAKERS = {*errors.__all__, "UsageError", "ClickException", "BadParameter"}
"""Names of callables that make a message. `cloudknot.errors.refuse` is another one."""
INTERNAL = {
    "cloudknot/run/collect/collector.py:complete": "MapFuture.exception() gives the first element's error instead",
}
"""Functions with one message that a person never sees, and the reason."""
LOGGED = "logged"
"""The kind of a message that the logger ``cloudknot`` shows. It may be news without a fix."""


@dataclass(frozen=True)
class World:
    """The surroundings of a case: a running embedded cloud, an empty directory, and the environment."""

    cloud: ck.LocalCloud
    path: Path
    patch: pytest.MonkeyPatch


Case = Callable[[World], object]


@dataclass(frozen=True, order=True)
class Message:
    """A message as a person reads it, with its kind of error and its area."""

    area: str
    kind: str
    text: str


@dataclass
class Area:
    """The cases for one area of the package."""

    name: str
    cases: list[Case] = field(default_factory=list)

    def case(self, function: Case) -> Case:
        """Add a function to the cases."""
        self.cases.append(function)
        return function

    def refuses(self, function: Callable[..., object], *choices: dict[str, Any]) -> None:
        """Add a case for each set of keyword arguments that ``function`` refuses."""
        self.cases += [lambda world, arguments=arguments: function(**arguments) for arguments in choices]  # type: ignore[misc]

    def messages(self, case: Case, world: World) -> Iterator[Message]:
        """Yield the messages that a case makes: errors, warnings, logged warnings, and texts that it returns.

        Raises
        ------
        AssertionError
            The case makes no message.
        """
        with warnings.catch_warnings(record=True) as caught, _logged() as records:
            warnings.simplefilter("always")
            try:
                made = case(world)
            except (ck.CloudknotError, click.ClickException, RuntimeError) as error:
                made = error
        returned = made if isinstance(made, list) else [made]
        items: list[object] = [item for item in returned if isinstance(item, BaseException | str)]
        items += [str(warning.message) for warning in caught]
        logged = [record.getMessage() for record in records]
        assert items or logged, f"this case of {self.name} makes no message: line {case.__code__.co_firstlineno}"
        for item in items:
            kind = "warning" if isinstance(item, str) else type(item).__name__
            text = item.format_message() if isinstance(item, click.ClickException) else str(item)
            yield Message(self.name, kind, text)
        yield from (Message(self.name, LOGGED, text) for text in logged)


def error_of(act: Callable[[], object]) -> ck.CloudknotError:
    """Return the error that an act raises; it must raise one."""
    with pytest.raises(ck.CloudknotError) as caught:
        act()
    return caught.value


@contextmanager
def _logged() -> Iterator[list[logging.LogRecord]]:
    """Collect the warnings that cloudknot logs."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = records.append  # type: ignore[method-assign]
    logging.getLogger("cloudknot").addHandler(handler)
    try:
        yield records
    finally:
        logging.getLogger("cloudknot").removeHandler(handler)


@dataclass(frozen=True)
class Site:
    """A call in the package that makes a message."""

    file: str
    function: str
    first: int
    last: int

    @property
    def place(self) -> str:
        """File and function, as in `INTERNAL`."""
        return f"{self.file}:{self.function}"

    def __str__(self) -> str:
        return f"{self.file}:{self.first} in {self.function}"


def sites() -> list[Site]:
    """Return every call in the package that makes a message, except the `INTERNAL` ones.

    Raises
    ------
    AssertionError
        A function in `INTERNAL` has not exactly one message.
    """
    all_sites = [
        site for file in sorted(PACKAGE.rglob("*.py")) for site in sites_in(file, str(file.relative_to(ROOT)))
    ]
    internal = [site for site in all_sites if site.place in INTERNAL]
    assert sorted(site.place for site in internal) == sorted(INTERNAL)
    return [site for site in all_sites if site.place not in INTERNAL]


def sites_in(file: Path, name: str) -> Iterator[Site]:
    """Yield the calls of one file that make an error of the tree, of the command line, or a warning."""
    tree = ast.parse(file.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    imports = [
        node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "cloudknot.errors"
    ]
    imported = {alias.asname or alias.name for node in imports for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _makes_message(node.func, imported):
            around = [f.name for f in functions if f.lineno <= node.lineno <= (f.end_lineno or 0)]
            # `refuse` itself makes no message of its own: each of its callers does.
            if around[-1:] != ["refuse"]:
                yield Site(name, around[-1] if around else "", node.lineno, node.end_lineno or node.lineno)


def _makes_message(function: ast.expr, imported: set[str]) -> bool:
    name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
    caller = ast.unparse(function.value) if isinstance(function, ast.Attribute) else ""
    if name == "warn":
        return caller in ("warnings", "streams")
    if name == "warning":
        return caller in ("_log", "logger", "streams.logger")
    # Other modules have functions named `refuse`, too.
    return name in MAKERS or (name == "refuse" and name in imported)


class Watch:
    """A tracer that records the executed lines in functions with sites."""

    def __init__(self, wanted: list[Site]) -> None:
        self.lines: set[tuple[str, int]] = set()
        self._files = {str(ROOT / site.file): site.file for site in wanted}
        self._wanted = {(site.file, line) for site in wanted for line in range(site.first, site.last + 1)}
        # Most functions have no site. A trace of their lines would take several times as long as the functions.
        self._traced: dict[CodeType, bool] = {}

    def reached(self, site: Site) -> bool:
        """Return whether one of the site's lines was executed."""
        return any((site.file, line) in self.lines for line in range(site.first, site.last + 1))

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Trace this thread, and each thread that the block starts."""
        before = sys.gettrace()
        threading.settrace(self._call)
        sys.settrace(self._call)
        try:
            yield
        finally:
            sys.settrace(before)
            threading.settrace(None)  # type: ignore[arg-type]

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        if code not in self._traced:
            file = self._files.get(code.co_filename)
            self._traced[code] = any((file, line) in self._wanted for *_, line in code.co_lines())
        return self._line if self._traced[code] else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        self.lines.add((self._files[frame.f_code.co_filename], frame.f_lineno))
        return self._line
