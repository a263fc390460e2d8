"""Find the variable that cannot be pickled in an object."""

from __future__ import annotations

import dis
import functools
import inspect
from collections.abc import Iterator
from types import FunctionType, MethodType

from cloudknot.program import imports, pickling
from cloudknot.program.fingerprint import Fingerprint

_DEPTH = 20


def pickling_error(obj: object, missing: pickling.MissingModules | None = None) -> Exception | None:
    """Return the error that pickling an object raises, or None if it succeeds."""
    try:
        Fingerprint(obj)
        pickling.dumps(obj, missing=missing)
    except Exception as error:
        return error
    return None


def culprit(obj: object, modules: tuple[str, ...] = (), missing: pickling.MissingModules | None = None) -> str:
    """Describe the part of an object that cannot be pickled.

    Parameters
    ----------
    obj : object
        The object that cannot be pickled.
    modules : tuple of str
        Modules with functions and classes that travel by value.
    missing : pickling.MissingModules, optional
        Further modules that travel by value, for an input.

    Returns
    -------
    str
        For example ``the global 'conn' (a sqlite3.Connection)``, followed by the objects that contain it.
    """
    with pickling.by_value(modules):
        path = _path(obj, missing)
    if not path:
        return f"the object itself (a {type_name(obj)})"
    *containers, (name, part) = path
    inside = "".join(f", in {container}" for container, _ in reversed(containers))
    return f"{name} (a {type_name(part)}){inside}"


def type_name(obj: object) -> str:
    """Return the name of an object's type, with its module unless that is ``builtins`` or ``__main__``."""
    kind = type(obj)
    return (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )


def _path(obj: object, missing: pickling.MissingModules | None) -> list[tuple[str, object]]:
    """Return the parts that lead to the one that cannot be pickled, each inside the one before."""
    # pickle's own error names no variable, so the parts are tried one by one.
    path: list[tuple[str, object]] = []
    seen = {id(obj)}
    while len(path) < _DEPTH:
        parts = ((name, part) for name, part in parts_of(obj) if id(part) not in seen)
        step = next(((name, part) for name, part in parts if pickling_error(part, missing)), None)
        if step is None:
            break
        path.append(step)
        obj = step[1]
        seen.add(id(obj))
    return path


def parts_of(obj: object) -> Iterator[tuple[str, object]]:
    """Yield the parts of an object, each with a name for people."""
    if isinstance(obj, FunctionType):
        yield from _function_parts(obj)
    elif isinstance(obj, functools.partial):
        yield f"the function {_type_or_name(obj.func)} of the partial", obj.func
        yield from ((f"argument {i} of the partial", value) for i, value in enumerate(obj.args))
        yield from ((f"the argument {name!r} of the partial", value) for name, value in obj.keywords.items())
    elif isinstance(obj, MethodType):
        yield from parts_of(obj.__self__)
        yield from parts_of(obj.__func__)
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
            # The cell is empty: its variable has no value yet.
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
    owner = f"the {type(obj).__name__} object"
    for name, value in getattr(obj, "__dict__", {}).items():
        yield f"the attribute {name!r} of {owner}", value
    for cls in type(obj).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(obj, name):
                yield f"the attribute {name!r} of {owner}", getattr(obj, name)
    yield f"the class {type(obj).__name__}", type(obj)


def _type_or_name(obj: object) -> str:
    """Return an object's own name, or else the name of its type."""
    return str(getattr(obj, "__name__", type_name(obj)))


def _global_names(func: FunctionType) -> list[str]:
    """Return the global names that a function reads, in order of first use."""
    names = {
        step.argval: None
        for code in imports.nested_codes(func.__code__)
        for step in dis.get_instructions(code)
        if step.opname == "LOAD_GLOBAL"
    }
    return list(names)
