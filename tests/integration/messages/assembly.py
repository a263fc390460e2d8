"""Images that cannot be assembled in a registry."""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from pathlib import Path

from cloudknot.image.assembly.layer import LayerWriter
from cloudknot.image.assembly.wheel import write_wheel
from cloudknot.program.packages.download import download
from cloudknot.program.packages.lock import LockedPackage
from tests.integration.messages.catalogue import Area, World

AREA = Area("assembly")


def _package(path: Path, content: bytes) -> LockedPackage:
    return LockedPackage("six", "1", "six-1-py3-none-any.whl", hashlib.sha256(content).hexdigest(), path.as_uri())


@AREA.case
def file_that_the_index_lacks(world: World) -> None:
    download(_package(world.path / "six.whl", b""), world.path, wait=lambda seconds: None)


@AREA.case
def file_that_was_replaced_in_the_index(world: World) -> None:
    world.path.joinpath("six.whl").write_bytes(b"other")
    download(_package(world.path / "six.whl", b"locked"), world.path)


def _wheel(*names: str) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "")
    return file


@AREA.case
def wheel_that_is_no_archive(world: World) -> None:
    write_wheel(io.BytesIO(b"<html>"), "six-1-py3-none-any.whl", "3.11", LayerWriter(io.BytesIO()))


@AREA.case
def wheel_without_metadata(world: World) -> None:
    write_wheel(_wheel("six.py"), "six-1-py3-none-any.whl", "3.11", LayerWriter(io.BytesIO()))


@AREA.case
def wheel_with_a_path_outside(world: World) -> None:
    wheel = _wheel("six-1.dist-info/RECORD", "../../etc/passwd")
    write_wheel(wheel, "six-1-py3-none-any.whl", "3.11", LayerWriter(io.BytesIO()))


@AREA.case
def damaged_file_of_a_wheel(world: World) -> None:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    data = deflater.compress(b"text") + deflater.flush()
    LayerWriter(io.BytesIO()).deflated("six.py", [data], size=4, crc=0)
