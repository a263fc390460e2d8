"""Generators of random numbers that a function brings along: which are found, and which travel by name."""

import argparse
import functools
import logging
import pickle
import random
import subprocess
import sys
import types
import warnings
from random import gauss

import numpy as np
import pytest
from numpy.random import rand

from cloudknot.program import pickling
from cloudknot.program.fingerprint import Fingerprint
from cloudknot.program.inputs.random_state import SharedGenerators, warn_of_generators, warn_of_shared

rng = np.random.default_rng(1)
legacy = np.random.RandomState(2)
twister = random.Random(3)
system = random.SystemRandom()
boxes = {"first": [rng]}
normal, uniform, unit, legacy_rand = rng.normal, twister.uniform, twister.random, legacy.rand
of_library, namespace = argparse.Namespace(own=twister), types.SimpleNamespace(own=twister)


class Simulation:
    def __init__(self, own=None):
        self.own = own

    def draw(self, x):
        return self.own.random() + x


class Bits:
    bits = np.random.PCG64(4)

    def draw(self, x):
        return self.bits.random_raw() + x


simulation = Simulation(twister)


def use_global(x):
    return rng.random()


def use_methods(x):
    return normal() + x


def use_inner(x):
    def inner():
        return legacy.rand()

    return inner()


def call_other(x):
    return use_global(x)


def use_box(x):
    return boxes["first"][0].random()


def use_default(x, generator=twister):
    return generator.random()


def use_keyword_default(x, *, generator=legacy):
    return generator.rand()


def use_instance(x):
    return simulation.draw(x)


@functools.wraps(use_global)
def decorated(*arguments):
    return use_global(*arguments)


def closure():
    inner = np.random.default_rng()
    return lambda x: inner.random()


@pytest.mark.parametrize(
    ("function", "place", "remedy"),
    [
        (use_global, "the global 'rng' that use_global uses (a numpy.random.Generator)", "default_rng("),
        (use_inner, "the global 'legacy' that use_inner uses (a numpy.random.RandomState)", "RandomState("),
        (call_other, "the global 'rng' that use_global uses", "default_rng("),
        (
            use_box,
            "item 0, in the value of key 'first', in the global 'boxes' that use_box uses (a numpy.random.Generator)",
            "default_rng(",
        ),
        (
            use_methods,
            "the global 'normal' that use_methods uses (a method of a numpy.random.Generator)",
            "default_rng(",
        ),
        (lambda x: uniform(x, 2), "the global 'uniform' that", "random.Random("),
        (lambda x: unit(), "the global 'unit' that <lambda> uses (a method of a random.Random)", "random.Random("),
        (lambda x: legacy_rand(), "(a method of a numpy.random.RandomState)", "RandomState("),
        (
            lambda x: of_library,
            "attribute 'own' of the Namespace object, in the global 'of_library'",
            "random.Random(",
        ),
        (lambda x: namespace, "attribute 'own' of the SimpleNamespace object, in", "random.Random("),
        (use_default, "the default of the argument 'generator' of use_default (a random.Random)", "random.Random("),
        (use_keyword_default, "the default of the argument 'generator'", "RandomState("),
        (closure(), "the closure variable 'inner'", "default_rng("),
        (decorated, "the global 'rng' that use_global uses", "default_rng("),
        (functools.partial(Simulation.draw, Simulation(rng)), "the attribute 'own' of the Simulation object", "rng("),
        (Bits().draw, "'bits' of the class Bits (a numpy.random.PCG64)", "default_rng("),
        (use_instance, "", "cloudknot.seed(1)"),
        (functools.lru_cache(use_global), "the global 'rng'", "default_rng("),
    ],
)
def test_generator_of_function_is_named_once_with_its_remedy(function, place, remedy):
    with pytest.warns(UserWarning, match=r"all copies draw the same numbers") as caught:
        warn_of_generators(function, "simulate")
    (warning,) = caught
    assert str(warning.message).startswith("The function 'simulate' uses a generator")
    assert place in str(warning.message)
    assert remedy in str(warning.message)


def seeds_itself(x):
    return np.random.default_rng(x).random(), random.random(), gauss(0, 1), rand(), system.random(), len(boxes_of(x))


def boxes_of(x):
    return [x]


@pytest.mark.parametrize("function", [seeds_itself, len, random.random, gauss, Simulation.draw, Simulation(None)])
def test_function_with_generators_of_its_own_gets_no_warning(function):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if not isinstance(function, Simulation):
            warn_of_generators(function, "f")
        warn_of_shared({"table": np.arange(3), "seed": 1, "draw": gauss})


def test_generator_in_kwargs_is_named():
    with pytest.warns(UserWarning, match="value of 'options' in kwargs holds a generator") as caught:
        warn_of_shared({"scale": 2, "options": {"rng": twister}})
    assert len(caught) == 1


def check_elements(*elements):
    shared = SharedGenerators()
    for index, element in enumerate(elements):
        shared.check(index, element)


@pytest.mark.parametrize("elements", [(rng, rng), ((0, rng), (1, rng), (2, rng)), (simulation, Simulation(twister))])
def test_generator_in_several_elements_is_named_once(elements):
    with pytest.warns(UserWarning, match=r"Elements 0 and 1 .* same generator .*cloudknot\.seed\(1\)") as caught:
        check_elements(*elements)
    assert len(caught) == 1


def test_generators_of_single_elements_get_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_elements((0, rng), (1, np.random.default_rng(1)), (2, rng))
        check_elements(simulation)
        check_elements((0, np.random.rand), (1, np.random.rand))


logger = logging.getLogger("of-library")
logger.own = twister


def test_object_that_travels_by_name_is_not_searched():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_generators(lambda x: logger.info(x), "f")


@pytest.mark.parametrize("method", [random.random, gauss, random.randint, rand, np.random.normal])
def test_method_of_global_generator_travels_without_its_state(method):
    method_there = pickle.loads(pickling.dumps(method))
    assert method_there.__self__ is method.__self__
    before = Fingerprint(method).digest
    random.seed(5)
    np.random.seed(5)
    assert Fingerprint(method).digest == before
    # Also in an input, after another object of the same type.
    missing = pickling.MissingModules(lambda name: False, lambda kind: "")
    one, other = pickle.loads(pickling.dumps([random.Random(1), random.random], missing=missing))
    assert (one.random(), other.__self__) == (random.Random(1).random(), random._inst)


def test_another_process_has_fresh_state():
    random.seed(5)
    data = pickling.dumps(random.random)
    code = f"import pickle; print(pickle.loads({data!r})())"
    drawn = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert float(drawn) != random.random()


def test_search_does_not_import_numpy():
    code = (
        "import random, sys; from cloudknot.program.inputs.random_state import warn_of_generators\n"
        "def f(x): return random.random()\n"
        "warn_of_generators(f, 'f'); assert 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
