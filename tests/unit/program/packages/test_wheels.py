"""Local packages become wheels: the same bytes from every folder, with all that Python finds here."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from cloudknot.errors import ImageError
from cloudknot.program.packages.lock import LocalWheel, Lock, LockedPackage
from cloudknot.program.packages.target import InstallTarget
from cloudknot.program.packages.wheels.archive import modules_in, read_wheel
from cloudknot.program.packages.wheels.build import build_wheel
from cloudknot.program.packages.wheels.fetch import is_address, wheel_at
from cloudknot.program.packages.wheels.fit import check_fit
from cloudknot.program.packages.wheels.gather import gather
from cloudknot.program.packages.wheels.local_wheels import owner_of, wheels_of
from cloudknot.program.packages.wheels.pack import pack
from tests.unit.program.packages.projects import editable, installed, project, site_packages

TARGET = InstallTarget("linux/amd64", f"{sys.version_info.major}.{sys.version_info.minor}")
HERE = InstallTarget("", TARGET.python, "")
FOLDER = {"url": "file:///src/lab", "dir_info": {}}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test an empty cache of wheels, and return its folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_CACHE_DIR", str(Path.home() / ".cache" / "uv"))
    return tmp_path / "cache" / "cloudknot" / "wheels"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = site_packages(tmp_path / "environment")
    monkeypatch.syspath_prepend(str(folder))
    return folder


def packed(site: Path) -> LocalWheel:
    (distribution,) = metadata.distributions(path=[str(site)])
    return pack("lab", distribution)


def paths(wheel: LocalWheel) -> set[str]:
    return set(read_wheel(wheel.content))


def test_packed_wheel_has_true_record_and_no_files_of_the_installer(site: Path) -> None:
    installed(site, "lab", files={"lab/__init__.py": "x = 1\n", "lab/__pycache__/a.pyc": ""}, origin=FOLDER)
    wheel = packed(site)
    assert (wheel.name, wheel.version, wheel.filename) == ("lab", "1.0", "lab-1.0-py3-none-any.whl")
    with zipfile.ZipFile(io.BytesIO(wheel.content)) as archive:
        names = set(archive.namelist())
        rows = csv.reader(archive.read("lab-1.0.dist-info/RECORD").decode().splitlines())
        for name, digest, size in rows:
            if digest:
                content = archive.read(name)
                assert int(size) == len(content)
                assert digest.removeprefix("sha256=") == base64.urlsafe_b64encode(
                    hashlib.sha256(content).digest()
                ).decode().rstrip("=")
    info = {f"lab-1.0.dist-info/{name}" for name in ("METADATA", "WHEEL", "RECORD")}
    assert names == {"lab/__init__.py", *info}


def test_scripts_data_and_headers_get_their_places(site: Path) -> None:
    python = f"#!{sys.executable}\nprint(1)\n"
    files = {
        "lab.py": "",
        "../../../bin/lab-tool": python,
        "../../../bin/lab-shell": "#!/bin/sh\necho\n",
        "../../../bin/lab-run": python,
        "../../../share/lab/table.csv": "a",
        "../../../include/site/python3.11/lab/lab.h": "int x;",
    }
    entries = "[console_scripts]\nlab-run = lab:main\n"
    installed(site, "lab", files=files, origin=FOLDER, extra={"entry_points.txt": entries})
    content = read_wheel(packed(site).content)
    assert {path for path in content if ".data/" in path} == {
        "lab-1.0.data/scripts/lab-tool",
        "lab-1.0.data/scripts/lab-shell",
        "lab-1.0.data/data/share/lab/table.csv",
        "lab-1.0.data/headers/lab.h",
    }
    assert content["lab-1.0.data/scripts/lab-tool"].content == b"#!python\nprint(1)\n"
    assert content["lab-1.0.data/scripts/lab-shell"].content == b"#!/bin/sh\necho\n"


def test_packed_wheel_is_same_from_every_folder(tmp_path: Path) -> None:
    files = {"lab/__init__.py": "", "../../../bin/tool": "#!/home/a/bin/python3\n"}
    wheels = []
    for number, home in enumerate(("a", "b")):
        site = site_packages(tmp_path / home)
        installed(site, "lab", files=files, origin={**FOLDER, "url": f"file:///home/{home}"})
        os.utime(site / "lab/__init__.py", (number, number))
        (site / "lab/__init__.py").chmod(0o600 if number else 0o664)
        wheels.append(packed(site))
    assert wheels[0] == wheels[1]


def test_installation_of_two_tags_keeps_both(site: Path) -> None:
    info = installed(site, "lab", files={"lab.py": ""}, origin=FOLDER)
    (info / "WHEEL").write_text("Wheel-Version: 1.0\nTag: py3-none-any\nTag: py2-none-any\n")
    assert packed(site).filename == "lab-1.0-py2.py3-none-any.whl"


def test_built_wheel_is_same_from_two_folders(tmp_path: Path, cache: Path) -> None:
    first = build_wheel(project(tmp_path / "a", "lab"), "lab", "1.0")
    shutil.rmtree(cache)
    second = build_wheel(project(tmp_path / "elsewhere" / "b", "lab"), "lab", "1.0")
    assert first == second
    assert (first.name, first.version) == ("lab", "1.0")


def test_build_leaves_source_folder_as_it_was(tmp_path: Path) -> None:
    source = project(tmp_path / "a", "lab")
    before = sorted(source.rglob("*"))
    build_wheel(source, "lab", "1.0")
    assert sorted(source.rglob("*")) == before


def build_count(cache: Path) -> int:
    return len([entry for entry in cache.iterdir() if not entry.name.startswith(".")])


def test_unchanged_project_is_built_once_and_changed_one_again(tmp_path: Path, cache: Path) -> None:
    source = project(tmp_path / "a", "lab")
    first = build_wheel(source, "lab", "1.0")
    assert build_wheel(source, "lab", "1.0") == first
    assert build_count(cache) == 1
    config = source / "src/lab/config.py"
    times = config.stat()
    # The same size and time as before.
    config.write_text("LIMIT = 4\n")
    os.utime(config, ns=(times.st_atime_ns, times.st_mtime_ns))
    changed = build_wheel(source, "lab", "1.0")
    assert read_wheel(changed.content)["lab/config.py"].content == b"LIMIT = 4\n"
    assert build_count(cache) == 2


@pytest.mark.parametrize("change", ["new file", "new folder", "removed file", "renamed file", "mode", "large file"])
def test_every_change_of_the_source_is_noticed(tmp_path: Path, cache: Path, change: str) -> None:
    source = project(
        tmp_path / "a", "lab", files={"src/lab/tool.sh": "#!/bin/sh\n", "src/lab/large.bin": "x" * 70_000}
    )
    build_wheel(source, "lab", "1.0")
    package = source / "src/lab"
    acts = {
        "new file": lambda: (package / "more.py").write_text(""),
        "new folder": lambda: ((package / "build").mkdir(), (package / "build" / "a.py").write_text("")),
        "removed file": (package / "config.py").unlink,
        "renamed file": lambda: (package / "config.py").rename(package / "settings.py"),
        "mode": lambda: (package / "tool.sh").chmod(0o755),
        "large file": lambda: (package / "large.bin").write_text("y" * 70_000),
    }
    acts[change]()
    build_wheel(source, "lab", "1.0")
    assert build_count(cache) == 2


@pytest.mark.parametrize(
    "path", ["src/lab/__pycache__/config.cpython-311.pyc", ".git/index", "dist/lab.whl", "src/lab.egg-info/PKG-INFO"]
)
def test_files_of_tools_start_no_new_build(tmp_path: Path, cache: Path, path: str) -> None:
    source = project(tmp_path / "a", "lab")
    build_wheel(source, "lab", "1.0")
    (source / path).parent.mkdir(parents=True)
    (source / path).write_text("new")
    build_wheel(source, "lab", "1.0")
    assert build_count(cache) == 1


@pytest.mark.parametrize("damage", ["content", "check", "files"])
def test_damaged_cache_entry_is_built_again(tmp_path: Path, cache: Path, damage: str) -> None:
    source = project(tmp_path / "a", "lab")
    wheel = build_wheel(source, "lab", "1.0")
    (stored,) = cache.glob("*/*/*.whl")
    acts = {
        "content": lambda: stored.write_bytes(stored.read_bytes()[:-1]),
        "check": lambda: (stored.parents[1] / "sha256").write_text("0"),
        "files": lambda: shutil.rmtree(stored.parent),
    }
    acts[damage]()
    assert build_wheel(source, "lab", "1.0") == wheel
    assert next(cache.glob("*/*/*.whl")).read_bytes() == wheel.content


def test_files_that_the_build_leaves_out_are_added(tmp_path: Path) -> None:
    """Python finds them in the source folder of an editable package, so a job must find them, too."""
    left_out = {
        "src/lab/extra.txt": "text",
        "src/lab/__pycache__/config.cpython-311.pyc": "",
        "src/lab/core.cpython-39-x86_64-linux-gnu.so": "",
        "loose.py": "",
    }
    source = project(tmp_path / "a", "lab", files=left_out)
    with (source / "pyproject.toml").open("a") as file:
        file.write('[tool.uv.build-backend]\nwheel-exclude = ["extra.txt", "*.so"]\n')
    declared = build_wheel(source, "lab", "1.0")
    everything = build_wheel(source, "lab", "1.0", [source / "src"])
    assert paths(everything) - paths(declared) == {"lab/extra.txt"}


def test_added_library_makes_a_wheel_for_this_machine(tmp_path: Path) -> None:
    source = project(tmp_path / "a", "lab", files={"src/lab/libfast.so": "\x7fELF"})
    with (source / "pyproject.toml").open("a") as file:
        file.write('[tool.uv.build-backend]\nwheel-exclude = ["*.so"]\n')
    wheel = build_wheel(source, "lab", "1.0", [source / "src"])
    machine = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    assert wheel.filename == f"lab-1.0-py3-none-{machine}.whl"


def test_modules_of_wheel(tmp_path: Path) -> None:
    source = project(tmp_path / "a", "lab", files={"src/lab/sub/deep.py": "", "src/lab/data/table.csv": ""})
    wheel = build_wheel(source, "lab", "1.0")
    assert modules_in(read_wheel(wheel.content)) == {"lab", "lab.config", "lab.sub", "lab.sub.deep"}


def test_editable_package_owns_modules_below_its_roots_alone(site: Path, tmp_path: Path) -> None:
    source = project(tmp_path / "p", "lab-owner", files={"scripts/run.py": "", "run.py": ""})
    editable(site, "lab-owner", source, source / "src")
    assert owner_of("lab_owner.config", source / "src/lab_owner/config.py") is not None
    assert owner_of("run", source / "run.py") is None
    assert owner_of("run", source / "scripts/run.py") is None
    assert owner_of("lab_owner", tmp_path / "lab_owner.py") is None


def test_flat_project_owns_only_modules_in_its_wheel(site: Path, tmp_path: Path) -> None:
    module = {"pkg_flat/__init__.py": "", "pkg_flat/part.py": "", "script.py": ""}
    source = project(tmp_path / "p", "lab-flat", files=module)
    with (source / "pyproject.toml").open("a") as file:
        file.write('[tool.uv.build-backend]\nmodule-name = "pkg_flat"\nmodule-root = ""\n')
    editable(site, "lab-flat", source, source)
    owner = owner_of("pkg_flat.part", source / "pkg_flat/part.py")
    assert owner is not None
    assert owner.name == "lab-flat"
    assert owner_of("script", source / "script.py") is None


def test_installed_local_package_owns_its_files(site: Path) -> None:
    installed(site, "lab-copy", files={"lab_copy.py": ""}, origin=FOLDER)
    installed(site, "lab-index", files={"lab_index.py": ""})
    owner = owner_of("lab_copy", site / "lab_copy.py")
    assert owner is not None
    assert owner.name == "lab-copy"
    assert owner_of("lab_index", site / "lab_index.py") is None


@pytest.mark.parametrize(
    ("tag", "target", "fits"),
    [
        ("py3-none-any", TARGET, True),
        (f"cp{TARGET.python.replace('.', '')}-cp{TARGET.python.replace('.', '')}-linux_x86_64", TARGET, True),
        ("cp39-abi3-linux_x86_64", TARGET, True),
        ("cp39-abi3-manylinux_2_17_x86_64", TARGET, True),
        ("cp39-abi3-manylinux_2_39_x86_64", TARGET, False),
        ("cp39-cp39-linux_x86_64", TARGET, False),
        ("py3-none-linux_x86_64", TARGET, True),
        ("py3-none-linux_x86_64", InstallTarget("linux/arm64", TARGET.python), False),
        ("py3-none-linux_aarch64", InstallTarget("linux/arm64", TARGET.python), True),
        ("py3-none-linux_x86_64", InstallTarget("linux/amd64", TARGET.python, "musllinux_1_2"), False),
        ("py3-none-macosx_11_0_arm64", TARGET, False),
        ("py3-none-win_amd64", TARGET, False),
    ],
)
def test_compiled_wheel_must_fit_the_machines_of_jobs(site: Path, tag: str, target: InstallTarget, fits: bool) -> None:
    installed(site, "lab", files={"lab.py": ""}, origin=FOLDER, tag=tag)
    if fits:
        check_fit(packed(site), "/src/lab", target)
    else:
        with pytest.raises(ImageError, match=r"lab .*compiled parts for .*/src/lab"):
            check_fit(packed(site), "/src/lab", target)


@pytest.mark.parametrize(("symbol", "fits"), [("GLIBC_2.17", True), ("GLIBC_2.38", False), ("GLIBC_2.2.5", True)])
def test_compiled_wheel_must_not_need_a_newer_glibc(site: Path, symbol: str, fits: bool) -> None:
    library = b"\x7fELF...\0GLIBC_2.4\0" + symbol.encode() + b"\0"
    installed(site, "lab", files={"lab.so": library}, origin=FOLDER, tag="py3-none-linux_x86_64")
    target = InstallTarget("linux/amd64", TARGET.python, "manylinux_2_28")
    if fits:
        check_fit(packed(site), "/src", target)
    else:
        with pytest.raises(ImageError, match=r"glibc 2\.38"):
            check_fit(packed(site), "/src", target)


@pytest.mark.parametrize(
    "line",
    [
        "git+https://host/o/n@abc",
        "lab @ git+https://h/r",
        "https://h/lab.whl",
        "lab @ file:///w.whl",
        "./lab",
        "/abs/lab",
    ],
)
def test_line_with_place_is_address(line: str) -> None:
    assert is_address(line)


@pytest.mark.parametrize("line", ["numpy==2.1.0", "six", "lab[all]>=1; python_version > '3'", "--index-url https://h"])
def test_line_with_name_is_no_address(line: str) -> None:
    assert not is_address(line)


def test_address_of_folder_gives_its_wheel(tmp_path: Path) -> None:
    source = project(tmp_path / "p", "lab")
    for line in (str(source), f"lab @ {source.as_uri()}", source.as_uri()):
        wheel = wheel_at(line, TARGET)
        assert (wheel.name, wheel.version) == ("lab", "1.0")


def test_address_of_commit_is_fetched_once(tmp_path: Path, cache: Path) -> None:
    source = project(tmp_path / "p", "lab")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(source)]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "First"]):
        subprocess.run([*git, *command], check=True, timeout=60)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True, timeout=60)
    line = f"git+{source.as_uri()}@{commit.stdout.strip()}"
    wheel = wheel_at(line, TARGET)
    assert (wheel.name, wheel.version) == ("lab", "1.0")
    assert "lab/config.py" in paths(wheel)
    shutil.rmtree(source)
    assert wheel_at(line, TARGET) == wheel


def test_index_is_not_asked_for_local_packages(site: Path) -> None:
    """Neither for those of the program, nor for a dependency that has the name of a local package."""
    installed(site, "lab-direct", files={"lab_direct.py": ""}, origin=FOLDER)
    installed(site, "lab-deep", files={"lab_deep.py": ""}, origin=FOLDER)
    asked: list[tuple[tuple[str, ...], list[str]]] = []

    def resolve(lines: tuple[str, ...], target: InstallTarget, wheels: tuple[LocalWheel, ...], refresh: bool) -> Lock:
        names = [wheel.name for wheel in wheels]
        asked.append((lines, names))
        # `uses-lab`, a package of the index, needs lab-deep.
        needed = ["uses-lab", *({"lab-deep"} - set(names))]
        return Lock(target, tuple(LockedPackage(name, "1", f"{name}.whl", "0", "u") for name in needed))

    lock, wheels = gather(["lab-direct"], ["uses-lab==1", "Lab_Direct==9"], TARGET, resolve)
    assert asked == [(("uses-lab==1",), ["lab-direct"]), (("uses-lab==1",), ["lab-deep", "lab-direct"])]
    assert [package.name for package in lock.packages] == ["uses-lab"]
    assert [wheel.name for wheel in wheels] == ["lab-deep", "lab-direct"]


def test_wheels_of_editable_and_installed_packages(site: Path, tmp_path: Path) -> None:
    source = project(tmp_path / "p", "lab-source")
    editable(site, "lab-source", source, source / "src")
    installed(site, "lab-copy", files={"lab_copy.py": ""}, origin=FOLDER)
    wheels = wheels_of(["lab-source", "lab-copy"], HERE)
    assert [(wheel.name, wheel.version) for wheel in wheels] == [("lab-copy", "1.0"), ("lab-source", "1.0")]
