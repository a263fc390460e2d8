"""Requirements that cannot be read, resolved, downloaded or installed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from cloudknot.program.packages import pip, uv
from cloudknot.program.packages.download import download
from cloudknot.program.packages.indexes import Indexes
from cloudknot.program.packages.install import install
from cloudknot.program.packages.lock import LocalWheel, LockedPackage
from cloudknot.program.packages.resolve import resolve
from cloudknot.program.packages.target import InstallTarget
from cloudknot.program.requirements import from_user
from tests.integration.messages.catalogue import Area, World, error_of
from tests.integration.packages.index import package_index, wheel

AREA = Area("requirements")
TARGET = InstallTarget("linux/arm64", "3.12")
FILES = {
    "lines.txt": "numpy 2\n",
    "name.txt": "requirements.txt\n",
    "gone.txt": "numpy @ file:///no/such/folder\n",
    "option.txt": "--no-such-option\n",
    "variable.txt": "--index-url https://${CLOUDKNOT_NO_SUCH}@index.example\n",
    "password.txt": "a @ git+https://me:password@host.example/a\n",
    "other.toml": "",
    "environment.yml": "dependencies:\n  - no-such-tool=1\n",
    "odd.yml": "dependencies: ['a b c']\n",
    "broken.yml": "dependencies: [numpy\n",
    "uv.lock": "version = 1\n",
}
PROJECTS = [
    "no toml",
    "[project]\nname = 'a'\n",
    "[project]\nrequires-python = '<3'\ndependencies = []\n",
    "[project]\ndependencies = ['a']\n[tool.uv.sources]\na = {workspace = true}\n",
]


@AREA.case
def requirement_files(world: World) -> list[object]:
    world.patch.chdir(world.path)
    errors: list[object] = []
    for name, text in FILES.items():
        Path(name).write_text(text)
    for text in PROJECTS:
        Path("pyproject.toml").write_text(text)
        errors.append(error_of(lambda: from_user("pyproject.toml")))
    Path("pyproject.toml").write_text("[project]\nname = 'a'\ndependencies = []\n")
    names = ["pyproject.toml[no-such]", "lines.txt[plots]", "no-such.txt", *FILES]
    return [*errors, *(error_of(lambda name=name: from_user(name)) for name in names)]  # type: ignore[misc]


@AREA.case
def option_in_edited_file(world: World) -> object:
    return resolve(["-r more.txt"], TARGET)


@AREA.case
def no_index(world: World) -> object:
    world.patch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    world.patch.setenv("UV_HTTP_RETRIES", "0")
    world.patch.setenv("XDG_CACHE_HOME", str(world.path))
    world.patch.setenv("UV_CACHE_DIR", str(world.path / "uv"))
    return resolve(["no-such-package"], TARGET)


@AREA.case
def version_without_wheel(world: World) -> None:
    world.patch.setenv("XDG_CACHE_HOME", str(world.path))
    with package_index(wheel("numpy", f"{np.__version__}1")) as index:
        world.patch.setenv("UV_DEFAULT_INDEX", index.url)
        resolve([f"numpy=={np.__version__}"], TARGET, preferred=["numpy"])


@AREA.case
def files_that_differ_from_the_lock(world: World) -> list[object]:
    filename, content = wheel("apple", "1.0")
    path = world.path / filename
    path.write_bytes(content)
    package = LockedPackage("apple", "1.0", filename, "0" * 64, path.as_uri())
    gone = LockedPackage("pear", "1.0", "pear-1.0-py3-none-any.whl", "0" * 64, "http://127.0.0.1:9/pear.whl")
    empty = LocalWheel("empty", "1.0", "empty-1.0-py3-none-any.whl", b"")
    folder = world.path / "folder"
    folder.mkdir()
    return [
        error_of(lambda: download(package, folder)),
        error_of(lambda: download(gone, folder, wait=lambda seconds: None)),
        error_of(lambda: install([], [empty], TARGET, ["--prefix", str(folder)])),
    ]


@AREA.case
def no_uv(world: World) -> object:
    world.patch.setattr(uv, "find", lambda: str(world.path / "uv"))
    return uv.run(["--version"])


@AREA.case
def no_pip(world: World) -> object:
    empty = world.path / "empty"
    uv.run(["venv", "--quiet", "--python", sys.executable, str(empty)])
    world.patch.setattr(sys, "executable", str(empty / "bin" / "python"))
    return pip.run(["--version"], Indexes())


@AREA.case
def slow_pip(world: World) -> object:
    return pip.run(["--version"], Indexes(), timeout=0.0)


@AREA.case
def slow_uv(world: World) -> object:
    return uv.run(["--version"], timeout=0.0)
