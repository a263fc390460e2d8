"""Warn of generators of random numbers that a function or its keyword arguments bring along.

Each job gets a copy of such a generator, so all jobs would draw the same numbers.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Mapping
from types import FunctionType, MethodType, ModuleType

from cloudknot.options import streams
from cloudknot.program import imports
from cloudknot.program.inputs.generators import is_generator, remedy

_CONTAINERS = (dict, list, tuple, set, frozenset, functools.partial, MethodType)
MOST = 10_000
"""Objects to look at, at most."""


def warn_of_generators(func: object, name: str) -> None:
    """Issue a UserWarning if a function uses a generator of random numbers that was made outside of it.

    Parameters
    ----------
    func : callable
    name : str
        Its name for people.
    """
    found = next(_generators(func), None)
    if found is not None:
        place, generator = found
        streams.warn(
            f"The function {name!r} uses a generator of random numbers that it did not make: {place}. Each child job "
            "gets a copy of it, and all copies draw the same numbers. Make the generator inside the function, with a "
            f"seed for each element: {remedy(generator)}."
        )


def warn_of_shared(kwargs: Mapping[str, object]) -> None:
    """Issue a UserWarning if a keyword argument for all elements is a generator of random numbers."""
    for name, value in kwargs.items():
        for _, generator in _generators(value):
            streams.warn(
                f"The value of {name!r} in kwargs holds a generator of random numbers. Each child job gets a copy of "
                "it, and all copies draw the same numbers. Make the generator inside the function, with a seed for "
                f"each element: {remedy(generator)}."
            )
            return


def _generators(root: object) -> Iterator[tuple[str, object]]:
    """Yield the generators that travel with an object, each with its place in words."""
    from cloudknot.program.checks.pickle_errors import type_name

    stack, seen = [("the object itself", root)], {id(root)}
    while stack and len(seen) < MOST:
        place, obj = stack.pop()
        if is_generator(obj):
            yield f"{place} (a {type_name(obj)})", obj
            continue
        for part_place, part in _parts(obj):
            if id(part) not in seen:
                seen.add(id(part))
                stack.append((part_place, part))


def _parts(obj: object) -> Iterator[tuple[str, object]]:
    """Yield the parts of the user's own objects and of containers. Objects of libraries have state of their own."""
    from cloudknot.program.checks.pickle_errors import parts_of

    wrapped = getattr(obj, "__wrapped__", None)
    if wrapped is not None and callable(obj):
        yield "the decorated function", wrapped
    if type(obj) in _CONTAINERS:
        # The size of a dict of results is not bounded, and a generator is not its ten thousandth value.
        yield from (part for part, _ in zip(parts_of(obj), range(MOST), strict=False))
    elif _is_own(obj):
        yield from parts_of(obj)
        if isinstance(obj, FunctionType):
            yield from _of_modules(obj)


def _of_modules(function: FunctionType) -> Iterator[tuple[str, object]]:
    """Yield the values of the user's own modules that a function names: ``settings.rng``."""
    names = {name for code in imports.nested_codes(function.__code__) for name in code.co_names}
    modules = [value for name in names if isinstance(value := function.__globals__.get(name), ModuleType)]
    for module in (module for module in modules if _is_own_module(module.__name__)):
        for name in sorted(names & vars(module).keys()):
            yield f"{name!r} of the module {module.__name__}", vars(module)[name]


def _is_own(obj: object) -> bool:
    """Return whether a function or class is the user's own, or an object is of such a class."""
    kind = obj if isinstance(obj, type | FunctionType) else type(obj)
    return _is_own_module(getattr(kind, "__module__", None) or "")


def _is_own_module(name: str) -> bool:
    from cloudknot.program.local_modules import is_local_cached

    return name == "__main__" or (name in sys.modules and is_local_cached(name))
