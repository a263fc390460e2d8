"""Read from a module's source which names its top level binds, and the values that are known without running it."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_CONTAINERS = (dict, list, set, bytearray)
_HIDDEN = {"globals", "vars", "locals", "exec", "eval", "setattr"}
"""Functions that may bind a name which the source does not show."""
_BUILTINS: dict[str, Callable[..., Any]] = {
    kind.__name__: kind for kind in (bool, bytes, dict, float, frozenset, int, list, set, str, tuple)
}
_OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.BitOr: operator.or_,
    ast.BitAnd: operator.and_,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Not: operator.not_,
    ast.Mult: lambda left, right: _small(left) * _small(right),
    ast.Pow: lambda left, right: _small(left) ** _small(right, 64),
    ast.LShift: lambda left, right: _small(left) << _small(right, 64),
}


class UnknownError(Exception):
    """An expression has a value that only running the module gives."""


def _small(value: object, largest: float = 1e6) -> Any:
    """Return a value that is quick to multiply."""
    if isinstance(value, int | float) and abs(value) > largest:
        raise UnknownError
    return value


@dataclass
class StaticScope:
    """The names that the top level of a module, or the body of a class, binds.

    Attributes
    ----------
    values : dict of str to object
        The names with a known value.
    functions : set of str
        Those bound by a ``def`` without decorators.
    classes : dict of str to StaticScope
        Those bound by a ``class`` without decorators and keywords.
    imported : dict of str to (str, str)
        Those bound by ``from module import name``: the module, with dots for a relative one, and the name there.
    bound : set of str
        All names that the source may bind.
    is_open : bool
        Whether the source may bind further names, by ``import *``, ``globals()`` and the like.
    doubtful : set of str
        Names whose known value a function of the module may have changed while the module was imported.
    made_on_demand : set of str
        Names that a function of the module binds by ``global``.
    used : set of str
        Names that functions of the module use.
    """

    values: dict[str, Any] = field(default_factory=dict)
    functions: set[str] = field(default_factory=set)
    classes: dict[str, StaticScope] = field(default_factory=dict)
    imported: dict[str, tuple[str, str]] = field(default_factory=dict)
    bound: set[str] = field(default_factory=set)
    is_open: bool = False
    doubtful: set[str] = field(default_factory=set)
    made_on_demand: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)


def scope_of(tree: ast.Module) -> StaticScope:
    """Return the names that a module binds at its top level."""
    scope = StaticScope()
    _Reader(scope).read(tree.body)
    nodes = list(ast.walk(tree))
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inside = [node for function in functions for node in ast.walk(function)]
    scope.used = {node.id for node in inside if isinstance(node, ast.Name)}
    scope.made_on_demand = {name for node in inside if isinstance(node, ast.Global) for name in node.names}
    scope.bound |= scope.made_on_demand
    scope.is_open = any(map(_may_bind_more, nodes))
    if _calls_at_import(tree.body):
        mutable = {name for name, value in scope.values.items() if isinstance(value, _CONTAINERS)}
        scope.doubtful = (mutable & scope.used) | scope.made_on_demand
    return scope


def _may_bind_more(node: ast.AST) -> bool:
    """Return whether a node may bind names that the source does not show."""
    if isinstance(node, ast.ImportFrom):
        return any(alias.name == "*" for alias in node.names)
    return isinstance(node, ast.Name) and node.id in _HIDDEN


def _calls_at_import(body: Iterable[ast.stmt]) -> bool:
    """Return whether a top level calls something, such as a decorator."""
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            if statement.decorator_list:
                return True
        elif isinstance(statement, ast.ClassDef):
            if statement.decorator_list or _calls_at_import(statement.body):
                return True
        elif any(isinstance(node, ast.Call) for node in ast.walk(statement)):
            return True
    return False


class _Reader:
    """A reader of the statements of one scope, in their order."""

    def __init__(self, scope: StaticScope) -> None:
        self._scope = scope

    def read(self, body: Iterable[ast.stmt]) -> None:
        for statement in body:
            self._forget(statement)
            match statement:
                case ast.Assign(targets=targets, value=value):
                    for target in targets:
                        self._assign(target, value)
                case ast.AnnAssign(target=target, value=ast.expr() as value):
                    self._assign(target, value)
                case ast.AugAssign(target=ast.Name(id=name) as target, op=op, value=value):
                    self._assign(target, ast.BinOp(ast.Name(name), op, value))
                case ast.FunctionDef(name=name, decorator_list=[]):
                    self._scope.functions.add(name)
                case ast.ClassDef(name=name, decorator_list=[], keywords=[], body=inner):
                    self._scope.classes[name] = StaticScope()
                    _Reader(self._scope.classes[name]).read(inner)
                case ast.ImportFrom():
                    self._import(statement)

    def _forget(self, statement: ast.stmt) -> None:
        """Note the names that a statement binds, and forget the values that it may change."""
        scope, names = self._scope, set(_bound_by(statement))
        scope.bound |= names
        is_plain = isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign)
        has_call = any(isinstance(node, ast.Call) for node in ast.walk(statement))
        if not is_plain or has_call or _stores_inside(statement):
            # A function body runs later, if at all.
            used = set() if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef) else _used_by(statement)
            names |= {name for name in used if isinstance(scope.values.get(name), _CONTAINERS)}
        previous = {} if not isinstance(statement, ast.AugAssign) else dict(scope.values)
        for name in names:
            scope.classes.pop(name, None)
            scope.imported.pop(name, None)
            scope.functions.discard(name)
            if name not in previous:
                scope.values.pop(name, None)

    def _assign(self, target: ast.expr, expression: ast.expr) -> None:
        if not isinstance(target, ast.Name):
            return
        try:
            self._scope.values[target.id] = _evaluate(expression, self._scope.values)
        except Exception:
            # The expression is not known, or its evaluation fails.
            self._scope.values.pop(target.id, None)

    def _import(self, statement: ast.ImportFrom) -> None:
        module = "." * statement.level + (statement.module or "")
        for alias in statement.names:
            self._scope.imported[alias.asname or alias.name] = (module, alias.name)


def _bound_by(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement may bind in its own scope."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            yield node.id
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name).partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            yield node.name


def _stores_inside(statement: ast.stmt) -> bool:
    """Return whether a statement stores something inside an object: ``CONFIG["a"] = 1``."""
    places = (ast.Attribute, ast.Subscript)
    return any(isinstance(node, places) and isinstance(node.ctx, ast.Store | ast.Del) for node in ast.walk(statement))


def _used_by(statement: ast.stmt) -> set[str]:
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}


def _evaluate(node: ast.expr, values: Mapping[str, Any]) -> Any:
    """Return the value of an expression of constants. Raises any exception for one that is not known."""

    def of(part: ast.expr) -> Any:
        return _evaluate(part, values)

    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return values[name]
        case ast.Tuple(elts=items):
            return tuple(map(of, items))
        case ast.List(elts=items):
            return list(map(of, items))
        case ast.Set(elts=items):
            return set(map(of, items))
        case ast.Dict(keys=keys, values=items):
            return {of(_known(key)): of(item) for key, item in zip(keys, items, strict=True)}
        case ast.BinOp(left=left, op=op, right=right):
            return _OPERATORS[type(op)](of(left), of(right))
        case ast.UnaryOp(op=op, operand=operand):
            return _OPERATORS[type(op)](of(operand))
        case ast.Subscript(value=value, slice=key):
            return of(value)[of(key)]
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords) if name not in values:
            named = {_known(keyword.arg): of(keyword.value) for keyword in keywords}
            return _BUILTINS[name](*map(of, args), **named)
    raise UnknownError


def _known(part: Any) -> Any:
    if part is None:
        # {**other} or f(**other)
        raise UnknownError
    return part
