"""Functions of many kinds travel to the jobs with the objects and packages that they use."""

import functools

import cloudknot as ck

SCALE = 10


class Line:
    def __init__(self, slope):
        self.slope = slope

    def at(self, x):
        return SCALE * self.slope * x


def power(x, exponent):
    return x**exponent


def shifted(by):
    def shift(x):
        return x + by

    return shift


for func in (shifted(100), functools.partial(power, exponent=3), Line(2).at, lambda x: -x):
    knot = ck.Knot(name="anything", func=func)
    print(knot.map([1, 2, 3]).result())


def version_of_six(_):
    import six

    return six.__version__


# Requirements in pip's format, instead of those found in the function.
knot = ck.Knot(name="pinned", func=version_of_six, requirements=["six==1.16.0"])
print(knot.map([0]).result())
