"""Images that cannot be assembled in a registry."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import zipfile
import zlib
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from cloudknot.aws.images.image_store import Image
from cloudknot.aws.images.registry.client import Registry
from cloudknot.aws.images.registry.manifests import ImageManifest, digest_of
from cloudknot.aws.images.registry.reference import ImageReference
from cloudknot.image.assembly.base.checks import check_architecture, check_facts, check_lock
from cloudknot.image.assembly.base.copy import BaseCopy, BaseImage
from cloudknot.image.assembly.base.facts import BaseFacts
from cloudknot.image.assembly.base.find import find_source
from cloudknot.image.assembly.cache import LayerCache
from cloudknot.image.assembly.layers.layer import LayerWriter
from cloudknot.image.assembly.layers.wheel import write_wheel
from cloudknot.program.packages.download import download
from cloudknot.program.packages.lock import LockedPackage
from cloudknot.program.packages.wheels.namesakes import refuse_other_wheel
from cloudknot.program.program import make_program
from tests.helpers.functions import square
from tests.helpers.images import render_image
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


@AREA.case
def package_of_a_stranger(world: World) -> None:
    wheel = world.path / "packaging.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("packaging/__init__.py", "print('hello from a stranger')")
    package = dataclasses.replace(_package(wheel, b""), name="packaging", version=metadata.version("packaging"))
    refuse_other_wheel(package, wheel)


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


def _image(*filenames: str) -> Image:
    packages = tuple(LockedPackage(name.partition("-")[0], "1", name, "0" * 64, "") for name in filenames)
    image = render_image(make_program(square), base_image="old:1")
    return dataclasses.replace(image, lock=dataclasses.replace(image.lock, packages=packages))


@AREA.case
def base_image_that_nobody_has(world: World) -> None:
    world.patch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    own = SimpleNamespace(address="registry:5000", image_manifest=lambda *arguments: None)
    target = ImageReference.parse("registry:5000/mine:1")
    with find_source(_image(), cast(Registry, own), "registry:5000/base:1", target):
        pass


@AREA.case
def base_image_with_unknown_compression(world: World) -> None:
    blob = digest_of(b"\x28\xb5\x2f\xfd")
    body = json.dumps({"layers": [{"digest": blob, "size": 4}]}).encode()
    registry = SimpleNamespace(open_blob=lambda *arguments: io.BytesIO(b"\x28\xb5\x2f\xfd"), address="here")
    own = cast(Registry, registry)
    base = BaseImage("modern:1", own, "modern", ImageManifest("", "", body), {})
    BaseCopy(base, own, "mine", LayerCache(world.path), lambda count: None).files(base.manifest.layers[0])


@AREA.case
def base_image_with_older_python(world: World) -> None:
    check_facts(BaseFacts("/usr/bin/python3.9", "3.9", "manylinux_2_36", "", "", ""), _image())


@AREA.case
def base_image_without_any_python(world: World) -> None:
    check_facts(BaseFacts("", "", "manylinux_2_36", "", "", ""), _image())


@AREA.case
def base_image_with_older_c_library(world: World) -> None:
    image = _image("numpy-1-cp311-cp311-manylinux_2_28_x86_64.whl")
    check_facts(BaseFacts("/usr/bin/python3", image.python, "manylinux_2_17", "", "", ""), image)


@AREA.case
def base_image_of_another_architecture(world: World) -> None:
    check_architecture("linux/arm64", _image())


@AREA.case
def lock_that_was_made_offline(world: World) -> None:
    image = _image("numpy-1-cp311-cp311-manylinux_2_28_x86_64.whl")
    (package,) = image.lock.packages
    copied = dataclasses.replace(package, filename="", sha256="", url="")
    check_lock(dataclasses.replace(image, lock=dataclasses.replace(image.lock, packages=(copied,))))
