"""A job acts as the session does that made its program: logging, ``sys.argv``, modules without a name, ``-bb``."""

from __future__ import annotations

import textwrap
import zipfile
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT
from tests.unit.program.conftest import CLIENT, Run, job, python

LOG = """
import io, logging, sys
import tool
SETUP
log = logging.getLogger("tool.part")
def func(x):
    stream = logging.root.handlers[0].stream if logging.root.handlers else sys.stderr
    caught = io.StringIO()
    if logging.root.handlers:
        logging.root.handlers[0].setStream(caught)
    log.info("here %s", x)
    log.debug("deep")
    logging.getLogger("other").debug("other")
    return stream is sys.stderr, caught.getvalue()
args = (2,)
"""
FILES = {"tool.py": "N = 1"}


@pytest.mark.parametrize(
    ("setup", "text"),
    [
        ("", ""),
        ("logging.basicConfig(level=logging.INFO)", "INFO:tool.part:here 2\n"),
        ("logging.basicConfig(level='INFO', format='{name}! {message}', style='{')", "tool.part! here 2\n"),
        ("logging.basicConfig(level=logging.INFO, stream=sys.stdout)", "INFO:tool.part:here 2\n"),
        (
            "logging.basicConfig(); logging.getLogger('tool').setLevel('DEBUG'); tool.N",
            "INFO:tool.part:here 2\nDEBUG:tool.part:deep\n",
        ),
        # A file of this machine is no place for the lines of a job.
        ("logging.basicConfig(level=logging.INFO, filename='log.txt')", ""),
    ],
)
def test_job_logs_as_session_does(run: Run, setup: str, text: str) -> None:
    script = LOG.replace("SETUP", setup).replace("def func(x):", "def func(x, n=lambda: tool.N):")
    assert run(script, FILES) == repr((True, text))


def test_settings_of_logging_leave_digest_of_other_functions_alone(run: Run) -> None:
    script = "import logging\nSETUP\ndef func(x): return x\nargs = (1,)\n"
    run(script.replace("SETUP", ""))
    digest = run.digest
    run(script.replace("SETUP", "logging.basicConfig(level=logging.INFO)"))
    assert run.digest == digest


def test_arguments_of_worker_are_not_those_of_script(run: Run) -> None:
    assert run("import sys\ndef func(x): return sys.argv\nargs = (1,)") == "['']"


MODULE = """
import importlib.util
spec = importlib.util.spec_from_file_location("helper", "sub/helper.py")
helper = importlib.util.module_from_spec(spec)
spec.loader.exec_module(helper)
LAST
args = (2,)
"""


@pytest.mark.parametrize(
    ("last", "result"),
    [
        ("def func(x): return helper.f(x), helper.N, helper.__name__, helper.K().g()", (9, 5, "helper", 1)),
        ("func = helper.f", 9),
        ("helper.N = 6\ndef func(x): return helper.N", 6),
    ],
)
def test_module_made_from_spec_travels_by_value(run: Run, last: str, result: object) -> None:
    files = {
        "sub/helper.py": """
        import math
        N = 5
        class K:
            def g(self): return 1
        def f(x): return x + N + g(x)
        def g(x): return math.floor(x)
        """
    }
    assert run(MODULE.replace("LAST", last), files) == repr(result)


def test_session_that_forbids_comparisons_of_bytes_and_text(run: Run) -> None:
    # -bb makes an error of b"a" == "a", and of str(b"a").
    script = """
    import functools, tool
    tool.N = b"bytes"
    TABLE = {"a": b"b", b"c": "d"}
    class Kind:
        both = (b"a", "a")
        @functools.singledispatchmethod
        def name(self, x): return "any"
        @name.register
        def _(self, x: bytes): return "bytes"
    def func(kind, key): return tool.N, TABLE["a"], TABLE[key], kind.both, kind.name(key)
    args = (Kind(), b"c")
    """
    assert run(script, FILES, options=("-bb",)) == repr((b"bytes", b"b", "d", (b"a", "a"), "bytes"))


def test_modules_inside_zipapp_travel(tmp_path: Path) -> None:
    archive, context = tmp_path / "app.pyz", tmp_path / "opt"
    script = "import pkg.tool, beside\ndef func(x): return pkg.tool.double(x), beside.N\nargs = (2,)\n"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("__main__.py", script + textwrap.dedent(CLIENT))
        file.writestr("beside.py", "N = 5")
        file.writestr("pkg/__init__.py", "")
        file.writestr("pkg/tool.py", "from . import base\ndef double(x): return x * base.TWO")
        file.writestr("pkg/base.py", "TWO = 2")
    python(str(archive), str(context), cwd=tmp_path, path=str(ROOT))
    assert job(context) == "(4, 5)"
