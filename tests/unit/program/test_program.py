"""A program made in one Python process runs in another that has only the image's files.

Client and job are real interpreters. The client is a script with local modules beside it. The job starts isolated,
with the modules of the build context on its path. A finder hides modules that the image would lack.
"""

from __future__ import annotations

import functools
import json
import linecache
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cloudknot.errors import CloudknotInputError
from cloudknot.program.inputs.input_pickling import pickle_value
from cloudknot.program.program import Program, make_program
from tests.helpers.paths import ROOT

CLIENT = """
import json, pathlib, sys
from tests.helpers.images import render_image
from cloudknot.program.program import make_program
from cloudknot.program.inputs.input_pickling import pickle_value
program = make_program(func)
context = pathlib.Path(sys.argv[1])
for path, data in render_image(program).files.items():
    (context / path).parent.mkdir(parents=True, exist_ok=True)
    (context / path).write_bytes(data)
(context / "input").write_bytes(pickle_value(args, program))
print(json.dumps({"name": program.name, "modules": list(program.modules), "requirements": program.requirements,
                  "missing": program.missing, "digest": program.digest, "by_value": program.by_value,
                  "source": program.source}))
"""

JOB = """
import pickle, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
sys.path.insert(0, sys.argv[1] + "/program/modules")
func = pickle.load(open(sys.argv[1] + "/program/function.pkl", "rb"))
args = pickle.load(open(sys.argv[1] + "/input", "rb"))
print(repr(func(*args)))
"""


@dataclass
class Outcome:
    """The client's description of the program, and the ``repr`` of the value that the job computed."""

    program: dict[str, Any]
    result: str


def python(*arguments: str, cwd: Path, seed: str = "0", path: str = str(ROOT)) -> str:
    """Run Python with a clean environment and return the last line of its output."""
    process = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": path, "PYTHONHASHSEED": seed, "HOME": str(cwd)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.splitlines()[-1] if process.stdout else ""


