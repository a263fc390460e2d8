"""A command-line script is a program: it travels with its modules, and each element becomes its arguments."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from cloudknot.errors import CloudknotInputError
from cloudknot.program.script import make_script
from cloudknot.worker.program.load import load_function
from tests.helpers.images import render_image


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a folder with a script, its modules, and a module that it does not use."""
    files = {
        "main.py": "import sys, helper, pkg.deep\nif __name__ == '__main__':\n    import numpy\n    print(sys.argv)",
        "helper.py": "import yaml\ndef up(words): return [word.upper() for word in words]\n",
        "unused.py": "import nothing",
        "pkg/__init__.py": "",
        "pkg/deep.py": "from . import other\n",
        "pkg/other.py": "import json\n",
    }
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def test_python_script_travels_with_its_modules_and_requirements(project: Path) -> None:
    program = make_script(project / "main.py")
    assert list(program.modules) == ["helper.py", "main.py", "pkg/__init__.py", "pkg/deep.py", "pkg/other.py"]
    assert program.requirements == (f"numpy=={version('numpy')}", f"pyyaml=={version('pyyaml')}")
    assert program.name == program.script == "main.py"
    assert make_script(project / "main.py", ["six"]).requirements == ("six",)


def test_modules_that_script_names_as_text_travel(project: Path) -> None:
    (project / "main.py").write_text(
        "import importlib, subprocess, sys\nimportlib.import_module('helper')\n"
        "for name in sys.argv: importlib.import_module(f'pkg.{name}')\n"
        "subprocess.run([sys.executable, 'tools/run.py'])\n"
    )
    (project / "tools").mkdir()
    (project / "tools/run.py").write_text("import no_such_package")
    program = make_script(project / "main.py")
    inside = ["pkg/__init__.py", "pkg/deep.py", "pkg/other.py"]
    assert list(program.modules) == ["helper.py", "main.py", *inside, "tools/run.py"]
    assert program.paths == ("tools/run.py",)
    assert program.requirements == (f"pyyaml=={version('pyyaml')}",)


def test_edited_helper_changes_image_but_not_environment(project: Path) -> None:
    before = render_image(make_script(project / "main.py"))
    (project / "helper.py").write_text("import yaml\ndef up(words): return words\n")
    after = render_image(make_script(project / "main.py"))
    assert before.tag != after.tag
    assert before.environment_digest == after.environment_digest


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [("tool", "echo", "tool does not name its interpreter"), ("tool.py", "def (", "tool.py is not valid Python")],
)
def test_make_script_refuses_script_that_cannot_run(tmp_path: Path, name: str, text: str, problem: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(CloudknotInputError, match=problem):
        make_script(tmp_path / name)
    with pytest.raises(CloudknotInputError, match="cannot be read"):
        make_script(tmp_path / "none")


def load_from_image(script: Path, folder: Path) -> object:
    """Write the image of a script into a folder, and load its function as the worker does."""
    for path, data in render_image(make_script(script, [])).files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return load_function(folder / "program")


def test_script_receives_element_as_arguments_and_returns_its_output(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "tool"
    script.write_text('#!/bin/sh -e\nprintf "<%s>" "$@"\necho "to the log" >&2\n[ "$1" != bad ]\n')
    run = load_from_image(script, tmp_path / "image")
    assert callable(run)
    assert run("a b") == "<a b>"
    assert run(["-n", 3, Path("x")]) == "<-n><3><x>"
    assert run("one", 2.5) == "<one><2.5>"
    assert run([]) == "<>"
    output = capfd.readouterr()
    assert "<a b>" in output.out
    assert "to the log" in output.err
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run("bad")
    assert (caught.value.returncode, caught.value.output) == (1, "<bad>")


def test_python_script_imports_modules_that_travelled_with_it(project: Path, tmp_path: Path) -> None:
    (project / "main.py").write_text("import sys, helper\nprint(helper.up(sys.argv[1:]))")
    (project / "helper.py").write_text("def up(words): return [word.upper() for word in words]\n")
    run = load_from_image(project / "main.py", tmp_path / "image")
    assert callable(run)
    assert run(("a", "b")) == "['A', 'B']\n"
