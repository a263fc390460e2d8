"""Put files of private indexes into a build context, so that no login for an index reaches the engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from cloudknot.aws.images.image_store import Image
from cloudknot.image import context
from cloudknot.program.packages.lock import LockedPackage

PUBLIC = "files.pythonhosted.org"
"""The host of PyPI's files. pip in any container can download these by name and hash."""


def with_private_files(files: Mapping[str, bytes], image: Image) -> dict[str, bytes]:
    """Return a build context with the files of all packages that pip in a container may not be able to download.

    Raises
    ------
    ImageError
        An index does not deliver a file of the lock.
    """
    import tempfile

    from cloudknot.program.packages.download import download

    private = [package for package in image.lock.packages if _is_private(package)]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        contents = {package.filename: download(package, Path(folder)).read_bytes() for package in private}
    return {**files, **context.locked_files(image.lock, image.wheels, contents)} if contents else dict(files)


def _is_private(package: LockedPackage) -> bool:
    return bool(package.url) and urlsplit(package.url).hostname != PUBLIC