Run = Callable[..., Outcome]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a function that runs a client script, and then its program. The script defines ``func`` and ``args``."""

    def run(
        script: str, files: dict[str, str] | None = None, absent: tuple[str, ...] = ("cloudknot", "pytest")
    ) -> Outcome:
        client, context = tmp_path / "client", tmp_path / "context"
        for path, source in {**(files or {}), "script.py": textwrap.dedent(script) + CLIENT}.items():
            (client / path).parent.mkdir(parents=True, exist_ok=True)
            (client / path).write_text(textwrap.dedent(source))
        program = json.loads(python("script.py", str(context), cwd=client))
        job = JOB.replace("ABSENT", repr(absent))
        return Outcome(program, python("-I", "-c", job, str(context), cwd=context))

    return run


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        ("def func(x): return x * 2", "6"),
        ("func = lambda x: x + 1", "4"),
        ("def make(n):\n    def func(x): return x * n\n    return func\nfunc = make(5)", "15"),
        ("import functools\ndef f(a, b, c=0): return a, b, c\n"
         "func = functools.partial(functools.partial(f, 1), c=9)", "(1, 3, 9)"),
        ("class C:\n    k = 4\n    def m(self, x): return x * self.k\nfunc = C().m", "12"),
        ("class C:\n    @classmethod\n    def m(cls, x): return cls.__name__, x\nfunc = C.m", "('C', 3)"),
        ("class C:\n    def __init__(self, n): self.n = n\n    def __call__(self, x): return x - self.n\n"
         "func = C(1)", "2"),
        ("def func(x): return 1 if x == 0 else x * func(x - 1)", "6"),
        ("import functools\ndef deco(f):\n    @functools.wraps(f)\n    def inner(x): return f(x) + 100\n"
         "    return inner\n@deco\ndef func(x): return x", "103"),
        ("import functools\n@functools.lru_cache(maxsize=7)\n"
         "def func(n): return n if n < 2 else func(n-1) + func(n-2)", "2"),
        ("from functools import cached_property\nclass C:\n    @cached_property\n    def y(self): return 8\n"
         "def func(x): return C().y + x", "11"),
        ("from typing import NewType\nMeters = NewType('Meters', int)\n"
         "def func(x: Meters) -> Meters: return Meters(x)", "3"),
        ("import math\nfunc = math.sqrt", "1.7320508075688772"),
        ("import os.path\ndef func(x): return os.path.join('a', str(x))", "'a/3'"),
        ("import numpy as np\nmatrix = np.arange(4)\ndef func(x): return int(matrix[x])", "3"),
        ("import enum\nclass E(enum.Enum):\n    A = 3\ndef func(x): return E(x).name", "'A'"),
        ("import logging\nlog = logging.getLogger('x')\ndef func(x):\n    log.info('hello')\n    return x", "3"),
    ],
)  # fmt: skip
def test_job_runs_each_kind_of_callable(run: Run, definition: str, expected: str) -> None:
    assert run(f"{definition}\nargs = (3,)\n").result == expected


def test_function_of_local_module_brings_only_its_own_dependencies(run: Run) -> None:
    sim = (
        "import math\nimport cloudknot, pytest\nunpicklable = open(__file__)\ndef area(r): return math.floor(3.2 * r)"
    )
    outcome = run("from sim import area as func\nargs = (2,)", {"sim.py": sim})
    assert outcome.result == "6"
    assert outcome.program["requirements"] == []
    assert outcome.program["modules"] == ["sim.py"]


def test_helper_modules_travel_with_their_requirements(run: Run) -> None:
    files = {
        "sim.py": "import pytest\nfrom helper import twice\nimport unused\ndef area(r): return twice(r)",
        "helper.py": "from deeper import one\ntry:\n    import ujson_absent\nexcept ImportError:\n    pass\n"
        "def twice(x): return 2 * x * one()",
        "deeper.py": "import six\ndef one(): return len(six.string_types)",
        "unused.py": "import requests\n",
        "unrelated.py": "",
    }
    outcome = run("from sim import area as func\nargs = (4,)", files)
    assert outcome.result == "8"
    assert outcome.program["modules"] == ["deeper.py", "helper.py", "sim.py", "unused.py"]
    assert [line.partition("==")[0] for line in outcome.program["requirements"]] == ["six"]
    assert outcome.program["missing"] == []


def test_package_travels_with_modules_of_relative_and_late_imports(run: Run) -> None:
    files = {
        "pkg/__init__.py": "VERSION = 3",
        "pkg/sim.py": "from . import tools\n"
        "def area(r):\n    from .sub.late import add\n    return add(tools.one(), r)\n",
        "pkg/tools.py": "from pkg import VERSION\ndef one(): return VERSION",
        "pkg/sub/__init__.py": "",
        "pkg/sub/late.py": "from ..tools import one\ndef add(a, b): return a + b + one()",
    }
    outcome = run("from pkg.sim import area as func\nargs = (4,)", files)
    assert outcome.result == "10"
    assert outcome.program["modules"] == sorted(files)


def test_module_search_executes_no_module(run: Run) -> None:
    files = {
        "late.py": "import boom\ndef f(): return 1",
        "boom.py": "import sys\nif 'cloudknot' in sys.modules: sys.exit(7)",
    }
    assert run("def func(x):\n    import late\n    return late.f()\nargs = (1,)", files).result == "1"


def test_function_and_input_share_one_class_in_job(run: Run) -> None:
    sim = """
    import pytest
    from dataclasses import dataclass
    @dataclass
    class Params:
        x: int
    def check(p): return isinstance(p, Params), Params(p.x + 1)
    """
    assert run("import sim\nfunc, args = sim.check, (sim.Params(1),)", {"sim.py": sim}).result == "(True, Params(x=2))"


SHAPES = """
from helpers_of_shapes import twice
class Base: pass
class Circle(Base):
    def __init__(self, r): self.r = r
    def area(self): return twice(self.r)
"""
SHAPE_FILES = {"shapes.py": SHAPES, "helpers_of_shapes.py": "def twice(x): return 2 * x"}


@pytest.mark.parametrize(
    ("func", "modules", "expected"),
    [
        ("def func(c, d): return c.area(), type(c) is type(d)", [], "(4, True)"),
        ("def func(c, d):\n    import shapes\n    return c.area(), isinstance(d, shapes.Base)",
         ["helpers_of_shapes.py", "shapes.py"], "(4, True)"),
        ("def func(c, d): return c.area(), isinstance(d, Circle)", ["helpers_of_shapes.py", "shapes.py"], "(4, True)"),
    ],
)  # fmt: skip
def test_input_brings_its_class_of_local_module(run: Run, func: str, modules: list[str], expected: str) -> None:
    outcome = run(f"from shapes import Circle\n{func}\nargs = (Circle(2), Circle(3))\n", SHAPE_FILES)
    assert (outcome.result, outcome.program["modules"]) == (expected, modules)


def test_input_for_existing_knot_brings_its_class(tmp_path: Path) -> None:
    for path, source in SHAPE_FILES.items():
        (tmp_path / path).write_text(source)
    client = """import pathlib, shapes
