"""Results of classes with hooks and caches: the session keeps its own classes, and makes none of them again."""

import functools
import logging
import sys

import pytest

from tests.helpers import functions

LONG = 120


class Shape:
    made = []

    def __init_subclass__(cls, *, sides):
        super().__init_subclass__()
        cls.sides = sides
        Shape.made.append(cls.__name__)


class Square(Shape, sides=4):
    def __init__(self, length):
        self.length = length

    @functools.cached_property
    def area(self):
        return self.length**2

    @functools.singledispatchmethod
    def scaled(self, factor):
        return NotImplemented

    @scaled.register
    def _(self, factor: int):
        return Square(self.length * factor)


def scaled(square):
    logging.getLogger(__name__).warning("scaled")
    result = square.scaled(3)
    return result, result.area, Shape.made, sys.argv


def test_results_are_of_classes_of_session_and_add_none(process_knot_of):
    future = process_knot_of(scaled).map([Square(1), Square(2)], chunksize=2)
    results = future.result(LONG)
    assert [(type(square), square.area, area) for square, area, *_ in results] == [(Square, 9, 9), (Square, 36, 36)]
    assert [(made, argv) for *_, made, argv in results] == [(["Square"], [""])] * 2
    assert Shape.made == ["Square"]


def scaled_by_level(x):
    return functions.square(x) * getattr(functions, "LEVEL", 1)


def test_change_of_module_between_knot_and_map_is_named(process_knot_of, monkeypatch):
    knot = process_knot_of(scaled_by_level)
    assert knot.map([3]).result(LONG) == [9]
    monkeypatch.setattr(functions, "LEVEL", 5, raising=False)
    with pytest.warns(UserWarning, match=r"tests\.helpers\.functions\.LEVEL changed after the knot .* was made"):
        assert knot.map([3]).result(LONG) == [9]
