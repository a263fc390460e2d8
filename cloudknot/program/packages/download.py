"""Download the locked files of packages, each checked against its hash."""

from __future__ import annotations

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from cloudknot.errors import ImageError
from cloudknot.program.packages.lock import LockedPackage

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
    path = folder / package.filename
    for attempt in range(1, ATTEMPTS + 1):
        try:
            found = _fetch(package, path)
            break
        except (OSError, http.client.HTTPException) as error:
            # Only a busy server answers differently a moment later.
            refused = isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code != 429
            if refused or attempt == ATTEMPTS:
                raise ImageError(
                    f"The file {package.filename} cannot be downloaded from {_host(package)}: {error}. "
                    "Check your network and the index's login, and try again."
                ) from error
            wait(0.5 * 2**attempt)
    if found != package.sha256:
        raise ImageError(
            f"The file {package.filename} from {_host(package)} has another hash than the lock. "
            "Somebody has replaced the file in the index. Resolve again: Knot(..., no_image_cache=True)."
        )
    return path


def _host(package: LockedPackage) -> str:
    return urlsplit(package.url).hostname or "this machine"


def _fetch(package: LockedPackage, path: Path) -> str:
    """Store the file, and return its SHA-256 digest."""
    url = package.url if "://" in package.url else Path(package.url).absolute().as_uri()
    digest = hashlib.sha256()
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, path.open("wb") as file:
        while data := answer.read(CHUNK):
            digest.update(data)
            file.write(data)
    return digest.hexdigest()
