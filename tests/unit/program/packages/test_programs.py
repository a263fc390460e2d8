"""Programs name the local packages that they use, and take no files of them along."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest

from cloudknot.program import local_modules
from cloudknot.program.program import make_program
from cloudknot.program.script import make_script
from tests.unit.program.packages.projects import editable, installed, project, site_packages

Import = Callable[..., ModuleType]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = site_packages(tmp_path / "environment")
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if name.startswith("lab_"):
            del sys.modules[name]
    local_modules.package_of_cached.cache_clear()
    local_modules.is_local_cached.cache_clear()


@pytest.fixture
def imported(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Import:
    """Return a function that installs an editable package with these files, and imports one of its modules."""

    def install(name: str, module: str, files: Mapping[str, str]) -> ModuleType:
        source = project(tmp_path / name, name, files={f"src/{path}": text for path, text in files.items()})
        editable(site, name, source, source / "src")
        monkeypatch.syspath_prepend(str(source / "src"))
        return importlib.import_module(module)

    return install


def test_function_of_editable_package_is_imported_in_the_job(imported: Import) -> None:
    text = "import threading\nLOCK = threading.Lock()\ndef run(x):\n    with LOCK:\n        return x\n"
    module = imported("lab-reference", "lab_reference.steps", {"lab_reference/steps.py": text})
    program = make_program(module.run)
    assert (program.by_value, dict(program.modules), program.local_packages) == ((), {}, ("lab-reference",))
    assert b"lab_reference.steps" in program.pickled


def test_function_of_module_that_uses_cloudknot_travels_by_value(imported: Import) -> None:
    text = "import cloudknot\nfrom lab_launch.config import LIMIT\ndef run(x):\n    return x + LIMIT\n"
    module = imported("lab-launch", "lab_launch.run", {"lab_launch/run.py": text})
    program = make_program(module.run)
    assert (program.by_value, dict(program.modules)) == (("lab_launch.run",), {})
    assert program.local_packages == ("lab-launch",)


def test_imports_that_a_local_package_does_not_declare_are_required(imported: Import) -> None:
    text = "import six, lab_forgets.more\ndef run(x):\n    return x\n"
    more = "import packaging\ntry:\n    import lab_missing_thing\nexcept ImportError:\n    pass\n"
    module = imported("lab-forgets", "lab_forgets.run", {"lab_forgets/run.py": text, "lab_forgets/more.py": more})
    program = make_program(module.run)
    assert program.requirements == (f"packaging=={version('packaging')}", f"six=={version('six')}")


def test_local_packages_travel_with_requirements_of_the_user(imported: Import) -> None:
    module = imported("lab-user", "lab_user.run", {"lab_user/run.py": "def run(x):\n    return x\n"})
    program = make_program(module.run, ["six"])
    assert (program.requirements, program.local_packages) == (("six",), ("lab-user",))


def test_job_lacks_classes_of_local_packages_that_stay_here(imported: Import) -> None:
    module = imported("lab-goes", "lab_goes.run", {"lab_goes/run.py": "def run(x):\n    return x\n"})
    imported("lab-stays", "lab_stays", {})
    missing = make_program(module.run).missing_modules
    assert missing.is_missing("lab_stays.config")
    assert not missing.is_missing("lab_goes.config")


def test_script_names_local_packages(site: Path, tmp_path: Path) -> None:
    installed(site, "lab-copy", files={"lab_copy.py": ""}, origin={"url": "file:///src", "dir_info": {}})
    script = tmp_path / "tool.py"
    script.write_text("import lab_copy\n")
    program = make_script(script)
    assert (program.local_packages, list(program.modules)) == (("lab-copy",), ["tool.py"])


def test_digest_names_local_packages(imported: Import) -> None:
    module = imported("lab-digest", "lab_digest.run", {"lab_digest/run.py": "def run(x):\n    return x\n"})
    imported("lab-other", "lab_other", {})
    assert make_program(module.run, []).digest != make_program(module.run, ["lab-other"]).digest


def test_imports_of_an_installed_local_package_are_required(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of the standard library, in an environment, is the one above site-packages."""
    files = {"lab_plain/__init__.py": "", "lab_plain/run.py": "import six\ndef run(x):\n    return x\n"}
    installed(site, "lab-plain", files=files, origin={"url": "file:///src", "dir_info": {}})
    monkeypatch.setattr(local_modules, "_standard_library", lambda: {site.parent})
    program = make_program(importlib.import_module("lab_plain.run").run)
    assert (program.requirements, program.local_packages) == ((f"six=={version('six')}",), ("lab-plain",))
