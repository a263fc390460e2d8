"""Functions and classes of typed and modern scripts reach a job whole: each script runs in a client and in a job."""

from __future__ import annotations

import pytest

from tests.unit.program.conftest import Run

TYPING = """
from __future__ import annotations
import functools, typing
from typing import *
P, R, Ts = ParamSpec("P"), TypeVar("R", bound=int), TypeVarTuple("Ts")
Callback: TypeAlias = Callable[Concatenate[int, P], int]
Mode, User = Literal["a", "b"], NewType("User", int)
def logged(f: Callable[P, R]) -> Callable[P, R]:
    @functools.wraps(f)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R: return f(*args, **kwargs)
    return inner
class Array(Generic[Unpack[Ts]]):
    def shape(self) -> tuple[Unpack[Ts]]: return (3,)
@runtime_checkable
class HasArea(Protocol[R]):
    def area(self) -> R: ...
class Square:
    def area(self) -> int: return 4
@overload
def same(x: int) -> int: ...
@overload
def same(x: str) -> str: ...
def same(x): return x
class Options(TypedDict, total=False):
    level: Required[int]
@logged
def func(x: Annotated[int, "m"], mode: Mode = "a") -> Optional[int]:
    return [
        same(x), Array[int, str]().shape(), isinstance(Square(), HasArea), isinstance(x, HasArea), User(x),
        Callback.__parameters__ == (P,), Ts.__name__, Mode.__args__, Options(level=1),
    ]
args = (2,)
"""


def test_type_variables_aliases_and_protocols_travel(run: Run) -> None:
    expected = [2, (3,), True, False, 2, True, "Ts", ("a", "b"), {"level": 1}]
    assert run(TYPING) == repr(expected)


def test_type_variables_of_typing_extensions_travel(run: Run) -> None:
    script = """
    from typing_extensions import ParamSpec, TypeVar, TypeVarTuple, TypeAliasType, TypedDict, override
    P, T, Ts, Ints = ParamSpec("P"), TypeVar("T", default=int), TypeVarTuple("Ts"), TypeAliasType("Ints", list[int])
    class Base:
        @override
        def name(self): return "base"
    def func(x): return P.__name__, T.__name__, Ts.__name__, Ints.__value__, Base().name()
    args = (2,)
    """
    assert run(script) == repr(("P", "T", "Ts", list[int], "base"))


DISPATCH = """
import abc, collections.abc, functools
class Point: pass
@functools.singledispatch
def kind(x): return "any"
@kind.register
def _(x: int): return "int, not " + kind("a")
@kind.register(list)
@kind.register(tuple)
def _(x): return "items"
@kind.register
def _(x: Point): return "Point"
@kind.register(collections.abc.Mapping)
def _(x): return "mapping"
kind.mark = 5
class Shape:
    @functools.singledispatchmethod
    def kind(self, x): return "any"
    @kind.register
    def _(self, x: int): return "int"
    @kind.register
    @classmethod
    def _(cls, x: str): return cls.__name__
USED
def func(x):
    kinds = [kind(v) for v in (1.0, 1, [], (), x, {})], kind.__name__, kind.mark
    return kinds, Shape().kind(1), Shape().kind("a"), Shape().kind(1.0)
args = (Point(),)
"""


def test_single_dispatch_travels_and_its_use_before_changes_nothing(run: Run) -> None:
    kinds = (["any", "int, not any", "items", "items", "Point", "mapping"], "kind", 5)
    assert run(DISPATCH.replace("USED", "")) == repr((kinds, "int", "Shape", "any"))
    digest = run.digest
    assert run(DISPATCH.replace("USED", "kind(1), kind(Point()), Shape().kind(1)")) == repr(
        (kinds, "int", "Shape", "any")
    )
    assert run.digest == digest


CLASSES = """
import abc, dataclasses, enum, functools, typing
T = typing.TypeVar("T")
class Base:
    subclasses = {}
    def __init_subclass__(cls, *, key, **kw):
        super().__init_subclass__(**kw)
        Base.subclasses[key] = cls.__name__
class Plugin(Base, key="plugin"): pass
class Further(Plugin, key="further"): pass
class Meta(abc.ABCMeta):
    made = []
    def __new__(meta, name, bases, namespace, *, size=0):
        return super().__new__(meta, name, bases, namespace | {"size": size})
    def __init__(cls, name, bases, namespace, *, size=0):
        super().__init__(name, bases, namespace)
        Meta.made.append(name)
    def __len__(cls): return cls.size
class Abstract(typing.Generic[T], metaclass=Meta, size=1):
    @abc.abstractmethod
    def f(self): ...
class Concrete(Abstract[int], size=2):
    def f(self): return 1
Abstract.register(int)
@dataclasses.dataclass(slots=True, frozen=True, order=True, kw_only=True)
class Slotted:
    x: int
    ys: list[int] = dataclasses.field(default_factory=list)
class Word(enum.StrEnum):
    A = enum.auto()
    @property
    def loud(self): return self.value.upper()
class Pair(typing.NamedTuple):
    x: int
    y: int = 4
    def total(self): return self.x + self.y
class Cached:
    @functools.cached_property
    def value(self): return 5
    @staticmethod
    @functools.cache
    def one(): return 1
def func(further, slotted, word):
    class Here(Base, key="here"): pass
    return [
        Base.subclasses, type(further) is Further, Meta.made, len(Concrete), Concrete().f(), isinstance(3, Abstract),
        slotted < Slotted(x=3), word is Word.A, word.loud, Pair(1).total(), Cached().value, Cached.one(),
    ]
args = (Further(), Slotted(x=2), Word.A)
"""


def test_classes_are_made_once_and_keep_their_state(run: Run) -> None:
    subclasses = {"plugin": "Plugin", "further": "Further", "here": "Here"}
    expected = [subclasses, True, ["Abstract", "Concrete"], 2, 1, True, True, True, "A", 5, 5, 1]
    assert run(CLASSES) == repr(expected)


WEAK = """
import weakref
values, keys, items = weakref.WeakValueDictionary(), weakref.WeakKeyDictionary(), weakref.WeakSet()
class Thing: pass
thing = Thing()
FILL
def func(x):
    thing = values[x] = Thing()
    keys[thing] = 1
    items.add(thing)
    return len(values), len(keys), len(items)
args = (1,)
"""


def test_empty_weak_containers_are_new_in_job_and_others_are_refused(run: Run) -> None:
    assert run(WEAK.replace("FILL", "")) == "(1, 1, 1)"
    with pytest.raises(AssertionError, match=r"global 'values' that func uses .*kept alive elsewhere"):
        run(WEAK.replace("FILL", "values[1] = thing"))
