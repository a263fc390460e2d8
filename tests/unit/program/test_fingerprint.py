"""The digest of a function is the same in every session, and changes with everything that the function uses."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from cloudknot.program.fingerprint import Fingerprint
from cloudknot.program.program import make_program
from tests.helpers.paths import ROOT

DEFINITIONS = """
import abc, enum, functools, json, re, typing
from dataclasses import dataclass, field
from datetime import datetime
from collections import OrderedDict, defaultdict
import numpy as np

NAMES = {"anna", "ben", "carl", "dora", "emil"}
MIXED = {("a", 1), "b", 3, None, frozenset({"x", "y", "z"})}
PATTERN = re.compile("a+")
ARRAY = np.arange(1000.0).reshape(10, 100)[:, ::2]

class Base(abc.ABC):
    @abc.abstractmethod
    def f(self): ...
class One(Base):
    def f(self): return 1
class Two(Base):
    def f(self): return super().__class__
@Base.register
class Three: pass
@Base.register
class Four: pass
@dataclass(frozen=True)
class Point:
    x: int
    tags: frozenset = frozenset({"p", "q", "r"})
class Colour(enum.Enum):
    RED = 1
    BLUE = "b"
T = typing.TypeVar("T")
POINTS = {Point(1), Point(2), Point(3)}

def constants(x): return x in {"a", "b", "c", "d", "e"}
def globals_(x): return x in NAMES or x in MIXED or PATTERN.match(x) or POINTS
def classes(x: T) -> T: return One(), Two(), Three(), Four(), Base, Point(x), Colour.RED, ARRAY
def recursive(x): return recursive(x - 1) if x else even(x)
def even(x): return x == 0 or odd(x - 1)
def odd(x): return x != 0 and even(x - 1)
def closure():
    seen, order = {"k", "l", "m"}, OrderedDict(a=1)
    counts = defaultdict(list, a=[1])
    def inner(x): return seen, order, counts, datetime(2026, 1, 1), inner
    return inner
@functools.lru_cache
def cached(n): return cached(n - 1) if n else 0

FUNCTIONS = [constants, globals_, classes, recursive, closure(), cached, functools.partial(constants, x=NAMES),
             lambda x: x * 2.5, Point(1).__repr__, len, json.dumps]
"""

PRINT = """
from cloudknot.program.program import make_program
print([make_program(function, requirements=[]).digest for function in FUNCTIONS])
"""


def run(folder: Path, source: str, seed: str, name: str = "script.py") -> str:
    """Run a script in a new Python process and return its output. The seed changes the order of sets."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(source)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}
    # One test needs the bytecode cache.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    process = subprocess.run(
        [sys.executable, name], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_digest_is_same_in_every_session(tmp_path: Path) -> None:
    digests = {run(tmp_path, DEFINITIONS + PRINT, seed) for seed in ("0", "1", "7", "random")}
    assert len(digests) == 1
    assert len(set(eval(digests.pop()))) == 11


def test_digest_does_not_depend_on_place_of_source(tmp_path: Path) -> None:
    first = run(tmp_path / "a", DEFINITIONS + PRINT, "1")
    second = run(tmp_path / "b", "import os, string\n\n\nunrelated = 3\n" + DEFINITIONS + PRINT, "2", "other.py")
    assert first == second


def test_digest_is_same_for_compiled_and_cached_module(tmp_path: Path) -> None:
    (tmp_path / "definitions.py").write_text(DEFINITIONS)
    outputs = {run(tmp_path, "from definitions import FUNCTIONS" + PRINT, seed) for seed in ("3", "4")}
    assert (tmp_path / "__pycache__").is_dir()
    assert len(outputs) == 1


def test_digest_does_not_depend_on_earlier_imports_and_pickles(tmp_path: Path) -> None:
    earlier_use = (
        "import cloudpickle, xml.dom.minidom, concurrent.futures.thread\n[cloudpickle.dumps(f) for f in FUNCTIONS]\n"
    )
    assert run(tmp_path, DEFINITIONS + PRINT, "1") == run(tmp_path, DEFINITIONS + earlier_use + PRINT, "2")


