"""From imports to pinned requirement lines, against distributions made in a temporary site-packages directory."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from cloudknot.errors import CloudknotInputError
from cloudknot.program import imports, local_modules, requirements
from cloudknot.program.program import make_program


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


def install(site: Path, name: str, number: str, *files: str, origin: dict[str, Any] | None = None) -> None:
    about = site / f"{name.replace('-', '_')}-{number}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")
    (about / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    if origin is not None:
        (about / "direct_url.json").write_text(json.dumps(origin))
    for file in files:
        (site / file).parent.mkdir(parents=True, exist_ok=True)
        (site / file).write_text("raise RuntimeError('looked at, and executed')")


def test_names_become_pinned_distributions(site: Path) -> None:
    install(site, "Some.Thing_Else", "1.2", "thing/__init__.py")
    found = requirements.from_imports({"thing.part", "json", "numpy", "os.path"})
    assert found.lines == (f"numpy=={version('numpy')}", "some-thing-else==1.2")
    assert found.imports == ("numpy", "thing")
    assert found.missing == ()


def test_a_shared_namespace_is_told_apart_by_file(site: Path) -> None:
    install(site, "cloud-storage", "1", "spaced/cloud/storage/__init__.py")
    install(site, "cloud-tables", "2", "spaced/cloud/tables.py")
    assert requirements.from_imports({"spaced", "spaced.cloud", "spaced.cloud.storage"}).lines == ("cloud-storage==1",)
    assert requirements.from_imports({"spaced.cloud.tables"}).lines == ("cloud-tables==2",)


@pytest.mark.parametrize(
    ("number", "origin", "line"),
    [
        ("2.1.0+cu121", None, "thing==2.1.0"),
        (
            "1",
            {"url": "https://host/o/thing.git", "vcs_info": {"vcs": "git", "commit_id": "abc123"}},
            "thing @ git+https://host/o/thing.git@abc123",
        ),
        (
            "1",
            {"url": "https://h/r", "vcs_info": {"vcs": "git", "commit_id": "ab"}, "subdirectory": "py"},
            "thing @ git+https://h/r@ab#subdirectory=py",
        ),
        ("1", {"url": "https://h/thing-1.whl", "archive_info": {}}, "thing @ https://h/thing-1.whl"),
        ("1", {"url": "file:///src/thing", "dir_info": {}}, "thing==1"),
    ],
)
def test_pins_ask_for_what_is_installed(site: Path, number: str, origin: dict[str, Any] | None, line: str) -> None:
    install(site, "thing", number, "thing.py", origin=origin)
    assert requirements.from_imports({"thing"}).lines == (line,)


def test_what_is_not_installed_is_translated_by_the_table_only() -> None:
    names = {"PIL", "sklearn", "no_such_thing_here", "perhaps"} - set(metadata.packages_distributions())
    found = requirements.from_imports(names, optional={"perhaps"})
    assert found.missing == tuple(sorted(names & {"PIL", "sklearn"}))
    assert found.unknown == ("no_such_thing_here",)
    assert set(found.lines) == {requirements.packages(found.missing)[name] for name in found.missing}
    assert requirements.packages(["PIL", "sklearn", "yaml", "no_such_thing_here"]) == {
        "PIL": "pillow",
        "sklearn": "scikit-learn",
        "yaml": "pyyaml",
    }


def imports_unknown() -> None:
    import no_such_thing_here  # type: ignore[import-not-found]  # noqa: F401


def guards_unknown() -> None:
    try:  # noqa: SIM105
        import no_such_thing_here  # noqa: F401
    except ImportError:
        pass


def calls_guarding() -> None:
    guards_unknown()


def calls_importing() -> None:
    guards_unknown()
    imports_unknown()


@pytest.mark.parametrize("func", [imports_unknown, calls_importing])
def test_an_import_that_no_package_is_known_for_is_refused(func: Any) -> None:
    with pytest.raises(CloudknotInputError, match=rf"imports no_such_thing_here, .*{func.__name__}.*requirements="):
        make_program(func)
    assert make_program(func, requirements=["six"]).requirements == ("six",)


@pytest.mark.parametrize("func", [guards_unknown, calls_guarding])
def test_an_optional_import_of_the_function_or_its_helpers_is_left_out(func: Any) -> None:
    program = make_program(func)
    assert (program.requirements, program.missing) == ((), ())


def test_a_translated_import_is_asked_for_with_a_warning() -> None:
    def loads() -> None:
        import bs4  # type: ignore[import-not-found]  # noqa: F401

    with pytest.warns(UserWarning, match="imports bs4, .* newest beautifulsoup4"):
        program = make_program(loads)
    assert (program.requirements, program.missing) == (("beautifulsoup4",), ("bs4",))


def test_pipreqs_scan_survives_its_traps() -> None:
    sources = [
        "import six\nfrom .numpy import x\nfrom . import boto3",
        "def broken(:",
        "foo(lambda x: x)\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas\n",
        "if __name__ == '__main__':\n    import matplotlib\n",
        "def f():\n    from yaml.nodes import Node",
    ]
    assert requirements.scan(sources) == {"six", "yaml"}


def test_imports_of_bytecode_are_absolute() -> None:
    source = "def f():\n    from ..util import a\n    import x.y\n    class C:\n        from . import late\n"
    code = compile(source, "<test>", "exec")
    assert imports.names_in_code(code, "pkg.sub") == {"pkg.util", "pkg.util.a", "x.y", "pkg.sub", "pkg.sub.late"}


def test_installed_and_standard_modules_are_not_local(site: Path, tmp_path: Path) -> None:
    install(site, "thing", "1", "thing.py")
    assert [local_modules.is_local(name) for name in ("thing", "json", "sys", "numpy", "nowhere", "xml.dom")] == [
        False
    ] * 6
    assert local_modules.is_local("cloudknot") is ("site-packages" not in requirements.__file__)


def test_finding_a_submodule_does_not_import_its_parent(site: Path) -> None:
    install(site, "thing", "1", "thing/__init__.py", "thing/part.py")
    spec = local_modules.find("thing.part")
    assert spec is not None
    assert spec.origin == str(site / "thing/part.py")
    assert "thing" not in sys.modules


def test_given_lines_are_checked_and_sorted(tmp_path: Path) -> None:
    lines = [
        "numpy>=2  # comment",
        "",
        "--extra-index-url https://i",
        "Boto3",
        "a[b]~=1.0 ; python_version<'4'",
        "Boto3",
    ]
    expected = ("--extra-index-url https://i", "a[b]~=1.0 ; python_version<'4'", "Boto3", "numpy>=2")
    assert requirements.from_user(lines).lines == expected
    (tmp_path / "r.txt").write_text("\n".join(lines))
    assert requirements.from_user(tmp_path / "r.txt").lines == expected


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ("numpy", "requirements='numpy' is a string, not a list"),
        (["numpy 2"], "'numpy 2' in requirements= is not a pip requirement"),
        (["numpy~=1"], "'numpy~=1' in requirements= is not a pip requirement"),
        ([3], "requirements= contains 3, a value of type int"),
        (["a\nb"], r"'a\\nb' in requirements= is not a pip requirement"),
        (["-e ."], "'-e .' in requirements= is not a pip requirement"),
        (["$(x)"], r"'\$\(x\)' in requirements= is not a pip requirement"),
        (Path("/no/such/file"), "requirements file cannot be read.*/no/such/file"),
    ],
)
def test_what_is_no_requirement_is_refused(bad: Any, problem: str) -> None:
    with pytest.raises(CloudknotInputError, match=problem):
        requirements.from_user(bad)


@pytest.mark.parametrize(
    ("line", "name", "unpinned"),
    [
        ("A.b_c==1.0", "a-b-c", "A.b_c"),
        ("a[b]==1.0", "a", "a[b]"),
        ("a>=1", "a", "a>=1"),
        ("a==1 ; python_version<'4'", "a", "a==1 ; python_version<'4'"),
        ("a==1 --hash=sha256:00", "a", "a"),
        ("a @ git+https://host/a@1", "a", "a @ git+https://host/a@1"),
        ("git+https://host/a", "", "git+https://host/a"),
        ("--pre", "", "--pre"),
    ],
)
def test_a_line_has_a_name_and_can_lose_its_pin(line: str, name: str, unpinned: str) -> None:
    assert requirements.name_of(line) == name
    assert requirements.without_pin(line) == unpinned


def test_the_users_logging_stays_as_it_is() -> None:
    script = "import logging\nfrom cloudknot.program import requirements as r\n"
    script += "print(r.scan(['import six']), logging.root.handlers)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("{'six'} []\n", "")
