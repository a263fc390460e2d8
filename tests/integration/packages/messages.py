"""Local packages that cannot be sent to jobs."""

from __future__ import annotations

import sys
from pathlib import Path

from cloudknot.program.packages.lock import Lock
from cloudknot.program.packages.target import InstallTarget
from cloudknot.program.packages.wheels.build import build_wheel
from cloudknot.program.packages.wheels.fetch import wheel_at
from cloudknot.program.packages.wheels.local_wheels import wheels_of
from cloudknot.program.packages.wheels.sources import with_built_sources
from cloudknot.program.packages.wheels.undeclared import LARGEST
from cloudknot.program.requirements import from_user, with_local
from tests.integration.messages.catalogue import Area, World
from tests.unit.program.packages.projects import broken_project, installed, project, site_packages
from tests.unit.program.packages.test_sources import archive

AREA = Area("local packages")
TARGET = InstallTarget("linux/amd64", f"{sys.version_info.major}.{sys.version_info.minor}")
FOLDER = {"url": "file:///src/lab", "dir_info": {}}


def _site(world: World) -> Path:
    site = site_packages(world.path / "environment")
    world.patch.syspath_prepend(str(site))
    return site


@AREA.case
def package_that_is_not_installed(world: World) -> object:
    return wheels_of(["no-such-lab"], TARGET)


@AREA.case
def requirement_of_another_version(world: World) -> object:
    installed(_site(world), "lab-local", "1.0", {"lab.py": ""}, origin=FOLDER)
    return with_local(from_user(["lab-local==2.0"]), ())


@AREA.case
def package_for_other_machines(world: World) -> object:
    installed(_site(world), "lab-mac", "1.0", {"lab.py": ""}, origin=FOLDER, tag="py3-none-macosx_11_0_arm64")
    return wheels_of(["lab-mac"], TARGET)


@AREA.case
def package_for_a_newer_glibc(world: World) -> object:
    library = b"\x7fELF\0GLIBC_2.99\0"
    installed(_site(world), "lab-new", "1.0", {"lab.so": library}, origin=FOLDER, tag="py3-none-linux_x86_64")
    return wheels_of(["lab-new"], TARGET)


@AREA.case
def package_without_list_of_files(world: World) -> object:
    info = installed(_site(world), "lab-list", "1.0", {"lab.py": ""}, origin=FOLDER)
    (info / "RECORD").unlink()
    return wheels_of(["lab-list"], TARGET)


@AREA.case
def package_with_missing_file(world: World) -> object:
    site = _site(world)
    installed(site, "lab-gone", "1.0", {"lab.py": ""}, origin=FOLDER)
    (site / "lab.py").unlink()
    return wheels_of(["lab-gone"], TARGET)


@AREA.case
def editable_package_from_a_server(world: World) -> object:
    origin = {"url": "https://host/lab", "dir_info": {"editable": True}}
    installed(_site(world), "lab-server", "1.0", {"lab.py": ""}, origin=origin)
    return wheels_of(["lab-server"], TARGET)


@AREA.case
def project_that_was_moved(world: World) -> object:
    return build_wheel(world.path / "moved", "lab", "1.0")


@AREA.case
def project_that_does_not_build(world: World) -> object:
    return build_wheel(broken_project(world.path / "lab"), "lab", "1.0")


@AREA.case
def address_without_answer(world: World) -> object:
    return wheel_at("git+http://127.0.0.1:9/owner/lab@v1", TARGET)


@AREA.case
def large_undeclared_files(world: World) -> object:
    source = project(world.path / "lab", "lab")
    with (source / "pyproject.toml").open("a") as file:
        file.write('[tool.uv.build-backend]\nwheel-exclude = ["*.bin"]\n')
    with (source / "src/lab/data.bin").open("wb") as data:
        data.truncate(LARGEST + 1)
    return build_wheel(source, "lab", "1.0", [source / "src"])


@AREA.case
def source_archive_that_does_not_build(world: World) -> object:
    package = archive(broken_project(world.path / "lab"), "lab")
    return with_built_sources(Lock(TARGET, (package,)))
