"""Download the locked files of packages, each checked against its hash, with the logins of the user's indexes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cloudknot.errors import ImageError
from cloudknot.program.packages.lock import LockedPackage

if TYPE_CHECKING:
    from urllib.request import OpenerDirector, Request

TIMEOUT = 60.0
"""Seconds without a byte until a download has failed."""
ATTEMPTS = 4
CHUNK = 1 << 20


def download(package: LockedPackage, folder: Path, *, wait: Callable[[float], None] = time.sleep) -> Path:
    """Download one file into a folder, and return its path.

    Raises
    ------
    ImageError
        The index does not deliver the file, or the file has another hash than the lock.
    """
    if _download(package, folder, wait) != package.sha256:
        raise ImageError(
            f"The file {package.filename} from {_host(package)} has another hash than the lock. "
            "Somebody has replaced the file in the index. To resolve again, pass no_image_cache=True."
        )
    return folder / package.filename


def with_hash(package: LockedPackage, *, wait: Callable[[float], None] = time.sleep) -> LockedPackage:
    """Return a package with the hash of its file, which is downloaded if the index reports no hash."""
    import tempfile

    if package.sha256 or package.is_copy:
        return package
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        return replace(package, sha256=_download(package, Path(folder), wait))


def _download(package: LockedPackage, folder: Path, wait: Callable[[float], None]) -> str:
    """Store the file, and return its SHA-256 digest. Try again while the server may recover."""
    import http.client
    import urllib.error

    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _fetch(package, folder / package.filename)
        except (OSError, http.client.HTTPException) as error:
            # Only a busy server answers differently a moment later.
            refused = isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code != 429
            if refused or attempt == ATTEMPTS:
                raise ImageError(
                    f"The file {package.filename} cannot be downloaded from {_host(package)}: {error}. "
                    "Check your network and the index's login, and try again."
                ) from error
            wait(0.5 * 2**attempt)
    raise AssertionError("unreachable")


def _host(package: LockedPackage) -> str:
    return urlsplit(package.url).hostname or "this machine"


def _fetch(package: LockedPackage, path: Path) -> str:
    import hashlib

    url = package.url if "://" in package.url else Path(package.url).absolute().as_uri()
    digest = hashlib.sha256()
    with _opener(url).open(_request(url), timeout=TIMEOUT) as answer, path.open("wb") as file:
        while data := answer.read(CHUNK):
            digest.update(data)
            file.write(data)
    return digest.hexdigest()


def _request(url: str) -> Request:
    import base64
    import urllib.request

    from cloudknot.program.packages.indexes import login_for

    request = urllib.request.Request(url)
    if login := login_for(url):
        # Not sent again after a redirect, which may lead to another host.
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    return request


def _opener(url: str) -> OpenerDirector:
    """Return an opener with the proxies of the environment, and with the certificates of pip's settings."""
    import ssl
    import urllib.request

    from cloudknot.program.packages.indexes import Indexes

    if not url.startswith("https://"):
        return urllib.request.build_opener()
    settings, address = Indexes.of_settings(), urlsplit(url)
    context = ssl.create_default_context(cafile=settings.certificates or None)
    if {address.hostname, address.netloc} & set(settings.trusted):
        context = ssl._create_unverified_context()
    return urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
