"""Find the code that changes a module from outside: ``settings.N = 5`` in a script, a notebook or another module."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from cloudknot.program import imports

_CONTAINERS = (dict, list, set, bytearray)


def stores(modules: Iterable[str], owners: Mapping[int, tuple[str, str]]) -> set[tuple[str, str]]:
    """Return the module and name of everything that code of ``__main__`` and of some modules changes.

    Parameters
    ----------
    modules : iterable of str
        Modules whose source is searched, besides ``__main__``.
    owners : mapping of int to (str, str)
        The module and name of objects, by their ``id``. So ``from settings import CONFIG`` is known, too.
    """
    found: set[tuple[str, str]] = set()
    for name in ("__main__", *modules):
        module = sys.modules.get(name)
        if module is not None:
            for tree in map(imports.parse, _sources(module)):
                # A module's own code changes it in a job as well.
                found.update(place for place in _stores(tree, vars(module), owners) if place[0] != name)
    return found


def _sources(module: ModuleType) -> Iterator[str | bytes]:
    cells = vars(module).get("In")
    if isinstance(cells, list):
        # Each cell by itself: one that is no Python does not hide the others.
        yield from filter(None, (cell for cell in cells if isinstance(cell, str)))
    try:
        yield Path(module.__file__ or "").read_bytes()
    except (OSError, AttributeError, TypeError):
        return


def _stores(
    tree: ast.AST, namespace: Mapping[str, Any], owners: Mapping[int, tuple[str, str]]
) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        place: ast.expr | None = None
        kinds: tuple[type, ...] = (object,)
        if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            place = node
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            # A method may change its object: settings.PATHS.append("data"). Not settings.client.get("data").
            place, kinds = node.func.value, _CONTAINERS
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "setattr" and len(node.args) == 3:
            place = _attribute(node.args[0], node.args[1])
        found, value = _owner(place, namespace, owners) if place is not None else (None, None)
        if found and isinstance(value, kinds):
            yield found


def _attribute(owner: ast.expr, name: ast.expr) -> ast.expr | None:
    if isinstance(name, ast.Constant) and isinstance(name.value, str):
        return ast.Attribute(owner, name.value)
    return None


def _owner(
    place: ast.expr, namespace: Mapping[str, Any], owners: Mapping[int, tuple[str, str]]
) -> tuple[tuple[str, str] | None, Any]:
    """Return the module and the name in it of a place such as ``settings.CONFIG["a"].b``, and its value."""
    path: list[str] = []
    while not isinstance(place, ast.Name):
        if isinstance(place, ast.Attribute):
            path.append(place.attr)
        elif not isinstance(place, ast.Subscript):
            return None, None
        place = place.value
    value = namespace.get(place.id)
    while path and isinstance(value, ModuleType):
        module, name = value, path.pop()
        value = vars(module).get(name)
        if not isinstance(value, ModuleType):
            return (module.__name__, name), value
    return owners.get(id(value)), value
