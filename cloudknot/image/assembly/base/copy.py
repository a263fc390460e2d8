"""Bring a base image into the user's repository, and learn the facts that an environment needs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tarfile import ReadError
from typing import TYPE_CHECKING, Any, BinaryIO

from cloudknot.aws.images.registry.upload import Blob
from cloudknot.errors import ImageError
from cloudknot.image.assembly.base.facts import BaseFacts, LayerFiles, facts_of, read_layer

if TYPE_CHECKING:
    from cloudknot.aws.images.registry.client import Registry
    from cloudknot.aws.images.registry.manifests import Descriptor, ImageManifest
    from cloudknot.image.assembly.cache import LayerCache

CHUNK = 1 << 20
FILES = "files2"
"""The kind of cache entries for files in layers. Change its number when `read_layer` reads other files."""


@dataclass(frozen=True)
class BaseImage:
    """A base image in a registry.

    Attributes
    ----------
    name : str
        As the user gave it, for messages.
    registry : Registry
    repository : str
        The repository in that registry.
    manifest : ImageManifest
    config : mapping
        Its parsed configuration.
    """

    name: str
    registry: Registry
    repository: str
    manifest: ImageManifest
    config: Mapping[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of its containers, such as ``Env`` and ``User``."""
        return dict(self.config.get("config") or {})

    @property
    def platform(self) -> str:
        return f"{self.config.get('os', 'linux')}/{self.config.get('architecture', '')}"

    def facts(self, layers: list[LayerFiles], python: str) -> BaseFacts:
        """Return the facts that the files of its layers show."""
        return facts_of(layers, self.settings.get("Env") or (), python)


def find_base(name: str, registry: Registry, repository: str, reference: str, platform: str) -> BaseImage | None:
    """Return the base image for a platform; None if the registry does not know it."""
    manifest = registry.image_manifest(repository, reference, platform)
    if manifest is None:
        return None
    return BaseImage(name, registry, repository, manifest, registry.config(repository, manifest))


class BaseCopy:
    """The copy of a base image in the user's repository.

    Parameters
    ----------
    base : BaseImage
    registry : Registry
        The user's own.
    repository : str
    cache : LayerCache
    sent : callable
        Gets the numbers of bytes that are sent.
    """

    def __init__(
        self, base: BaseImage, registry: Registry, repository: str, cache: LayerCache, sent: Callable[[int], None]
    ) -> None:
        self._base, self._registry, self._repository = base, registry, repository
        self._cache, self._sent = cache, sent

    def known_files(self) -> list[LayerFiles] | None:
        """Return the files in all layers if an earlier copy has read them."""
        files = [self._stored(layer) for layer in self._base.manifest.layers]
        return [known for known in files if known is not None] if None not in files else None

    def files(self, layer: Descriptor) -> LayerFiles:
        """Return the files in a layer, without copying it."""
        return self._stored(layer) or self._read(layer, self._open(layer))

    def bring(self, layer: Descriptor) -> LayerFiles:
        """Copy a layer, unless the repository has it, and return its files."""
        if files := self._stored(layer):
            self._copy(layer)
            return files
        is_near = self._base.registry.address == self._registry.address
        if is_near:
            # Within one registry, nothing need be sent.
            self._copy(layer)
        if is_near or self._registry.has_blob(self._repository, layer.digest):
            return self._read(layer, self._registry.open_blob(self._repository, layer.digest, layer.size))
        return self._bring_unknown(layer)

    def _copy(self, layer: Descriptor) -> None:
        self._registry.copy_blob(self._repository, layer, self._base.registry, self._base.repository, self._sent)

    def _bring_unknown(self, layer: Descriptor) -> LayerFiles:
        # Its bytes must be sent and its files read. It is downloaded once for both.
        with tempfile.TemporaryDirectory(prefix="cloudknot-", ignore_cleanup_errors=True) as folder:
            path = Path(folder, "layer")
            with self._open(layer) as content, path.open("wb") as file:
                while data := content.read(CHUNK):
                    file.write(data)
            blob = Blob(layer.digest, layer.size, lambda: path.open("rb"))
            self._registry.push_blob(self._repository, blob, self._sent)
            return self._read(layer, path.open("rb"))

    def _open(self, layer: Descriptor) -> BinaryIO:
        return self._base.registry.open_blob(self._base.repository, layer.digest, layer.size)

    def _read(self, layer: Descriptor, content: BinaryIO) -> LayerFiles:
        try:
            with content:
                files = read_layer(content)
        except ReadError as error:
            raise ImageError(
                f"The base image {self._base.name} has a layer that this Python cannot read: {error}. Choose another "
                "base image with base_image=, or use Python 3.14, which reads layers compressed with zstd."
            ) from error
        self._cache.put(FILES, layer.digest, asdict(files))
        return files

    def _stored(self, layer: Descriptor) -> LayerFiles | None:
        entry = self._cache.get(FILES, layer.digest)
        try:
            return LayerFiles(entry["contents"], entry["links"], tuple(entry["removed"])) if entry else None
        except KeyError:
            return None
