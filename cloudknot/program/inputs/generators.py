"""Generators of random numbers: recognise them, and pickle the global ones by their names.

A pickle holds the state of a generator, so each job would continue with the same numbers. This module does not import
numpy.
"""

from __future__ import annotations

import random
import sys

_GENERATORS = {
    ("random", "Random"): "random.Random(cloudknot.seed(1))",
    ("numpy.random._generator", "Generator"): "numpy.random.default_rng(cloudknot.seed(1))",
    ("numpy.random.bit_generator", "BitGenerator"): "numpy.random.default_rng(cloudknot.seed(1))",
    ("numpy.random.mtrand", "RandomState"): "numpy.random.RandomState(cloudknot.seed(1) % 2**32)",
}
"""Module and name of each class of generators, with an expression that makes one for a single element."""
_GLOBAL = (("random", "_inst"), ("numpy.random.mtrand", "_rand"))
"""Module and name of the generators behind ``random.random()`` and ``numpy.random.rand()``."""


def by_name(obj: object) -> tuple[object, tuple[object, ...]] | None:
    """Return the reduction of a global generator, by its module and name; None for any other object."""
    # After `from random import gauss`, a function refers to a method of this generator. With its state, all jobs would
    # draw the same numbers. A job's own one has fresh state, as after `import random`.
    for module, name in _GLOBAL:
        if type(obj).__module__ == module and getattr(sys.modules.get(module), name, None) is obj:
            return getattr, (sys.modules[module], name)
    return None


def is_generator(obj: object) -> bool:
    """Return whether an object is a generator of random numbers whose state is in its pickle."""
    return bool(remedy(obj)) and not isinstance(obj, random.SystemRandom) and by_name(obj) is None


def remedy(obj: object) -> str:
    """Return an expression that makes such a generator for one element; empty if the object is none."""
    kinds = ((kind.__module__, kind.__qualname__) for kind in type(obj).__mro__)
    return next((_GENERATORS[kind] for kind in kinds if kind in _GENERATORS), "")


def public_name(obj: object) -> str:
    """Return the name of a generator's class as its documentation has it, such as ``numpy.random.Generator``."""
    kind = type(obj)
    private = ("mtrand", "bit_generator", "__main__")
    parts = [part for part in kind.__module__.split(".") if part not in private and not part.startswith("_")]
    return ".".join([*parts, kind.__qualname__])