from cloudknot.program.pickling import identity
from cloudknot.program.inputs.input_pickling import pickle_value
pathlib.Path("i.pkl").write_bytes(pickle_value([shapes.Circle(2)], None))
print(identity(shapes.Circle))
"""
    first, second = (python("-c", client, cwd=tmp_path, seed=seed) for seed in "01")
    assert first == second != "None"
    job = "import pickle; (c,) = pickle.load(open('i.pkl', 'rb')); print(c.area())"
    assert python("-I", "-c", job, cwd=tmp_path) == "4"


def test_error_names_unpicklable_attribute_of_input_class(run: Run, tmp_path: Path) -> None:
    (tmp_path / "shapes.py").write_text("import threading\nclass Circle:\n    guard = threading.Lock()\n")
    script = "import shapes\nfrom cloudknot.program.inputs.input_pickling import pickle_value\n"
    script += "try: pickle_value(shapes.Circle(), None)\n"
    output = python("-c", script + "except ValueError as error: print(error)", cwd=tmp_path)
    assert "'guard' of the class Circle (a _thread.lock)" in output


def test_class_keeps_its_identity_in_image_of_earlier_session(run: Run, tmp_path: Path) -> None:
    script = "class Params: pass\ndef func(p): return isinstance(p, Params)\nargs = (Params(),)"
    first = run(script)
    # Both programs have one digest, so a later session keeps the first image, with its older pickle.
    pickled = (tmp_path / "context/program/function.pkl").read_bytes()
    second = run(script)
    (tmp_path / "context/program/function.pkl").write_bytes(pickled)
    first_with_new_input = python("-I", "-c", JOB.replace("ABSENT", "()"), str(tmp_path / "context"), cwd=tmp_path)
    assert (first.program["digest"], first.result, first_with_new_input) == (second.program["digest"], "True", "True")


def test_later_session_loads_result_as_instance_of_its_own_class(tmp_path: Path) -> None:
    sim = "import pytest\nclass Wrong(Exception):\n    def m(self): pass\ndef f(): return Wrong(3)\n"
    (tmp_path / "sim.py").write_text(sim)
    make = "import sim, pathlib\nfrom cloudknot.program.program import make_program\nprogram = make_program(sim.f)\n"
    python("-c", make + "pathlib.Path('f.pkl').write_bytes(program.pickled)", cwd=tmp_path)
    job = "import pickle, cloudpickle; f = pickle.load(open('f.pkl', 'rb')); cloudpickle.dump(f(), open('r', 'wb'))"
    python("-I", "-c", job, cwd=tmp_path)
    later = """from cloudknot.program.pickling import loads