BASE = """
import functools
K = 1
LIMITS = [1, {"a": {1, 2}}]
def helper(x): return x + 1
class C:
    rate = 3
    def go(self, x): return self.rate * x
c = C()
def f(x, y=2, *, z=3):
    if x in {1, 2, 3}: return 'one'
    return helper(x) + K + c.go(x) + LIMITS[0]
"""


def digest(source: str, name: str = "f") -> str:
    """Return the digest of a function that a source text defines."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    exec(compile(textwrap.dedent(source), "<test>", "exec"), namespace)
    func = namespace[name]
    assert callable(func)
    return make_program(func, requirements=[]).digest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("'one'", "'two'"),
        ("{1, 2, 3}", "{1, 2, 4}"),
        ("{1, 2, 3}", "(1, 2, 3)"),
        ("K = 1", "K = 2"),
        ("K = 1", "K = 1.0"),
        ("K = 1", "K = True"),
        ("return x + 1", "return 1 + x"),
        ("y=2", "y=3"),
        ("z=3", "z=-3"),
        ("z=3", "z='3'"),
        ("rate = 3", "rate = 4"),
        ("self.rate * x", "self.rate / x"),
        ('{"a": {1, 2}}', '{"a": {1, 2, 3}}'),
        ('{"a": {1, 2}}', '{"b": {1, 2}}'),
        ('{"a": {1, 2}}', '{"a": frozenset({1, 2})}'),
        ("c = C()", "c = C(); c.rate = 9"),
        ("f(x,", "f(w,"),
        ("def helper(x): return", "def helper(x, *a): return"),
        ("def helper", "@functools.lru_cache\ndef helper"),
        ("helper(x) + K", "K + helper(x)"),
    ],
)
def test_digest_changes_with_code_and_values_that_function_uses(old: str, new: str) -> None:
    assert old in BASE
    if (old, new) == ("f(x,", "f(w,"):
        changed = BASE.replace("f(x,", "f(w,").replace("if x in", "if w in").replace("helper(x)", "helper(w)")
    else:
        changed = BASE.replace(old, new)
    assert digest(changed) != digest(BASE)


def test_digest_ignores_unused_globals() -> None:
    assert digest(BASE + "\nUNUSED = 5\ndef other(): return 3") == digest(BASE)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a = [1]; V = [a, a]", "V = [[1], [1]]"),
        ("V = ('ab', 'c')", "V = ('a', 'bc')"),
        ("V = 0.0", "V = -0.0"),
        ("V = b'x'", "V = 'x'"),
        ("V = {'a': 1, 'b': 2}", "V = {'b': 2, 'a': 1}"),
        ("V = [[], 1]", "V = [[1]]"),
        ("V = 10**5000", "V = 10**5000 + 1"),
        ("import numpy; V = numpy.arange(9)", "import numpy; V = numpy.arange(9.0)"),
        ("import numpy; V = numpy.zeros((2, 3))", "import numpy; V = numpy.zeros((3, 2))"),
        ("import math as V", "import cmath as V"),
        ("from math import sin as V", "from math import cos as V"),
    ],
)
def test_digest_distinguishes_similar_values(first: str, second: str) -> None:
    use = "\ndef f(): return V"
    assert digest(first + use) != digest(second + use)
    assert digest(first + use) == digest(first + use)


def test_digest_covers_long_chain_of_functions() -> None:
    # A recursive digest could fail here. cloudpickle itself exceeds the recursion limit with 200 functions.
    chain = "\n".join(f"def f{n}(): return f{n + 1}()" for n in range(60)) + "\ndef f60(): return {}"
    assert digest(chain.format(1), "f0") != digest(chain.format(2), "f0")


def test_digest_covers_source_of_helper_module(tmp_path: Path) -> None:
    script = "import helper\ndef func(x): return helper.f(x)\nFUNCTIONS = [func]"
    outputs = []
    for body in ("return x", "return -x"):
        (tmp_path / "helper.py").write_text(f"def f(x):\n    {body}\n")
        outputs.append(run(tmp_path, script + PRINT, "1"))
    assert outputs[0] != outputs[1]


def test_digest_covers_content_of_large_values():
    # Values above 64 KiB are hashed apart from the rest.
    large = bytes(100_000)
    assert Fingerprint(large).digest == Fingerprint(bytes(100_000)).digest
    assert Fingerprint(large).digest != Fingerprint(bytes(99_999) + b"1").digest
