"""`CallCheck` refuses arguments that a function does not take, by its signature."""

import functools

import pytest

from cloudknot.errors import CloudknotInputError
from cloudknot.program.inputs.arguments import CallCheck
from cloudknot.program.program import make_program


def add(x, y):
    return x + y


def shifted(x, *, y):
    return x + y


def optional(x, y=1, z=(0,) * 100):
    return x, y, z


def several(a, b, *more):
    return a, b, more


def constant():
    return 1


class Model:
    """A callable object with a method, and a class that takes two arguments."""

    def __init__(self, a=1, b=2):
        self.a, self.b = a, b

    def predict(self, x, y):
        return x, y

    def __call__(self, x, y):
        return x, y


class Pair:
    def __init__(self, a, b):
        self.a, self.b = a, b


@functools.lru_cache
def cached(x, y):
    return x + y


def with_session(func):
    """Add an argument to each call."""

    @functools.wraps(func)
    def wrapper(*args, **kwargs):
        return func("session", *args, **kwargs)

    return wrapper


def unpacked(func):
    """Take one argument, the arguments of the function inside."""

    @functools.wraps(func)
    def wrapper(arguments):
        return func(*arguments)

    return wrapper


@with_session
def query(session, x):
    return session, x


@unpacked
def total(x, y):
    return x + y


def check(func, element, kwargs=None, *, starmap=False):
    calls = CallCheck(make_program(func, []), kwargs or {}, starmap)
    calls.check_kwargs()
    calls.check_first(element)


TWO = [add, Model().predict, Model(), Pair, cached, divmod, lambda x, y: x, functools.partial(optional, z=1)]


@pytest.mark.parametrize("func", TWO[:-1])
def test_function_of_two_arguments_is_refused_for_single_elements(func):
    with pytest.raises(CloudknotInputError, match=r"cannot be called with one element: missing a required argument"):
        check(func, 1)
    with pytest.raises(CloudknotInputError, match=r"pass starmap=True: map\(elements, starmap=True\)"):
        check(func, (1, 2))


@pytest.mark.parametrize("func", TWO)
def test_function_of_two_arguments_takes_pairs_only(func):
    check(func, (1, 2), starmap=True)
    with pytest.raises(CloudknotInputError, match=r"Element 0 of the input has 3 arguments.*too many positional"):
        check(func, (1, 2, 3), starmap=True)


@pytest.mark.parametrize(
    ("func", "element", "kwargs"),
    [
        (add, 1, {"y": 2}),
        (shifted, 1, {"y": 2}),
        (optional, 1, {}),
        (optional, 1, {"z": 3}),
        (functools.partial(add, 1), 2, {}),
        (functools.partial(add, y=1), 2, {}),
        (str.upper, "a", {}),
        (int, "3", {}),
        (max, [1, 2], {}),
        (sum, [1, 2], {}),
        (print, 1, {"end": ""}),
        (Model, 1, {}),
        (query, 1, {}),
        (total, (1, 2), {}),
        (lambda *args, **kwargs: args, 1, {"any": 1}),
    ],
)
def test_fitting_calls_are_accepted(func, element, kwargs):
    check(func, element, kwargs)


@pytest.mark.parametrize(
    ("func", "element", "kwargs", "words"),
    [
        (constant, 1, {}, r"constant\(\) cannot be .*too many .* Define it with one parameter"),
        (shifted, 1, {}, r"shifted\(x, \*, y\).* Pass a value for all calls, kwargs=\{'y': ...\}\.$"),
        (add, 1, {}, r"Pass tuples of 2 arguments with starmap=True, or a value for all calls, kwargs=\{'y': ...\}"),
        (several, 1, {}, r"Pass tuples of 2 arguments or more"),
        (functools.partial(add, 1, 2), 1, {}, "too many positional"),
        (add, 1, {"x": 2}, r"kwargs do not fit add\(x, y\): multiple values for argument 'x'"),
        (optional, 1, {"why": 2}, r"kwargs do not fit optional\(x, y=1, z=...\): got an unexpected keyword"),
    ],
)
def test_other_calls_are_refused_with_their_fix(func, element, kwargs, words):
    with pytest.raises(CloudknotInputError, match=words):
        check(func, element, kwargs)


@pytest.mark.parametrize(
    ("func", "element", "words"),
    [
        (optional, (1, 2, 3, 4), "Pass tuples of 1 to 3 arguments, or leave out starmap=True"),
        (add, (), "Element 0 of the input has 0 arguments.*Pass tuples of 2 arguments"),
        (several, (1,), "has 1 argument, and .* cannot be called with it"),
        (shifted, (1,), "Pass its other arguments as kwargs"),
        (len, "abc", "leave out starmap=True"),
    ],
)
def test_sequences_of_wrong_length_are_refused_with_their_fix(func, element, words):
    with pytest.raises(CloudknotInputError, match=words):
        check(func, element, starmap=True)


def test_decorator_that_may_change_arguments_gets_warning_only(caplog):
    """The function inside takes two arguments. Its decorator may add one, as that of ``query`` does."""
    check(query, 1)
    assert ["query(session, x) is decorated" in record.getMessage() for record in caplog.records] == [True]
    caplog.clear()
    check(query, (1,), starmap=True)
    assert len(caplog.records) == 1


def test_signature_of_users_own_that_raises_is_unknown():
    class Odd:
        @property
        def __signature__(self):
            raise NameError("an annotation names a module that is not imported")

        def __call__(self, x):
            return x

    check(Odd(), 1)