method = sim.Wrong.m
result = loads(pathlib.Path("r").read_bytes())
print(type(result) is sim.Wrong, result.args, sim.Wrong.m is method)
"""
    assert python("-c", make + later, cwd=tmp_path) == "True (3,) True"


def test_function_with_decorator_of_another_module_runs_without_its_own_module(run: Run) -> None:
    # The job has no pytest, so it could not import sim.
    files = {
        "deco.py": "def plus(f):\n    def inner(x): return helper(f(x))\n    return inner\n"
        "def helper(x): return x + 1",
        "sim.py": "import pytest\nfrom deco import plus\ndef base(x): return x * 3\n"
        "@plus\ndef area(x): return base(x)",
    }
    assert run("from sim import area as func\nargs = (2,)", files).result == "7"


def test_module_used_as_value_travels_as_file(run: Run) -> None:
    files = {"helper.py": "lock = __import__('threading').Lock()\ndef f(x):\n    with lock: return x + 1"}
    outcome = run("import helper\ndef func(x): return helper.f(x)\nargs = (2,)", files)
    assert (outcome.result, outcome.program["modules"]) == ("3", ["helper.py"])


def test_program_finds_source_and_name_of_notebook_cell() -> None:
    cell = "/tmp/ipykernel_12/3456.py"
    text = "def cell_function(x):\n    return x\n"
    linecache.cache[cell] = (len(text), None, text.splitlines(keepends=True), cell)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, cell, "exec"), namespace)
    program = make_program(functools.partial(namespace["cell_function"], 1))
    assert (program.name, program.source, program.filename, program.firstlineno) == ("cell_function", text, cell, 1)


def test_program_finds_imports_in_bytecode_without_source() -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile("def f():\n    import six\n    return six", "<nowhere>", "exec"), namespace)
    program = make_program(namespace["f"])
    assert program.source == ""
    assert program.imports == ("six",)


def test_given_requirements_replace_detected_ones() -> None:
    def uses_six() -> Any:
        import six

        return six

    detected, given = make_program(uses_six), make_program(uses_six, requirements=["six==1.16.0"])
    assert given.requirements == ("six==1.16.0",)
    assert detected.digest != given.digest


CONNECTION = sqlite3.connect(":memory:")


class Holder:
    def __init__(self) -> None:
        self.guard = sqlite3.connect(":memory:")

    def method(self, x: int) -> int:
        return x


def closure_over(value: object) -> Callable[[], object]:
    secret = value
    return lambda: secret


def with_default(x: int, pen: object = CONNECTION) -> int:
    return x


def uses_global() -> None:
    CONNECTION.commit()


def calls_uses_global() -> None:
    uses_global()


@pytest.mark.parametrize(
    ("func", "part"),
    [
        (closure_over(sqlite3.connect(":memory:")), "closure variable 'secret'"),
        (closure_over({"a": [sqlite3.connect(":memory:")]}), "item 0 (a sqlite3.Connection), in the value of key 'a'"),
        (uses_global, "the global 'CONNECTION' that uses_global uses (a sqlite3.Connection)"),
        (
            calls_uses_global,
            "'CONNECTION' that uses_global uses (a sqlite3.Connection), "
            "in the global 'uses_global' that calls_uses_global uses",
        ),
        (with_default, "the default of the argument 'pen'"),
        (Holder().method, "attribute 'guard' of the Holder object"),
        (functools.partial(closure_over, sqlite3.connect(":memory:")), "argument 0 of the partial"),
        (functools.partial(closure_over, value=sqlite3.connect(":memory:")), "the argument 'value' of the partial"),
        (closure_over(x for x in ()), "'secret' of <lambda> (a generator)"),
    ],
)
def test_error_names_unpicklable_part_of_function(func: Callable[..., Any], part: str) -> None:
    with pytest.raises(CloudknotInputError) as caught:
        make_program(func)
    assert part in str(caught.value)
    assert caught.value.__cause__ is not None


async def asynchronous() -> None: ...


def items(x: int) -> Iterator[int]:
    yield x


async def asynchronous_items() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("func", "message"),
    [
        (3, "func=3 is not callable"),
        (None, "func=None is not callable"),
        (asynchronous, r"async function.*asyncio\.run\(asynchronous"),
        (asynchronous_items, "async generator function.*list"),
        (items, r"'items' is a generator function .*return list\(items\(\*args\)\)"),
        (functools.partial(items), "generator function"),
    ],
)
def test_make_program_refuses_unsupported_function(func: Any, message: str) -> None:
    with pytest.raises(CloudknotInputError, match=message):
        make_program(func)


def test_error_names_unpicklable_part_of_input() -> None:
    program: Program = make_program(len)
    with pytest.raises(CloudknotInputError, match=r"the value of key 'k' \(a _thread.lock\)"):
        pickle_value({"k": threading.Lock()}, program)


def test_concurrent_threads_make_equal_programs() -> None:
    import cloudpickle

    programs: list[Program] = []
    threads = [threading.Thread(target=lambda: programs.append(make_program(closure_over(1)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len({program.digest for program in programs}) == 1
    assert len(programs) == 4
    # All threads share cloudpickle's registry of modules, so each must leave it empty.
    assert not cloudpickle.list_registry_pickle_by_value()


def test_installed_module_of_virtual_environment_is_not_standard_library() -> None:
    import six

    from cloudknot.program.local_modules import _in_standard_library

    assert not _in_standard_library(Path(six.__file__))
    assert _in_standard_library(Path(json.__file__))
