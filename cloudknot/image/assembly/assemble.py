"""Assemble an image in a repository, without a Docker engine.

::

    base image     copied once into the repository
    environment    a virtual environment on the base image's Python, the locked packages, the local ones, the user
    program        the program and the worker, in a last, small layer

Environment and image are two manifests. So an edited function costs one small layer, on any machine.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cloudknot.aws.images.registry.client import Registry
from cloudknot.aws.images.registry.manifests import digest_of
from cloudknot.aws.images.registry.reference import ImageReference
from cloudknot.aws.images.registry.upload import Blob
from cloudknot.errors import ResourceExistsException
from cloudknot.image import context
from cloudknot.image.assembly.base import checks
from cloudknot.image.assembly.base.copy import BaseCopy, BaseImage
from cloudknot.image.assembly.base.facts import LayerFiles
from cloudknot.image.assembly.base.find import find_source
from cloudknot.image.assembly.cache import LayerCache
from cloudknot.image.assembly.layers import layout
from cloudknot.image.assembly.layers.environment import EnvironmentLayers, environment_frame, grouped
from cloudknot.image.assembly.layers.layer import Layer, LayerWriter, Owner
from cloudknot.image.assembly.layers.user import JobUser
from cloudknot.image.assembly.manifest import PROGRAM_LABEL, TITLE_LABEL, Composition
from cloudknot.image.assembly.progress import SentBytes
from cloudknot.image.assembly.threads import run_all

if TYPE_CHECKING:
    from cloudknot.aws.images.ecr import Repository
    from cloudknot.aws.images.image_store import Image
    from cloudknot.image.assembly.base.facts import LayerFiles


def assemble(
    image: Image, repository: Repository, uri: str, *, system: str = "", stop: threading.Event | None = None
) -> None:
    """Assemble an image in a repository as ``uri``, from the parts that the repository lacks.

    Parameters
    ----------
    image : Image
    repository : Repository
    uri : str
    system : str, optional
        The URI of the image's system in the same repository. Default: the environment lies on the base image itself.
    stop : Event, optional
        Once set, nothing more is sent, and the call raises `StoppedError`.

    Raises
    ------
    ImageError
        The base image does not exist or does not fit the program, or a package cannot be downloaded.
    CloudError
        A registry does not answer or refuses a request.
    """
    with _opened(image, repository, uri, stop) as assembly:
        assembly.add_program(assembly.stored_environment() or assembly.new_environment(system))


def assemble_environment(image: Image, repository: Repository, uri: str, *, system: str = "") -> None:
    """Assemble the environment of an image alone, for programs to come, unless the repository has it.

    Parameters and errors are those of `assemble`. ``uri`` is that of the environment: its tag is
    ``image.environment_tag``.
    """
    with _opened(image, repository, uri) as assembly:
        if assembly.stored_environment() is None:
            assembly.new_environment(system)


@contextlib.contextmanager
def _opened(
    image: Image, repository: Repository, uri: str, stop: threading.Event | None = None
) -> Iterator[_Assembly]:
    login = repository.login()
    with Registry(login, renew=repository.login) as registry, SentBytes("Sending the image", stop=stop) as sent:
        yield _Assembly(image, registry, ImageReference.parse(uri), sent)


class _Assembly:
    def __init__(self, image: Image, registry: Registry, target: ImageReference, sent: SentBytes) -> None:
        self._image, self._registry, self._target, self._sent = image, registry, target, sent
        self._repository = target.repository
        self._cache = LayerCache()

    def stored_environment(self) -> Composition | None:
        """Return the environment if the repository has it, from whatever machine."""
        if self._image.nocache:
            return None
        manifest = self._registry.manifest(self._repository, self._image.environment_tag)
        if manifest is None or manifest.is_index:
            return None
        return Composition.of(manifest, self._registry.config(self._repository, manifest))

    def new_environment(self, system: str) -> Composition:
        """Make the environment, store it under its own tag, and return it."""
        checks.check_lock(self._image)
        with find_source(self._image, self._registry, system or self._image.base_image, self._target) as base:
            composition = self._environment_on(base)
        # Another session may have stored it at the same moment, and some repositories never change a tag.
        with contextlib.suppress(ResourceExistsException):
            self._store(composition, self._image.environment_tag)
        return composition

    def add_program(self, environment: Composition) -> None:
        """Add the program to its environment, and store the image under its tag."""
        layer, content = _program_layer(self._image, environment.owner)
        info = context.program_info(self._image.files)
        composition = environment.with_layers([layer], f"program {info['function']}").with_labels(
            {TITLE_LABEL: info["function"], PROGRAM_LABEL: info["digest"]}
        )
        self._store(composition, self._target.reference, content)

    def _environment_on(self, base: BaseImage) -> Composition:
        image = self._image
        checks.check_architecture(base.platform, image)
        copy = BaseCopy(base, self._registry, self._repository, self._cache, self._sent.add)
        if (known := copy.known_files()) is not None:
            # Nothing need be sent to refuse a base image that was read before.
            checks.check_facts(base.facts(known, image.python), image)
        with tempfile.TemporaryDirectory(prefix="cloudknot-", ignore_cleanup_errors=True) as folder:
            files, layers = self._copy_and_make(base, copy, Path(folder))
        facts = base.facts(files, image.python)
        checks.check_facts(facts, image)
        user = JobUser.of(image.username, facts)
        frame, content = environment_frame(facts, user, image.lock.text())
        self._push(content)
        composition = Composition.of(base.manifest, base.config).with_environment(user, image.base_image)
        return composition.with_layers([frame], "environment").with_layers(layers, "packages")

    def _copy_and_make(self, base: BaseImage, copy: BaseCopy, folder: Path) -> tuple[list[LayerFiles], list[Layer]]:
        """Copy the base image and make the layers of packages at the same time."""
        image = self._image
        maker = EnvironmentLayers(
            self._registry, self._repository, self._cache, folder, self._sent.add, is_fresh=image.nocache
        )
        # The source archives of a lock are not here: an image that has one is built by an engine.
        groups = grouped([package for package in image.lock.packages if package.is_wheel])
        local = [partial(maker.local, image.wheels, image.python)] if image.wheels else []
        results: list[LayerFiles | Layer] = run_all(
            [
                *(partial(copy.bring, layer) for layer in base.manifest.layers),
                *(partial(maker.packages, group, image.python) for group in groups),
                *local,
            ]
        )
        files = [result for result in results if isinstance(result, LayerFiles)]
        return files, [result for result in results if isinstance(result, Layer)]

    def _store(self, composition: Composition, tag: str, *contents: bytes) -> None:
        """Store an image: small layers, its configuration, then the manifest that makes it visible."""
        blobs = (*contents, composition.config_blob())
        run_all([partial(self._push, blob) for blob in blobs])
        media_type, body = composition.manifest()
        self._registry.put_manifest(self._repository, tag, media_type, body)

    def _push(self, content: bytes) -> None:
        blob = Blob(digest_of(content), len(content), lambda: io.BytesIO(content))
        self._registry.push_blob(self._repository, blob, self._sent.add)


def _program_layer(image: Image, owner: Owner) -> tuple[Layer, bytes]:
    """Return the layer with program and worker, and its bytes."""
    file = io.BytesIO()
    layer = LayerWriter(file, small=True)
    # Engines create a folder that a layer does not mention, as root's. The topmost layer decides.
    layer.folder(layout.HOME, owner=owner)
    for path, data in sorted(image.files.items()):
        if path.startswith(context.GENERATED):
            layer.file(f"{layout.HOME}/{path}", data)
    return layer.close(), file.getvalue()
