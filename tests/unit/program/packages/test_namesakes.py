"""A stranger's package of the name and version of an installed one is refused. Nothing is downloaded."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from cloudknot.errors import CloudknotInputError
from cloudknot.program.packages.lock import LockedPackage
from cloudknot.program.packages.wheels.namesakes import refuse_other_files, refuse_other_wheel
from tests.unit.program.packages.projects import installed, site_packages

MINE = {"labstats/__init__.py": "", "labstats/mean.py": "RESULT = 1\n", "labstats/_version.py": "built = 'Monday'\n"}
OTHER = {"labstats/__init__.py": "", "labstats/mean.py": "RESULT = 2\n"}
ELSEWHERE = {"other_module.py": "RESULT = 2\n"}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the user's own labstats 1.0, without a record of its origin."""
    site = site_packages(tmp_path / "here")
    installed(site, "labstats", files=MINE)
    monkeypatch.syspath_prepend(str(site))


def package(version: str = "1.0", end: str = "-py3-none-any.whl") -> LockedPackage:
    return LockedPackage("labstats", version, f"labstats-{version}{end}", "0" * 64, "https://index/labstats")


def wheel(folder: Path, files: Mapping[str, str]) -> Path:
    path = folder / "labstats.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


@pytest.mark.parametrize("files", [OTHER, ELSEWHERE])
def test_wheel_of_stranger_is_refused(tmp_path: Path, files: Mapping[str, str]) -> None:
    with pytest.raises(CloudknotInputError, match=r"another labstats 1\.0 than the one that is installed here"):
        refuse_other_wheel(package(), wheel(tmp_path, files))


@pytest.mark.parametrize(
    "files",
    [
        MINE,
        {**MINE, "labstats/_version.py": "built = 'Tuesday'\n"},
        {name: text.replace("\n", "\r\n") for name, text in MINE.items()},
        {f"labstats-1.0.data/purelib/{name}": text for name, text in MINE.items()},
        {"labstats/__init__.py": "", "labstats/mean.so": "binary"},
        {"labstats.so": "binary"},
    ],
    ids=["same", "one-file-generated", "line-ends-of-windows", "moved", "compiled", "only-library"],
)
def test_own_wheel_is_taken(tmp_path: Path, files: Mapping[str, str]) -> None:
    refuse_other_wheel(package(), wheel(tmp_path, files))


def test_other_version_is_taken(tmp_path: Path) -> None:
    refuse_other_wheel(package("2.0"), wheel(tmp_path, OTHER))


def test_environment_with_package_of_stranger_is_refused(tmp_path: Path) -> None:
    place = site_packages(tmp_path / "environment")
    installed(place, "labstats", files=OTHER)
    with pytest.raises(CloudknotInputError, match=r"another labstats 1\.0"):
        refuse_other_files(package(), place)


def test_environment_with_own_package_is_taken(tmp_path: Path) -> None:
    place = site_packages(tmp_path / "environment")
    installed(place, "labstats", files=MINE)
    refuse_other_files(package(), place)
    refuse_other_files(LockedPackage("absent", "1.0", "absent-1.0-py3-none-any.whl", "", ""), place)


@pytest.mark.parametrize(("root", "is_found"), [("", True), ("src/", False)])
def test_package_of_setup_install_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str, is_found: bool
) -> None:
    site = site_packages(tmp_path / "venv")
    info = site / "egglab-1.0-py3.11.egg-info"
    for path, text in {info / "PKG-INFO": "Name: egglab\nVersion: 1.0\n", site / "egglab/mean.py": "R = 1\n"}.items():
        path.parent.mkdir()
        path.write_text(text)
    (info / "SOURCES.txt").write_text(f"setup.py\n{root}egglab/mean.py\n")
    monkeypatch.syspath_prepend(str(site))
    egg = LockedPackage("egglab", "1.0", "egglab-1.0-py3-none-any.whl", "", "")
    refuse_other_wheel(egg, wheel(tmp_path, {"egglab/mean.py": "R = 1\n"}))
    if is_found:
        with pytest.raises(CloudknotInputError, match=r"another egglab 1\.0"):
            refuse_other_wheel(egg, wheel(tmp_path, {"egglab/mean.py": "R = 2\n"}))
    else:
        # Nothing says which files belong to it.
        refuse_other_wheel(egg, wheel(tmp_path, {"egglab/mean.py": "R = 2\n"}))
