"""Imports become pinned requirement lines. The distributions are fakes in a temporary site-packages folder."""

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
    """Return an empty site-packages folder on the import path."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


def install(site: Path, name: str, number: str, *files: str, origin: dict[str, Any] | None = None) -> None:
    """Write the metadata and the files of a distribution. Importing one of the files would raise an error."""
    metadata_folder = site / f"{name.replace('-', '_')}-{number}.dist-info"
    metadata_folder.mkdir()
    (metadata_folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")
    (metadata_folder / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    if origin is not None:
        (metadata_folder / "direct_url.json").write_text(json.dumps(origin))
    for file in files:
        (site / file).parent.mkdir(parents=True, exist_ok=True)
        (site / file).write_text("raise RuntimeError('imported instead of searched')")


def test_imported_names_become_pinned_requirements(site: Path) -> None:
    install(site, "Some.Thing_Else", "1.2", "thing/__init__.py")
    detected = requirements.from_imports({"thing.part", "json", "numpy", "os.path"})
    assert detected.lines == (f"numpy=={version('numpy')}", "some-thing-else==1.2")
    assert detected.imports == ("numpy", "thing")
    assert detected.missing == ()


def test_installed_files_identify_distribution_of_shared_namespace(site: Path) -> None:
    install(site, "cloud-storage", "1", "spaced/cloud/storage/__init__.py")
    install(site, "cloud-tables", "2", "spaced/cloud/tables.py")
    assert requirements.from_imports({"spaced", "spaced.cloud", "spaced.cloud.storage"}).lines == ("cloud-storage==1",)
    assert requirements.from_imports({"spaced.cloud.tables"}).lines == ("cloud-tables==2",)


def test_local_version_label_is_left_out(site: Path) -> None:
    install(site, "thing", "2.1.0+cu121", "thing.py")
    assert requirements.from_imports({"thing"}).lines == ("thing==2.1.0",)


@pytest.mark.parametrize(
    "origin",
    [
        {"url": "https://host/o/thing.git", "vcs_info": {"vcs": "git", "commit_id": "abc123"}},
        {"url": "https://h/thing-1.whl", "archive_info": {}},
        {"url": "file:///wheels/thing-1.whl", "archive_info": {}},
        {"url": "file:///src/thing", "dir_info": {}},
    ],
)
def test_package_that_did_not_come_from_an_index_is_in_no_line(site: Path, origin: dict[str, Any]) -> None:
    install(site, "Thing", "1", "thing.py", origin=origin)
    detected = requirements.from_imports({"thing.part"})
    assert (detected.lines, detected.local, detected.imports) == ((), ("thing",), ("thing",))


def test_table_translates_names_that_are_not_installed() -> None:
    # A name that happens to be installed here is pinned, not translated.
    names = {"PIL", "sklearn", "no_such_thing_here", "perhaps"} - set(metadata.packages_distributions())
    detected = requirements.from_imports(names, optional={"perhaps"})
    assert detected.missing == tuple(sorted(names & {"PIL", "sklearn"}))
    assert detected.unknown == ("no_such_thing_here",)
    assert set(detected.lines) == {requirements.packages(detected.missing)[name] for name in detected.missing}
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


def calls_guarded_import() -> None:
    guards_unknown()


def calls_plain_import() -> None:
    guards_unknown()
    imports_unknown()


@pytest.mark.parametrize("func", [imports_unknown, calls_plain_import])
def test_make_program_refuses_import_without_known_package(func: Any) -> None:
    with pytest.raises(CloudknotInputError, match=rf"'{func.__name__}' imports no_such_thing_here, .*requirements="):
        make_program(func)
    assert make_program(func, requirements=["six"]).requirements == ("six",)


@pytest.mark.parametrize("func", [guards_unknown, calls_guarded_import])
def test_program_omits_optional_import_of_function_or_helper(func: Any) -> None:
    program = make_program(func)
    assert (program.requirements, program.missing) == ((), ())


def test_program_warns_when_it_requires_package_that_is_not_installed() -> None:
    def imports_bs4() -> None:
        import bs4  # type: ignore[import-not-found]  # noqa: F401

    with pytest.warns(UserWarning, match="imports bs4, .* newest beautifulsoup4"):
        program = make_program(imports_bs4)
    assert (program.requirements, program.missing) == (("beautifulsoup4",), ("bs4",))


def test_scan_ignores_broken_sources_and_relative_or_guarded_imports() -> None:
    sources = [
        "import six\nfrom .numpy import x\nfrom . import boto3",
        "def broken(:",
        "foo(lambda x: x)\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas\n",
        "if __name__ == '__main__':\n    import matplotlib\n",
        "def f():\n    from yaml.nodes import Node",
    ]
    assert requirements.scan(sources) == {"six", "yaml"}


def test_imports_found_in_bytecode_are_absolute() -> None:
    source = "def f():\n    from ..util import a\n    import x.y\n    class C:\n        from . import late\n"
    code = compile(source, "<test>", "exec")
    assert imports.names_in_code(code, "pkg.sub") == {"pkg.util", "pkg.util.a", "x.y", "pkg.sub", "pkg.sub.late"}


def test_installed_and_standard_modules_are_not_local(site: Path, tmp_path: Path) -> None:
    install(site, "thing", "1", "thing.py")
    assert [local_modules.is_local(name) for name in ("thing", "json", "sys", "numpy", "nowhere", "xml.dom")] == [
        False
    ] * 6
    is_installed = "site-packages" in requirements.__file__ or local_modules.package_of("cloudknot") is not None
    assert local_modules.is_local("cloudknot") is not is_installed


def test_search_for_submodule_does_not_import_its_parent(site: Path) -> None:
    install(site, "thing", "1", "thing/__init__.py", "thing/part.py")
    spec = local_modules.find("thing.part")
    assert spec is not None
    assert spec.origin == str(site / "thing/part.py")
    assert "thing" not in sys.modules


def test_from_user_sorts_lines_and_drops_comments_and_duplicates(tmp_path: Path) -> None:
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
    ("value", "problem"),
    [
        ("numpy.toml", "requirements='numpy.toml' is a file of unknown kind"),
        (
            ["six", "no-such.txt"],
            "'no-such.txt' in requirements= is the name of a file.* no such file.*'-r no-such.txt'",
        ),
        (["requirements.txt"], "'requirements.txt' in requirements= is the name of a file"),
        (["numpy 2"], "'numpy 2' in requirements= is not a pip requirement"),
        (["numpy~=1"], "'numpy~=1' in requirements= is not a pip requirement"),
        ([3], "requirements= contains 3, a value of type int"),
        (["a\nb"], r"'a\\nb' in requirements= is not a pip requirement"),
        (["-e ./no-such-folder"], "'./no-such-folder' in requirements= is not a pip requirement"),
        (["--no-such-option"], "cloudknot does not know the option '--no-such-option'"),
        (["$(x)"], r"'\$\(x\)' in requirements= is not a pip requirement"),
        (Path("/no/such/file"), "requirements file cannot be read.*/no/such/file"),
    ],
)
def test_from_user_refuses_invalid_requirement(value: Any, problem: str) -> None:
    with pytest.raises(CloudknotInputError, match=problem):
        requirements.from_user(value)


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
def test_requirement_line_yields_its_name_and_its_unpinned_form(line: str, name: str, unpinned: str) -> None:
    assert requirements.name_of(line) == name
    assert requirements.without_pin(line) == unpinned


def test_scan_of_installed_imports_loads_no_http_client() -> None:
    script = (
        "import sys\nfrom cloudknot.program import requirements as r\nr.from_imports(r.scan(['import six, csv']))\n"
    )
    script += "print({'pipreqs', 'requests', 'urllib3', 'six'}.intersection(sys.modules))"
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (process.stdout, process.stderr) == ("set()\n", "")


def test_providers_include_all_that_standard_library_finds(site: Path) -> None:
    install(site, "single", "1", "single.py")
    install(site, "compiled", "1", "compiled.cpython-311-x86_64-linux-gnu.so", "parts/core.so")
    expected = metadata.packages_distributions()
    found = requirements._providers(expected.keys() | {"parts"})
    assert found["parts"] == ["compiled"]
    assert {name: set(found[name]) >= set(owners) for name, owners in expected.items()} == dict.fromkeys(
        expected, True
    )
    assert requirements._providers({"single", "numpy"}) == {"single": ["single"], "numpy": ["numpy"]}


def test_dependencies_follow_markers_and_extras_and_ignore_missing_distributions(site: Path) -> None:
    for name, lines in {
        "top": ["Mid[fast]>=1; python_version > '3'", "never; python_version < '3'", "absent"],
        "mid": ["turbo; extra == 'fast'", "slow; extra == 'slow'", "top"],
        "turbo": [],
    }.items():
        install(site, name, "1")
        with (site / f"{name}-1.dist-info" / "METADATA").open("a") as file:
            file.writelines(f"Requires-Dist: {line}\n" for line in lines)
    assert requirements.with_dependencies(["Top", "not-here", ""]) == {"top", "mid", "turbo", "absent", "not-here", ""}


def test_everything_here_is_pinned_without_the_needs_of_cloudknot_alone(site: Path, monkeypatch: Any) -> None:
    for name, number in [("cloudknot", "1"), ("tool-of-cloudknot", "3"), ("shared", "4"), ("asked", "5")]:
        install(site, name, number)
    install(site, "study", "1.0+local")
    install(site, "own", "0.1", origin={"url": "file:///own", "dir_info": {"editable": True}})
    for name, needs in [("cloudknot", ["tool-of-cloudknot", "shared", "asked"]), ("study", ["shared"])]:
        (file,) = site.glob(f"{name}-*.dist-info/METADATA")
        file.write_text(file.read_text() + "".join(f"Requires-Dist: {need}\n" for need in needs))
    for name in ("asked-5", "tool_of_cloudknot-3"):
        (site / f"{name}.dist-info" / "REQUESTED").touch()
    (site / "asked-5.dist-info" / "INSTALLER").write_text("pip\n")
    monkeypatch.setattr(sys, "path", [str(site)])
    found = requirements.with_everything_here(requirements.Requirements(("six",)))
    assert found.lines == ("asked==5", "shared==4", "six", "study==1.0")
    assert found.local == ("own",)


LOCAL = {"url": "file:///src/lab", "dir_info": {}}


def test_lines_of_local_packages_are_replaced_by_their_names(site: Path) -> None:
    install(site, "lab-own", "1.5", "lab_own.py", origin=LOCAL)
    found = requirements.with_local(requirements.from_user(["Lab_Own>=1", "six==1.16.0"]), ())
    assert (found.lines, found.local) == (("six==1.16.0",), ("lab-own",))


def test_local_package_that_an_installed_one_needs_is_found(site: Path) -> None:
    install(site, "lab-deep", "1.5", "lab_deep.py", origin=LOCAL)
    install(site, "uses-lab", "2", "uses_lab.py")
    with (site / "uses_lab-2.dist-info" / "METADATA").open("a") as file:
        file.write("Requires-Dist: lab-deep\n")
    found = requirements.with_local(requirements.from_imports({"uses_lab"}), ())
    assert (found.lines, found.local) == (("uses-lab==2",), ("lab-deep",))


def test_line_with_address_of_a_local_package_stays(site: Path) -> None:
    install(site, "lab-own", "1.5", "lab_own.py", origin=LOCAL)
    line = "lab-own @ https://host/lab_own-2-py3-none-any.whl"
    found = requirements.with_local(requirements.from_user([line]), ())
    assert (found.lines, found.local) == ((line,), ("lab-own",))


def test_extras_of_a_local_package_add_their_requirements(site: Path) -> None:
    install(site, "lab-extras", "1.5", "lab_extras.py", origin=LOCAL)
    with (site / "lab_extras-1.5.dist-info" / "METADATA").open("a") as file:
        for extra, line in (("plots", "matplotlib>=3"), ("all", "lab-extras[plots]"), ("dev", "pytest")):
            file.write(f'Provides-Extra: {extra}\nRequires-Dist: {line}; extra == "{extra}"\n')
    found = requirements.with_local(requirements.from_user(["lab-extras[all]"]), ())
    assert (found.lines, found.local) == (("matplotlib>=3",), ("lab-extras",))
