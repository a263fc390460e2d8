"""Values that a session sets in the user's own modules reach a job, or are named in a warning."""

from __future__ import annotations

import ast

import pytest

from cloudknot.program.checks.static_values import scope_of
from tests.unit.program.conftest import Run

SETTINGS = '''
"""Settings."""
import os
N = 1
LIMIT: int = 60 * 60
NAMES = ["a"]
CONFIG = {"x": 1, "y": [1, 2]}
FOLDER = os.getcwd()
COMPUTED = len(os.environ.get("NO_SUCH_NAME", "abc"))
_connection = None
_seen = {}
opened = open(os.devnull)
joined = "a".split()
def words():
    opened.readline()
    return list(joined)
registry = {}
def register(f):
    registry[f.__name__] = f
    return f
@register
def registered(x): return x
class Config:
    level = 1
    def go(self): return "file"
class Child(Config):
    level = 2
def connection():
    global _connection
    _connection = _connection or open(os.devnull)
    return _connection
def read(x):
    _seen["last"] = x
    return "file", N, CONFIG["x"]
'''
FILES = {
    "settings.py": SETTINGS,
    "copies.py": "from settings import N, CONFIG\nimport settings\ndef read(): return N, CONFIG['x'], settings.N",
    "pkg/__init__.py": "V = 1",
    "pkg/deep.py": "from . import V\nDEEP = 1\ndef read(): return DEEP, V",
    "sim.py": "import settings\nsettings.COMPUTED = 77\ndef go(x): return settings.COMPUTED, settings.N",
}


@pytest.mark.parametrize(
    ("before", "body", "expected"),
    [
        ("", "return settings.N, settings.read(0), settings.FOLDER == os.getcwd()", (1, ("file", 1, 1), True)),
        ("settings.N = 5", "return settings.N, settings.read(0)", (5, ("file", 5, 1))),
        ("settings.N = 5", "from settings import N; return N", 5),
        ("settings.N = 5\nfrom settings import N", "return N, settings.N", (5, 5)),
        # A module that copied the value before the change keeps the old one, and shares what changed in place.
        ("import copies; settings.N = 5; settings.CONFIG['x'] = 6", "return copies.read()", (1, 6, 5)),
        ("settings.N = 5; import copies", "return copies.read()", (5, 1, 5)),
        ("settings.NEW = 2.5; settings.NAMES.append('b')", "return settings.NEW, settings.NAMES", (2.5, ["a", "b"])),
        ("settings.N = True; settings.LIMIT += 1", "return settings.N, settings.LIMIT", (True, 3601)),
        ("settings.Config.level = 3", "return settings.Config.level, settings.Child.level", (3, 2)),
        ("settings.Child.level = 3", "return settings.Config.level, settings.Child().level", (1, 3)),
        ("def mine(x): return 'mine'\nsettings.read = mine", "return settings.read(0)", "mine"),
        ("settings.Config.go = lambda self: 'mine'", "return settings.Config().go()", "mine"),
        # Only code that changes it tells that a computed value has changed.
        ("settings.COMPUTED = 9", "return settings.COMPUTED", 9),
        ("setattr(settings, 'COMPUTED', 9)", "return settings.COMPUTED", 9),
        ("def configure(n): settings.COMPUTED = n\nconfigure(9)", "return settings.COMPUTED", 9),
        ("import pkg.deep; pkg.deep.DEEP = 4; pkg.V = 5", "return pkg.deep.read(), pkg.V", ((4, 1), 5)),
        ("settings.read(3)", "return settings._seen", {"last": 3}),
        ("settings.connection()", "return settings._connection", None),
        # A call of a method is no change, unless it fills a container.
        ("settings.opened.readable()", "return settings.opened.readable(), settings.opened.closed", (True, False)),
        ("settings.words().append('b')", "return settings.joined", ["a"]),
        ("settings.joined.append('b')", "return settings.joined", ["a", "b"]),
    ],
)
def test_changed_value_travels(run: Run, before: str, body: str, expected: object) -> None:
    assert run(f"import os, settings\n{before}\ndef func(x):\n    {body}\nargs = (1,)\n", FILES) == repr(expected)
    assert run.warnings == ""


def test_change_by_module_of_function_travels(run: Run) -> None:
    assert run("from sim import go as func\nimport settings\nsettings.N = 2\nargs = (1,)", FILES) == "(77, 2)"


def test_change_after_reload_is_compared_with_newer_file(run: Run) -> None:
    script = """
    import importlib, pathlib, settings
    file = pathlib.Path("settings.py")
    file.write_text(file.read_text().replace("N = 1\\n", "N = 100 + 11\\n"))
    importlib.reload(settings)
    settings.CONFIG["x"] = 2
    def func(x): return settings.read(0)
    args = (1,)
    """
    assert run(script, FILES) == "('file', 111, 2)"
    assert run.warnings == ""


def test_change_is_part_of_digest(run: Run) -> None:
    digests = []
    for change in ("", "settings.N = 5", "settings.N = 6", "settings.N = 5"):
        run(f"import settings\n{change}\ndef func(x): return settings.N\nargs = (1,)", FILES)
        digests.append(run.digest)
    assert digests[1] == digests[3]
    assert len(set(digests)) == 3


def test_change_that_cannot_travel_is_named(run: Run) -> None:
    script = """
    import sqlite3, settings
    settings.N = settings.NEW = sqlite3.connect(":memory:")
    settings.CONFIG = "long " * 1_000_000
    def func(x): return settings.N
    args = (1,)
    """
    assert run(script, FILES) == "1"
    assert "settings.CONFIG, settings.N, settings.NEW changed after the import" in run.warnings


def test_module_whose_file_changed_after_its_import_is_named(run: Run) -> None:
    script = """
    import pathlib, settings
    file = pathlib.Path("settings.py")
    file.write_text(file.read_text().replace('return "file", N', 'return "newer", N'))
    def func(x): return settings.read(0)
    args = (1,)
    """
    assert run(script, FILES) == "('newer', 1, 1)"
    assert "The file of settings changed after its import" in run.warnings


@pytest.mark.parametrize(
    ("source", "values"),
    [
        (
            "a = 1\nb = a + 1\nc = -b\nd = (a, [b], {c: 'x'}, {1})",
            {"a": 1, "b": 2, "c": -2, "d": (1, [2], {-2: "x"}, {1})},
        ),
        ("a = dict(x=1)\na['y'] = 2\nb = float('inf')", {"b": float("inf")}),
        ("a = []\na.append(1)\nb = [1]\nf(b)\nc = [2]", {"c": [2]}),
        ("a = 1\nif x: a = 2\nb = 1\nfor b in x: pass\ntry: c = 1\nexcept E: c = 2", {}),
        ("a = 10 ** 10 ** 10\nb = 'x' * 10 ** 12\nc = 2 ** 10", {"c": 1024}),
        ("a = open('x')\nb = [a]\nc = {**a}\nd = f'{a}'\ne = 'a' 'b'", {"e": "ab"}),
        ("a = b = 3\nc, d = 1, 2\na += 1\ndel b", {"a": 4}),
        ("a: int\nb: int = 2\ndef a(): pass\nimport b", {}),
    ],
)
def test_known_values_are_those_of_constant_expressions(source: str, values: dict[str, object]) -> None:
    assert scope_of(ast.parse(source)).values == values
