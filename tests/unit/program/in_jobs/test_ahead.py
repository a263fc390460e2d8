"""A fork server loads the function before it forks, if that runs no code of the user, and jobs do not notice."""

from __future__ import annotations

import datetime
import functools
import math
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from cloudknot.program import pickling
from cloudknot.worker.program.ahead import LARGEST, is_harmless
from tests.unit.program.conftest import Run

# As the fork server does it: load, fork for each job, and load again in the job.
JOB = """
import os, pickle, sys
from cloudknot_worker.program import load
from cloudknot_worker.program.own_modules import own_modules
def main():
    context = sys.argv[1]
    own_modules.enable()
    load.load_ahead()
    is_ahead = bool(load._ahead)
    for number in range(2):
        read, write = os.pipe()
        if not os.fork():
            func = load.load_function()
            found = func(*pickle.load(open(context + "/input", "rb")))
            os.write(write, repr((is_ahead, found)).encode())
            os._exit(0)
        os.close(write)
        with open(read) as file:
            text = file.read()
        os.wait()
    print(text)
main()
"""


# As for a run that brings a function of its own.
FORGETFUL = """
import sys
from cloudknot_worker.program import load
from cloudknot_worker.program.own_modules import OwnModule, own_modules
own_modules.enable()
main, finders = sys.modules["__main__"], list(sys.meta_path)
load.load_ahead()
was_there = type(sys.modules["pkg.sim"]) is OwnModule
own_modules.forget()
print((was_there, sys.modules["__main__"] is main, "pkg.sim" in sys.modules, sys.meta_path == finders))
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path, JOB)


def function_with(**names: Any) -> Callable[[], Any]:
    """Return a function with some globals."""
    space = {"__name__": "script", **names}
    exec(f"def function():\n    return {', '.join(names)}", space)
    return space["function"]  # type: ignore[return-value]


class Reduced:
    """An object that calls a function when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> Any:
        return self._call


def harmless(path: Path, value: object) -> bool:
    """Return whether the pickle of a value is loaded before a fork."""
    path.write_bytes(pickling.dumps(value))
    return is_harmless(path)


@pytest.mark.parametrize(
    "value",
    [
        function_with(number=1, text="a", items=[{"a": (1.5, None)}, {2}]),
        function_with(sqrt=math.sqrt, day=datetime.date(2026, 1, 1), kind=int, error=ValueError),
        function_with(inner=function_with(x=1), partial=functools.partial(int, base=2)),
        function_with(module=math, path=os.path),
    ],
)
def test_plain_functions_are_harmless(tmp_path: Path, value: object) -> None:
    assert harmless(tmp_path / "function.pkl", value)


def test_arrays_are_harmless(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy", reason="an array is a global of the function")
    assert harmless(tmp_path / "function.pkl", function_with(array=numpy.arange(10.0), one=numpy.float64(1)))


@pytest.mark.parametrize(
    "value",
    [
        function_with(generator=random.Random(1)),
        function_with(own=type("Own", (), {})),
        function_with(lock=Reduced(threading.Lock)),
        function_with(file=Reduced(open, os.devnull)),
        function_with(process=Reduced(os.getpid)),
        function_with(code=Reduced(eval, "1")),
        function_with(found=Reduced(getattr, math, "pi")),
        function_with(module=Reduced(__import__, "antigravity")),
        function_with(module=Reduced(cloudpickle.cloudpickle.subimport, "math")),
    ],
)
def test_objects_that_may_run_code_are_not_harmless(tmp_path: Path, value: object) -> None:
    assert not harmless(tmp_path / "function.pkl", value)


def test_module_that_is_not_imported_yet_is_not_harmless(tmp_path: Path) -> None:
    path = tmp_path / "function.pkl"
    path.write_bytes(pickling.dumps(math).replace(b"\x04math", b"\x04this"))
    assert not is_harmless(path)


def test_missing_broken_empty_and_large_pickles_are_not_harmless(tmp_path: Path) -> None:
    path = tmp_path / "function.pkl"
    assert not is_harmless(path)
    for data in (b"", b"nonsense", cloudpickle.dumps(1)[:-1], cloudpickle.dumps(bytes(LARGEST))):
        path.write_bytes(data)
        assert not is_harmless(path)


STATE = """
import sys
counts = [0]
def count(x):
    counts[0] += x
    module = sys.modules[__name__]
    return counts[0], module.count is count, module.counts is counts, sys.argv
"""


def test_each_job_has_the_state_of_a_new_process(run: Run) -> None:
    expected = repr((True, (2, True, True, [""])))
    assert run(f"{STATE}\nfunc, args = count, (2,)") == expected
    assert (
        run("from pkg.sim import count as func\nargs = (2,)", {"pkg/__init__.py": "", "pkg/sim.py": STATE}) == expected
    )


def test_processes_of_a_job_find_modules(run: Run) -> None:
    script = (
        "import subprocess, sys\n"
        "def started(x):\n"
        "    import helper\n"
        "    code = 'import helper; print(helper.NAME)'\n"
        "    return subprocess.check_output([sys.executable, '-c', code], text=True).strip()\n"
        "func, args = started, (1,)"
    )
    assert run(script, {"helper.py": "NAME = 'found'"}) == repr((True, "found"))


def test_class_of_user_is_loaded_by_each_job(run: Run) -> None:
    script = "class Own: pass\ndef made(x): return type(Own()) is Own\nfunc, args = made, (1,)"
    assert run(script) == repr((False, True))


def test_modules_of_function_that_another_one_replaces_lose_their_names(tmp_path: Path) -> None:
    script, files = "from pkg.sim import count as func\nargs = (2,)", {"pkg/__init__.py": "", "pkg/sim.py": STATE}
    assert Run(tmp_path, FORGETFUL)(script, files) == repr((True, True, False, True))
