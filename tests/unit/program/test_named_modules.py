"""The names of local packages' scripts stand for their modules."""

from __future__ import annotations

import ast
import subprocess
import subprocess as sp
from collections.abc import Callable
from pathlib import Path
from subprocess import run
from types import FunctionType

import pytest

from cloudknot.program import named_modules
from tests.unit.program.packages.projects import installed, site_packages

FOLDER = {"url": "file:///src/lab", "dir_info": {}}
POINTS = "[console_scripts]\nlab-run = lab.cli:main\n[lab.plugins]\nlab-plugin = lab.plugin:main\n"


def as_list() -> object:
    return subprocess.run(["lab-run", "lab-plugin"], check=True)


def as_line() -> object:
    return sp.run("cat x | lab-run --fast", shell=True, check=True)


def by_function() -> object:
    return run(["lab-run"], check=True)


def without_subprocess() -> str:
    return "lab-run"


@pytest.fixture(autouse=True)
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a local package with a script, and one of an index."""
    site = site_packages(tmp_path / "environment")
    installed(site, "lab", origin=FOLDER, extra={"entry_points.txt": POINTS})
    installed(site, "public", extra={"entry_points.txt": "[console_scripts]\npublic-run = public.cli:main\n"})
    monkeypatch.syspath_prepend(str(site))


@pytest.mark.parametrize("function", [as_list, as_line, by_function])
def test_script_of_local_package_in_function_names_its_module(function: Callable[[], object]) -> None:
    assert isinstance(function, FunctionType)
    found = named_modules.in_function(function)
    assert "lab.cli" in found
    assert "lab.plugin" not in found


@pytest.mark.parametrize(
    "source",
    [
        "import subprocess\nsubprocess.run(['lab-run'])",
        "import subprocess as sp\nsp.run('lab-run x', shell=True)",
        "from subprocess import run as start\nstart(['lab-run'])",
        "import os\nos.system('lab-run')",
    ],
)
def test_script_of_local_package_in_source_names_its_module(source: str) -> None:
    assert "lab.cli" in named_modules.in_tree(ast.parse(source))


def test_other_words_name_no_module_of_a_script() -> None:
    assert isinstance(without_subprocess, FunctionType)
    assert named_modules.in_function(without_subprocess) == set()
    source = "import subprocess\nsubprocess.run(['public-run'])"
    assert not {"public.cli", "lab.cli"} & named_modules.in_tree(ast.parse(source))
