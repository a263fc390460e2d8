"""What a piece of code imports, read from its source or its bytecode. Nothing is executed or imported."""

from __future__ import annotations

import ast
import dis
import importlib.util
import threading
import warnings
from collections.abc import Iterator
from types import CodeType

# Python 3.11 (seen with 3.11.7) may raise a SystemError when two threads parse at once.
PARSING = threading.Lock()

_CATCHES_IMPORT_ERRORS = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}


def nested_codes(code: CodeType) -> Iterator[CodeType]:
    """A code object and those of the functions and classes defined inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from nested_codes(constant)


def names_in_code(code: CodeType, package: str = "") -> set[str]:
    """Absolute names of what the ``import`` statements of a code object may load.

    ``from a import b`` gives ``a`` and ``a.b``, for bytecode does not tell whether ``b`` is a module.

    Parameters
    ----------
    code : CodeType
    package : str
        The ``__package__`` that relative imports start from.
    """
    found: set[str] = set()
    for each in nested_codes(code):
        steps = [step for step in dis.get_instructions(each) if step.opname != "EXTENDED_ARG"]
        for level, members, step in zip(steps, steps[1:], steps[2:], strict=False):
            if step.opname == "IMPORT_NAME":
                found |= _absolute(step.argval, members.argval or (), level.argval or 0, package)
    return found


def _absolute(name: str, members: tuple[str, ...], level: int, package: str) -> set[str]:
    try:
        base = importlib.util.resolve_name("." * level + name, package)
    except ImportError:
        return set()
    return {base, *(f"{base}.{member}" for member in members if member != "*")}


def names_in_tree(tree: ast.AST, package: str = "") -> tuple[set[str], set[str]]:
    """Absolute names of what a parsed source may load: all of them, and those it can do without.

    The second set holds what is imported only where an ``ImportError`` is caught.
    """
    scan = _Scan(package)
    scan.visit(tree)
    return scan.needed | scan.optional, scan.optional - scan.needed


def parse(source: str | bytes) -> ast.Module:
    """Parse a source without what a job never runs; what cannot be parsed is taken as empty.

    Left out are the blocks under ``if TYPE_CHECKING`` and ``if __name__ == "__main__"``.
    """
    try:
        with PARSING, warnings.catch_warnings():
            # A doubtful escape in the user's strings is not for here to report, still less to fail on.
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return ast.Module(body=[], type_ignores=[])
    pruned = _Prune().visit(tree)
    assert isinstance(pruned, ast.Module)
    return pruned


def absolute_source(source: str | bytes) -> str:
    """A source without its relative imports and without what `parse` leaves out."""
    tree = parse(source)
    _DropRelative().visit(tree)
    return ast.unparse(tree)


class _DropRelative(ast.NodeTransformer):
    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        return ast.copy_location(ast.Pass(), node) if node.level else node


class _Prune(ast.NodeTransformer):
    def visit_If(self, node: ast.If) -> ast.AST:
        self.generic_visit(node)
        test = ast.unparse(node.test)
        if test.endswith("TYPE_CHECKING") or test == "__name__ == '__main__'":
            node.body = [ast.Pass()]
        return node


class _Scan(ast.NodeVisitor):
    def __init__(self, package: str) -> None:
        self.package = package
        self.needed: set[str] = set()
        self.optional: set[str] = set()
        self._found = self.needed

    def visit_Import(self, node: ast.Import) -> None:
        self._found.update(alias.name for alias in node.names)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        members = tuple(alias.name for alias in node.names)
        self._found |= _absolute(node.module or "", members, node.level, self.package)

    def visit_Try(self, node: ast.Try) -> None:
        before, optional = self._found, any(map(_catches_import_errors, node.handlers))
        self._found = self.optional if optional else before
        for guarded in (*node.body, *node.handlers):
            self.visit(guarded)
        self._found = before
        for statement in (*node.orelse, *node.finalbody):
            self.visit(statement)


def _catches_import_errors(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    return any(isinstance(node, ast.Name) and node.id in _CATCHES_IMPORT_ERRORS for node in ast.walk(handler.type))
