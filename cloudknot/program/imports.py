"""List the imports of a piece of code from its source or bytecode. Executes and imports nothing."""

from __future__ import annotations

import ast
import dis
import importlib.util
import re
import threading
import warnings
from collections.abc import Iterator
from types import CodeType

from cloudknot.aws.sdk import forks

# Python 3.11 (seen with 3.11.7) may raise a SystemError when two threads parse at once.
PARSING = forks.renewed(threading.Lock())

_SYSTEM = re.compile(
    r"\b(sys\.platform|os\.name|platform\.(system|platform|uname))\b|win(32|dows)|darwin|mac_?os", re.IGNORECASE
)
"""The words of a condition that asks for the system."""
_CATCHES_IMPORT_ERRORS = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}


def nested_codes(code: CodeType) -> Iterator[CodeType]:
    """Yield a code object and those of the functions and classes defined inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from nested_codes(constant)


def names_in_code(code: CodeType, package: str = "") -> set[str]:
    """Return the absolute names of the modules that a code object may import.

    Parameters
    ----------
    code : CodeType
    package : str
        The ``__package__`` from which relative imports start.
    """
    names: set[str] = set()
    for nested in nested_codes(code):
        steps = [step for step in dis.get_instructions(nested) if step.opname != "EXTENDED_ARG"]
        # The compiler emits the level and the members directly before IMPORT_NAME.
        for level, members, step in zip(steps, steps[1:], steps[2:], strict=False):
            if step.opname == "IMPORT_NAME":
                names |= _absolute(step.argval, members.argval or (), level.argval or 0, package)
    return names


def _absolute(name: str, members: tuple[str, ...], level: int, package: str) -> set[str]:
    try:
        base = importlib.util.resolve_name("." * level + name, package)
    except ImportError:
        return set()
    # `from a import b` gives both a and a.b, because the statement does not show whether b is a module.
    return {base, *(f"{base}.{member}" for member in members if member != "*")}


def names_in_tree(tree: ast.AST, package: str = "") -> tuple[set[str], set[str]]:
    """Return the absolute names of the modules that a parsed source may import.

    Returns
    -------
    names : set of str
        All of them.
    optional : set of str
        Those imported only where the source catches an ``ImportError``, or under a condition about the system.
    """
    scan = _Scan(package)
    scan.visit(tree)
    return scan.needed | scan.optional, scan.optional - scan.needed


def syntax_tree(source: str | bytes, name: str = "<unknown>") -> ast.Module:
    """Parse a source without warnings about it. Raises SyntaxError or ValueError for an invalid one."""
    with PARSING, warnings.catch_warnings():
        # An invalid escape in the user's strings is not our concern, and must not fail under -W error.
        warnings.simplefilter("ignore")
        return ast.parse(source, name)


def parse(source: str | bytes, runs_main: bool = False) -> ast.Module:
    """Parse a source without the blocks that a job never runs.

    These are the blocks under ``if TYPE_CHECKING``, and under ``if __name__ == "__main__"`` unless the job
    ``runs_main``. Invalid source gives an empty module.
    """
    try:
        tree = syntax_tree(source)
    except (SyntaxError, ValueError):
        return ast.Module(body=[], type_ignores=[])
    pruned = _Prune(runs_main).visit(tree)
    assert isinstance(pruned, ast.Module)
    return pruned


class _Prune(ast.NodeTransformer):
    def __init__(self, runs_main: bool) -> None:
        self._runs_main = runs_main

    def visit_If(self, node: ast.If) -> ast.AST:
        self.generic_visit(node)
        test = ast.unparse(node.test)
        is_main = test == "__name__ == '__main__'" and not self._runs_main
        if test.endswith("TYPE_CHECKING") or is_main:
            # Only the body goes. The else branch does run in a job.
            node.body = [ast.Pass()]
        return node


class _Scan(ast.NodeVisitor):
    def __init__(self, package: str) -> None:
        self.package = package
        self.needed: set[str] = set()
        self.optional: set[str] = set()
        self._target = self.needed

    def visit_Import(self, node: ast.Import) -> None:
        self._target.update(alias.name for alias in node.names)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        members = tuple(alias.name for alias in node.names)
        self._target |= _absolute(node.module or "", members, node.level, self.package)

    def visit_If(self, node: ast.If) -> None:
        outer = self._target
        # Jobs run on Linux, whatever this session runs on.
        self._target = self.optional if _SYSTEM.search(ast.unparse(node.test)) else outer
        self.generic_visit(node)
        self._target = outer

    def visit_Try(self, node: ast.Try) -> None:
        outer, optional = self._target, any(map(_catches_import_errors, node.handlers))
        self._target = self.optional if optional else outer
        # A handler imports alternatives to the missing module, so these are optional too.
        for guarded in (*node.body, *node.handlers):
            self.visit(guarded)
        self._target = outer
        for statement in (*node.orelse, *node.finalbody):
            self.visit(statement)


def _catches_import_errors(handler: ast.ExceptHandler) -> bool:
    # A bare `except:` catches everything.
    if handler.type is None:
        return True
    return any(isinstance(node, ast.Name) and node.id in _CATCHES_IMPORT_ERRORS for node in ast.walk(handler.type))
