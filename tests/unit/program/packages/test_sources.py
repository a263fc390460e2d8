"""Source archives without compiled parts become wheels here. All others stay in the lock."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

import pytest

from cloudknot.program.packages.lock import Lock, LockedPackage
from cloudknot.program.packages.target import InstallTarget
from cloudknot.program.packages.wheels.sources import with_built_sources
from tests.unit.program.packages.projects import broken_project, project

TARGET = InstallTarget("linux/arm64", "3.11")
SIX = LockedPackage("six", "1.17.0", "six-1.17.0-py2.py3-none-any.whl", "0" * 64, "https://files.example/six")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_CACHE_DIR", str(Path.home() / ".cache" / "uv"))


def archive(source: Path, name: str) -> LockedPackage:
    """Return a locked package with the archive of a project."""
    path = source.parent / f"{name}-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        file.add(source, f"{name}-1.0")
    return LockedPackage(name, "1.0", path.name, hashlib.sha256(path.read_bytes()).hexdigest(), path.as_uri())


def test_archive_of_python_code_becomes_a_wheel(tmp_path: Path) -> None:
    package = archive(project(tmp_path / "lab", "lab"), "lab")
    lock, wheels = with_built_sources(Lock(TARGET, (package, SIX)))
    assert lock.packages == (SIX,)
    assert [(wheel.name, wheel.filename) for wheel in wheels] == [("lab", "lab-1.0-py3-none-any.whl")]
    Path(package.url.removeprefix("file://")).unlink()
    assert with_built_sources(Lock(TARGET, (package, SIX)))[1] == wheels


@pytest.mark.parametrize("path", ["src/lab/core.c", "src/lab/fast.pyx", "Cargo.toml", "meson.build"])
def test_archive_with_compiled_parts_stays_in_the_lock(tmp_path: Path, path: str) -> None:
    package = archive(project(tmp_path / "lab", "lab", files={path: ""}), "lab")
    assert with_built_sources(Lock(TARGET, (package,))) == (Lock(TARGET, (package,)), ())


def test_archive_that_does_not_build_here_stays_in_the_lock(tmp_path: Path) -> None:
    package = archive(broken_project(tmp_path / "lab"), "lab")
    with pytest.warns(UserWarning, match=r"(?s)does not build on this machine.*holiday"):
        assert with_built_sources(Lock(TARGET, (package,))) == (Lock(TARGET, (package,)), ())
