"""Which variable is at fault when something cannot be pickled."""

from __future__ import annotations

import dis
import functools
import inspect
from collections.abc import Iterator
from types import FunctionType, MethodType

from cloudknot.program import imports, pickling
from cloudknot.program.fingerprint import Fingerprint

_DEPTH = 20


def problem(obj: object, absent: pickling.Absent | None = None) -> Exception | None:
    """Why an object cannot be pickled; None when it can."""
    try:
        Fingerprint(obj)
        pickling.dumps(obj, absent=absent)
    except Exception as error:
        return error
    return None


def explain(obj: object, modules: tuple[str, ...] = (), absent: pickling.Absent | None = None) -> str:
    """Say which part of an object cannot be pickled, by trying its parts one by one.

    Parameters
    ----------
    obj : object
        What could not be pickled.
    modules : tuple of str
        Modules whose functions and classes travel by value.
    absent : pickling.Absent, optional
        For an input: what else travels by value.

    Returns
    -------
    str
        For example ``the global 'conn' (a sqlite3.Connection)``, with the way to it when it is a part of a part.
    """
    with pickling.by_value(modules):
        way = _way(obj, absent)
    if not way:
        return f"the object itself (a {type_name(obj)})"
    *through, (name, culprit) = way
    inside = "".join(f", in {outer}" for outer, _ in reversed(through))
    return f"{name} (a {type_name(culprit)}){inside}"


def type_name(obj: object) -> str:
    """The name of an object's type, with its module unless that is obvious."""
    kind = type(obj)
    return (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )


def _way(obj: object, absent: pickling.Absent | None) -> list[tuple[str, object]]:
    way: list[tuple[str, object]] = []
    seen = {id(obj)}
    while len(way) < _DEPTH:
        parts = ((name, part) for name, part in _parts(obj) if id(part) not in seen)
        step = next(((name, part) for name, part in parts if problem(part, absent)), None)
        if step is None:
            break
        way.append(step)
        obj = step[1]
        seen.add(id(obj))
    return way


def _parts(obj: object) -> Iterator[tuple[str, object]]:
    """What an object is made of, each with its name for people."""
    if isinstance(obj, FunctionType):
        yield from _function_parts(obj)
    elif isinstance(obj, functools.partial):
        yield f"the function {type_or_name(obj.func)} of the partial", obj.func
        yield from ((f"argument {i} of the partial", value) for i, value in enumerate(obj.args))
        yield from ((f"the argument {name!r} of the partial", value) for name, value in obj.keywords.items())
    elif isinstance(obj, MethodType):
        yield from _parts(obj.__self__)
        yield from _parts(obj.__func__)
    elif isinstance(obj, dict):
        yield from ((f"the value of key {key!r}", value) for key, value in obj.items())
        yield from ((f"the key {key!r}", key) for key in obj)
    elif isinstance(obj, (list, tuple, set, frozenset)):
        yield from ((f"item {i}", value) for i, value in enumerate(obj))
    elif isinstance(obj, type):
        yield from ((f"{name!r} of the class {obj.__name__}", value) for name, value in vars(obj).items())
    else:
        yield from _instance_parts(obj)


def _function_parts(func: FunctionType) -> Iterator[tuple[str, object]]:
    name = func.__name__
    for variable, cell in zip(func.__code__.co_freevars, func.__closure__ or (), strict=False):
        try:
            yield f"the closure variable {variable!r} of {name}", cell.cell_contents
        except ValueError:
            continue
    for variable in _global_names(func):
        if variable in func.__globals__:
            yield f"the global {variable!r} that {name} uses", func.__globals__[variable]
    positional = inspect.getfullargspec(func).args if func.__defaults__ else []
    defaults = dict(zip(reversed(positional), reversed(func.__defaults__ or ()), strict=False))
    for variable, value in {**defaults, **(func.__kwdefaults__ or {})}.items():
        yield f"the default of the argument {variable!r} of {name}", value
    for variable, value in vars(func).items():
        yield f"the attribute {variable!r} of {name}", value
    for variable, value in func.__annotations__.items():
        yield f"the annotation of {variable!r} of {name}", value


def _instance_parts(obj: object) -> Iterator[tuple[str, object]]:
    for name, value in getattr(obj, "__dict__", {}).items():
        yield f"the attribute {name!r} of {_owner(obj)}", value
    for cls in type(obj).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(obj, name):
                yield f"the attribute {name!r} of {_owner(obj)}", getattr(obj, name)
    yield f"the class {type(obj).__name__}", type(obj)


def _owner(obj: object) -> str:
    return f"the {type(obj).__name__} object"


def type_or_name(obj: object) -> str:
    """An object's own name, or that of its type."""
    return str(getattr(obj, "__name__", type_name(obj)))


def _global_names(func: FunctionType) -> list[str]:
    names = {
        step.argval: None
        for code in imports.nested_codes(func.__code__)
        for step in dis.get_instructions(code)
        if step.opname == "LOAD_GLOBAL"
    }
    return list(names)
