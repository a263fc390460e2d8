"""Exceptions whose class cannot rebuild them arrive as they were raised, also in groups."""

import dataclasses

import attrs
import pytest

LONG = 120


class Odd(ValueError):
    """An exception that hands only one of its two arguments to its base class."""

    def __init__(self, number, why):
        super().__init__(f"{number}: {why}")
        self.number, self.why = number, why


class Slotted(Exception):
    __slots__ = ("__weakref__", "code")

    def __init__(self, text, *, code):
        super().__init__(text)
        self.code = code


@attrs.define(auto_exc=True)
class Failed(Exception):
    step: str
    code: int = attrs.field(kw_only=True)


@attrs.frozen
class Frozen(Exception):
    step: str
    code: int = attrs.field(kw_only=True)


@dataclasses.dataclass(frozen=True)
class Plain(Exception):
    step: str
    code: int = dataclasses.field(kw_only=True)


class Hopeless(KeyError):
    """An exception that nobody can make without its arguments."""

    def __new__(cls, *, secret):
        return super().__new__(cls, secret)

    def __init__(self, *, secret):
        super().__init__(secret)


class Two(ExceptionGroup):
    def derive(self, exceptions):
        return Two(self.message, exceptions)


def raise_kind(kind):
    if kind == "slotted":
        raise Slotted("no space", code=5)
    if kind in ("failed", "frozen", "plain"):
        raise {"failed": Failed, "frozen": Frozen, "plain": Plain}[kind]("fit", code=5)
    if kind == "group":
        inner = Two("inner", [Odd(2, "inside"), Plain("fit", code=6)])
        raise ExceptionGroup("many", [Odd(1, "odd"), Slotted("text", code=7), inner, KeyError("k")])
    error = ExceptionGroup("hopeless", [Hopeless(secret=1), OSError(2, "gone"), Odd(3, "kept")])
    error.add_note("a note")
    raise error


KINDS = ["slotted", "failed", "frozen", "plain", "group", "hopeless"]


@pytest.fixture(scope="module")
def errors(cloud):
    """Return the exception for each kind, as the caller of a map gets it."""
    import cloudknot as ck

    future = ck.Knot(name="exceptions", func=raise_kind, cloud=cloud).map(KINDS, chunksize=len(KINDS))
    return {kind: future[index].exception(LONG) for index, kind in enumerate(KINDS)}


@pytest.mark.parametrize(
    ("kind", "cls", "attributes"),
    [
        ("slotted", Slotted, {"code": 5}),
        ("failed", Failed, {"step": "fit", "code": 5}),
        ("frozen", Frozen, {"step": "fit", "code": 5}),
        ("plain", Plain, {"step": "fit", "code": 5}),
    ],
)
def test_exception_has_its_class_and_attributes(errors, kind, cls, attributes):
    error = errors[kind]
    assert type(error) is cls
    assert {name: getattr(error, name) for name in attributes} == attributes


def test_group_has_members_that_their_class_cannot_rebuild(errors):
    group = errors["group"]
    assert type(group) is ExceptionGroup
    odd, slotted, inner, key = group.exceptions
    assert (type(odd), odd.number, odd.why, str(odd)) == (Odd, 1, "odd", "1: odd")
    assert (type(slotted), slotted.code) == (Slotted, 7)
    assert type(inner) is Two
    assert [type(member) for member in inner.exceptions] == [Odd, Plain]
    assert inner.exceptions[1].code == 6
    assert key.args == ("k",)


def test_member_that_nobody_can_rebuild_is_one_of_its_builtin_class(errors):
    group = errors["hopeless"]
    assert [type(member) for member in group.exceptions] == [KeyError, FileNotFoundError, Odd]
    assert "Hopeless" in str(group.exceptions[0])
    assert "a note" in group.__notes__
    assert group.split(KeyError)[0] is not None
