"""Make the layers of an environment: the virtual environment itself, and the packages in it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import posixpath
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from cloudknot.aws.images.registry.upload import Blob
from cloudknot.image import context
from cloudknot.image.assembly.layers import layout
from cloudknot.image.assembly.layers.layer import Layer, LayerWriter
from cloudknot.image.assembly.layers.wheel import write_wheel
from cloudknot.image.assembly.threads import run_all
from cloudknot.program.packages.download import download
from cloudknot.program.packages.wheels.namesakes import refuse_other_wheel

if TYPE_CHECKING:
    from cloudknot.aws.images.registry.client import Registry
    from cloudknot.image.assembly.base.facts import BaseFacts
    from cloudknot.image.assembly.cache import LayerCache
    from cloudknot.image.assembly.layers.user import JobUser
    from cloudknot.program.packages.lock import LocalWheel, LockedPackage

LARGE = 4 << 20
"""Bytes from which on a wheel has a layer of its own, which other environments can use as well."""
MOST_LARGE = 40
"""Most wheels with a layer of their own. Docker mounts at most 127 layers."""
LAYER = "layer1"
"""The kind of cache entries for layers. Change its number when the same packages give another layer."""
_HIDES_LAYERS_BELOW = ".wh..wh..opq"
"""A file of this name hides what the layers below have in its folder (OCI image layer specification)."""


class EnvironmentLayers:
    """The layers of environments, made in a folder and pushed to a repository, unless the repository has them.

    Parameters
    ----------
    registry : Registry
    repository : str
    cache : LayerCache
    folder : Path
        For files that are only needed until they are sent.
    sent : callable
        Gets the numbers of bytes that are sent.
    is_fresh : bool
        Whether to make layers again that the repository has.
    """

    def __init__(
        self,
        registry: Registry,
        repository: str,
        cache: LayerCache,
        folder: Path,
        sent: Callable[[int], None],
        *,
        is_fresh: bool = False,
    ) -> None:
        self._registry, self._repository, self._cache = registry, repository, cache
        self._folder, self._sent, self._is_fresh = folder, sent, is_fresh

    def packages(self, packages: Sequence[LockedPackage], python: str) -> Layer:
        """Return the layer with some packages of an index."""

        def write(layer: LayerWriter) -> None:
            paths = run_all([partial(download, package, self._folder) for package in packages])
            for package, path in zip(packages, paths, strict=True):
                refuse_other_wheel(package, path)
                with path.open("rb") as file:
                    write_wheel(file, path.name, python, layer)
                _delete(path)

        return self._make([python, *(package.sha256 for package in packages)], write)

    def local(self, wheels: Sequence[LocalWheel], python: str) -> Layer:
        """Return the layer with the local packages."""

        def write(layer: LayerWriter) -> None:
            for wheel in wheels:
                write_wheel(io.BytesIO(wheel.content), wheel.filename, python, layer)

        # Local wheels are not compressed, so here they are.
        return self._make([python, *(wheel.sha256 for wheel in wheels)], write, small=True)

    def _make(self, key: Sequence[str], write: Callable[[LayerWriter], None], *, small: bool = False) -> Layer:
        text = json.dumps(key)
        entry = None if self._is_fresh else self._cache.get(LAYER, text)
        if entry and self._registry.has_blob(self._repository, entry["digest"]):
            return Layer(**entry)
        path = self._folder / hashlib.sha256(text.encode()).hexdigest()
        with path.open("wb") as file:
            writer = LayerWriter(file, small=small)
            write(writer)
            layer = writer.close()
        self._registry.push_blob(self._repository, Blob(layer.digest, layer.size, lambda: path.open("rb")), self._sent)
        _delete(path)
        self._cache.put(LAYER, text, asdict(layer))
        return layer


def _delete(path: Path) -> None:
    """Delete a file early, to save space. Its folder is deleted later."""
    # Windows refuses this while another program, such as a virus scanner, has the file open.
    with contextlib.suppress(PermissionError):
        path.unlink()


def grouped(packages: Sequence[LockedPackage]) -> list[tuple[LockedPackage, ...]]:
    """Return the packages of each layer: each large one by itself, and all others together."""
    by_size = sorted((package for package in packages if _size(package) >= LARGE), key=_size, reverse=True)
    large = sorted(by_size[:MOST_LARGE], key=lambda package: package.name)
    small = tuple(package for package in packages if package not in large)
    return [*((package,) for package in large), *([small] if small else [])]


def _size(package: LockedPackage) -> int:
    """Return the size of a wheel; 0 if neither its index nor a file here shows it."""
    if package.size or not package.url.startswith("file:"):
        return package.size
    try:
        return Path(url2pathname(urlsplit(package.url).path)).stat().st_size
    except OSError:
        return 0


def environment_frame(facts: BaseFacts, user: JobUser, lock: str) -> tuple[Layer, bytes]:
    """Return the layer with the user and the empty virtual environment, and its bytes."""
    file = io.BytesIO()
    layer = LayerWriter(file)
    python, environment = facts.python, layout.ENVIRONMENT
    is_ours = facts.packages.startswith(f"{environment}/")
    if is_ours:
        # The base image is one of cloudknot's. Its packages and modules must not mix with those of this lock.
        for folder in (environment, *(f"{layout.HOME}/{name.rstrip('/')}" for name in context.GENERATED)):
            layer.file(f"{folder}/{_HIDES_LAYERS_BELOW}", b"")
    user.write(layer, facts)
    settings = f"home = {posixpath.dirname(python)}\ninclude-system-site-packages = true\nversion = {facts.version}\n"
    layer.file(f"{environment}/pyvenv.cfg", settings.encode())
    layer.file(f"{environment}/pylock.toml", lock.encode())
    layer.link(f"{environment}/bin/python", python)
    for name in ("python3", f"python{facts.version}"):
        layer.link(f"{environment}/bin/{name}", "python")
    layer.link(f"{environment}/lib64", "lib")
    if facts.packages and not is_ours:
        # The base image's Python belongs to a virtual environment, of which a second one on top knows nothing.
        layer.file(f"{layout.site_packages(facts.version)}/_base_image.pth", f"{facts.packages}\n".encode())
    return layer.close(), file.getvalue()
