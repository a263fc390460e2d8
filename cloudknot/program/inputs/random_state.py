"""Warn of generators of random numbers that a function, its keyword arguments or its elements bring along.

Each job gets a copy of such a generator, so all jobs would draw the same numbers.
"""

from __future__ import annotations

import functools
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping
from types import BuiltinMethodType, FunctionType, MethodType, ModuleType, SimpleNamespace

from cloudknot.options import streams
from cloudknot.program import imports
from cloudknot.program.inputs.generators import is_generator, public_name, remedy

_CONTAINERS = (
    *(dict, OrderedDict, defaultdict, list, tuple, set, frozenset, SimpleNamespace),
    *(functools.partial, MethodType),
)
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


class SharedGenerators:
    """The search for a generator that several elements of a map hold. At home, each of them continues its numbers."""

    def __init__(self) -> None:
        self._first: list[object] = []

    def check(self, index: int, element: object) -> None:
        """Issue a UserWarning if element 1 holds a generator of element 0. Later elements are not searched."""
        if index == 0:
            self._first = [generator for _, generator in _generators(element)]
        elif index == 1 and self._first:
            first, self._first = self._first, []
            both = (generator for _, generator in _generators(element) if any(generator is other for other in first))
            for generator in both:
                streams.warn(
                    "Elements 0 and 1 of the input hold the same generator of random numbers. Each element gets a "
                    "copy of it, and all copies draw the same numbers. Make the generator inside the function, with "
                    f"a seed for each element: {remedy(generator)}."
                )
                return


def _generators(root: object) -> Iterator[tuple[str, object]]:
    """Yield the generators that travel with an object, each with its place in words."""
    stack, seen = [("the object itself", root)], {id(root)}
    while stack and len(seen) < MOST:
        place, obj = stack.pop()
        if is_generator(obj):
            yield f"{place} (a {public_name(obj)})", obj
            continue
        owner = getattr(obj, "__self__", None) if isinstance(obj, MethodType | BuiltinMethodType) else None
        if is_generator(owner):
            yield f"{place} (a method of a {public_name(owner)})", owner
            continue
        # "item 0" alone names no variable of the user.
        inside = f", in {place}" if obj is not root and not _is_own(obj) else ""
        for part_place, part in _parts(obj):
            if id(part) not in seen:
                seen.add(id(part))
                stack.append((part_place + inside, part))


def _parts(obj: object) -> Iterator[tuple[str, object]]:
    """Yield the parts of containers, of the user's own objects, and of objects of libraries that travel with them."""
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
    elif _travels_with_attributes(obj):
        # For example an estimator of scikit-learn, a distribution of scipy, or a Dataset of xarray.
        yield from (part for part, _ in zip(parts_of(obj), range(MOST), strict=False))


def _travels_with_attributes(obj: object) -> bool:
    """Return whether a pickle of an object of a library holds all of its attributes.

    Functions, classes and modules travel by name. So do objects with a reduction of their own, such as loggers.
    """
    kind = type(obj)
    return (
        not isinstance(obj, type | ModuleType | FunctionType | MethodType | BuiltinMethodType)
        and kind.__module__ != "builtins"
        and kind.__reduce__ is object.__reduce__
        and kind.__reduce_ex__ is object.__reduce_ex__
    )


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
