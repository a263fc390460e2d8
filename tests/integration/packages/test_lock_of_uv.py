"""A ``uv.lock`` gives its exact versions, also for a project with an editable member."""

import subprocess
import sys

from cloudknot.program.packages import uv
from cloudknot.program.packages.resolve import resolve
from cloudknot.program.packages.sources.read import read
from cloudknot.program.packages.target import InstallTarget
from tests.integration.packages.index import wheel

TARGET = InstallTarget("linux/arm64", f"3.{sys.version_info.minor}")
PROJECT = """
[project]
name = "study"
version = "1"
requires-python = ">=3.11"
dependencies = ["apple", "member"]
[project.optional-dependencies]
plots = ["fig"]
[dependency-groups]
dev = ["plum"]
[tool.uv.sources]
member = {path = "member", editable = true}
"""
MEMBER = '[project]\nname = "member"\nversion = "2"\n[build-system]\nrequires = []\nbuild-backend = "backend"\n'


def test_uv_lock_gives_exact_versions_and_local_members(index, tmp_path, monkeypatch):
    index.add(*(wheel(name, version) for name in ("apple", "fig", "plum") for version in ("1.0", "2.0")))
    (tmp_path / "study" / "member").mkdir(parents=True)
    (tmp_path / "study" / "pyproject.toml").write_text(PROJECT.replace('"apple"', '"apple<2"'))
    (tmp_path / "study" / "member" / "pyproject.toml").write_text(MEMBER)
    locked = subprocess.run(
        [uv.find(), "lock", "--project", str(tmp_path / "study"), "--default-index", index.url], capture_output=True
    )
    assert locked.returncode == 0, locked.stderr.decode()
    (tmp_path / "study" / "pyproject.toml").write_text(PROJECT)
    lines = read(tmp_path / "study" / "uv.lock")
    member = f"member @ {(tmp_path / 'study' / 'member').as_uri()}"
    assert [line.partition(" --hash")[0] for line in lines] == [member, "apple==1.0"]
    lock = resolve([line for line in lines if "@" not in line], TARGET)
    assert [(package.name, package.version) for package in lock.packages] == [("apple", "1.0")]
    names = [line.partition("==")[0] for line in read(f"{tmp_path}/study/uv.lock[plots, dev]") if "@" not in line]
    assert names == ["apple", "fig", "plum"]
