"""A job's code finds the user's own modules by name, also in processes that it starts.

Client and job are real interpreters, as in `test_program`. The job is the worker, without S3 around it.
"""

from __future__ import annotations

import pytest

from tests.unit.program.conftest import Run

POOLS = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
offset = 0
def set_offset(value):
    global offset
    offset = value
class Box:
    def __init__(self, x): self.x = x
    def doubled(self): return 2 * self.x
def shifted(x): return x + offset
def boxed(x): return Box(x)
STEPS = {"shift": shifted}
def pools(x):
    found = []
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        with context.Pool(2, set_offset, (100,)) as pool:
            found += [pool.map(shifted, [x]), pool.map(STEPS["shift"], [x]), pool.apply(Box(x).doubled)]
            (box,) = pool.map(boxed, [x])
            found.append(type(box) is Box and box.x)
        with ProcessPoolExecutor(1, context) as pool:
            found.append(list(pool.map(shifted, [x])))
    return found
"""
POOLED = repr([[102], [102], 4, 2, [2]] * 3)


def test_functions_of_script_run_in_pools_of_processes(run: Run) -> None:
    assert run(f"{POOLS}\nfunc, args = pools, (2,)") == POOLED


def test_functions_of_own_module_run_in_pools_of_processes(run: Run) -> None:
    # The job has no cloudknot, and must not run the module's last line.
    module = f"import cloudknot\n{POOLS}\nif __import__('sys').argv == ['']: cloudknot.Knot()\n"
    assert run("from sim import pools as func\nargs = (2,)", {"sim.py": module}) == POOLED


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return sys.modules[__name__].area is area", "True"),
        ("import pickle; return pickle.loads(pickle.dumps(area)) is area", "True"),
        ("import pickle; return type(pickle.loads(pickle.dumps(Box()))) is Box", "True"),
        ("import pkg.sim; return pkg.sim.area is area, pkg.NAME", "(True, 'pkg')"),
        ("from pkg import sim; return sim.area is area", "True"),
        ("import pkg.sim as again; return again.late(x), again.area is area", "(-2, True)"),
        ("return getattr(sys.modules[__name__], 'late')(x), isinstance(late_box(), Box)", "(-2, True)"),
        ("with LOCK, CONDITION: return LOCAL.__dict__, LAYOUT.size", "({}, 8)"),
        ("return VARIABLE.get(), BARE.get(7)", "(5, 7)"),
        ("EVENT.set(); return EVENT.wait(1), list(POOL.map(abs, [x]))", "(True, [2])"),
    ],
)
def test_own_module_has_its_name_and_state_in_job(run: Run, body: str, expected: str) -> None:
    module = f"""
import cloudknot as ck
import struct, sys, threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
LOCK, CONDITION, LOCAL, EVENT = threading.Lock(), threading.Condition(), threading.local(), threading.Event()
VARIABLE, BARE = ContextVar("v", default=5), ContextVar("b")
LAYOUT, POOL = struct.Struct("<II"), ThreadPoolExecutor(2)
class Box: pass
class LateBox(Box): pass
def late_box(): return sys.modules[__name__].LateBox()
def late(x): return -x
def area(x):
    {body}
"""
    assert (
        run(
            "from pkg.sim import area as func\nargs = (2,)",
            {"pkg/__init__.py": "NAME = __name__", "pkg/sim.py": module},
        )
        == expected
    )


def test_call_of_knot_in_module_that_job_runs_is_explained(run: Run) -> None:
    module = """
    import sys
    import cloudknot as ck
    def other(): return 1
    def area(x):
        try: return sys.modules[__name__].other()
        except RuntimeError as error: return str(error)
    if sys.argv == [""]: ck.Knot(func=area)
    """
    explanation = run("from sim import area as func\nargs = (2,)", {"sim.py": module})
    assert "cloudknot.Knot is called inside a job" in explanation
    assert "if __name__ == '__main__':" in explanation


TOOLS = {
    "tool.py": """
    import sys, beside
    if __name__ == '__main__':
        import later
        print(beside.N, later.N, *sys.argv[1:])
    """,
    "beside.py": "N = 5",
    "later.py": "N = 6",
    "core/__init__.py": "",
    "core/hello.py": "from . import words\ndef hello(x): return words.text + str(x)",
    "core/words.py": "text = 'hello '",
    "core/__main__.py": "import core.words as words; print(words.text)",
    "kinds/__init__.py": "",
    "kinds/one.py": "N = 1",
    "kinds/two.py": "N = 2",
    "unused.py": "import no_such_package",
}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            "return subprocess.run([sys.executable, '-m', 'tool', str(x)], capture_output=True, text=True).stdout",
            "'5 6 2\\n'",
        ),
        ("return subprocess.run([sys.executable, 'tool.py'], capture_output=True, text=True).stdout", "'5 6\\n'"),
        ("return subprocess.check_output(f'{sys.executable} -m tool {x}', shell=True)", "b'5 6 2\\n'"),
        ("return subprocess.check_output([sys.executable, '-m', NAMES[0]])", "b'hello \\n'"),
        ("return subprocess.check_output([sys.executable, '-c', 'import tool; print(tool.beside.N)'])", "b'5\\n'"),
        ("return subprocess.run(['python', '-m', 'tool'], capture_output=True).stdout", "b'5 6\\n'"),
        ("return sp.run(['python', 'tool.py'], capture_output=True).stdout", "b'5 6\\n'"),
        ("return start('python -m tool', shell=True, capture_output=True).stdout", "b'5 6\\n'"),
        ("return os.popen('python -m tool').read()", "'5 6\\n'"),
        ("return importlib.import_module('core.hello').hello(x)", "'hello 2'"),
        ("return importlib.import_module('.hello', package='core').hello(x)", "'hello 2'"),
        ("return [importlib.import_module(f'kinds.{name}').N for name in ('one', 'two')]", "[1, 2]"),
        ("return __import__('core.hello').hello.hello(x)", "'hello 2'"),
        ("return pkgutil.resolve_name('core.hello:hello')(x)", "'hello 2'"),
        ("return [module.name for module in pkgutil.iter_modules(kinds.__path__)]", "['one', 'two']"),
        ("import kinds; return len(list(pkgutil.walk_packages(kinds.__path__)))", "2"),
        ("return runpy.run_module('beside')['N']", "5"),
        ("return runpy.run_path('beside.py')['N']", "5"),
    ],
)
def test_module_that_code_names_as_text_travels(run: Run, body: str, expected: str) -> None:
    imports = "import importlib, kinds, os, pkgutil, runpy, subprocess, sys, subprocess as sp"
    imports += "\nfrom subprocess import run as start"
    script = f"{imports}\nNAMES = ['core']\ndef func(x): {body}\nargs = (2,)\n"
    assert run(script, TOOLS) == expected


def test_word_that_is_the_name_of_a_compiled_module_by_accident_is_no_error(run: Run) -> None:
    script = """
    import pathlib, py_compile, subprocess, sys
    folder = pathlib.Path(__file__).parent
    if (folder / "fast.py").exists():
        py_compile.compile("fast.py", cfile="fast.pyc")
        (folder / "fast.py").unlink()
    def func(x): return subprocess.check_output([sys.executable, "-c", "print(1)", "fast"])
    args = (2,)
    """
    assert run(script, {"fast.py": "N = 1"}) == "b'1\\n'"
