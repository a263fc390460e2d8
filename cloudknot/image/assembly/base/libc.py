"""Find the C library of a base image before packages are chosen, since wheels are made for one."""

from __future__ import annotations

import contextlib
import re
import tarfile
import time
from collections.abc import Callable

from cloudknot.aws.images.ecr import RegistryLogin
from cloudknot.aws.images.registry.client import Registry
from cloudknot.aws.images.registry.docker_config import login_for
from cloudknot.aws.images.registry.reference import ImageReference
from cloudknot.errors import CloudknotError
from cloudknot.image.assembly.base.copy import BaseCopy, find_base
from cloudknot.image.assembly.cache import LayerCache
from cloudknot.program.packages.target import DEFAULT_LIBC

TIMEOUT = 10.0
"""Seconds without an answer of a registry until the default is used. Assembling asks again, and more patiently."""
KNOWN_FOR = 7 * 24 * 3600.0
"""Seconds for which an answer is used without asking again. The name of an image rarely changes its C library."""
UNKNOWN_FOR = 600.0
"""Seconds until a registry that gave no answer is asked again."""
_DEBIAN = re.compile(
    r"((docker\.io|public\.ecr\.aws/docker)/library/)?python:3\.\d+(\.\d+)?(-slim)?(-(bookworm|trixie))?"
)
"""The images of Python on Debian. None of them has an older glibc than the default."""
_LIBC = "libc1"


def libc_of(
    name: str,
    platform: str,
    login: Callable[[], RegistryLogin],
    cache: LayerCache | None = None,
    clock: Callable[[], float] = time.time,
) -> str:
    """Return the newest C library that wheels for a base image may need, as in their names.

    The answer is the default where the image cannot be read: it may be one that only a Docker engine has.

    Parameters
    ----------
    name : str
        The base image.
    platform : str
    login : callable
        Returns the login for the user's own registry.
    cache : LayerCache, optional
    clock : callable
        Returns the time in seconds.
    """
    if not name or _DEBIAN.fullmatch(name):
        return DEFAULT_LIBC
    cache = cache or LayerCache()
    key = f"{name} {platform}"
    entry = cache.get(_LIBC, key)
    if entry and clock() < entry.get("until", 0.0):
        return str(entry["libc"])
    found = ""
    with contextlib.suppress(CloudknotError, OSError, tarfile.TarError):
        found = _read(name, platform, login, cache)
    libc = _bounded(found)
    cache.put(_LIBC, key, {"libc": libc, "until": clock() + (KNOWN_FOR if found else UNKNOWN_FOR)})
    return libc


def _read(name: str, platform: str, login: Callable[[], RegistryLogin], cache: LayerCache) -> str:
    """Return the C library in the lowest layer that has one; empty if none has."""
    reference = ImageReference.parse(name)
    own = login()
    chosen = own if own.registry == reference.registry else login_for(reference.registry)
    with Registry(chosen, at_once=chosen is own, patience=0, timeout=TIMEOUT) as registry:
        base = find_base(name, registry, reference.repository, reference.reference, platform)
        if base is None:
            return ""
        copy = BaseCopy(base, registry, reference.repository, cache, lambda count: None)
        for layer in base.manifest.layers:
            if libc := base.facts([copy.files(layer)], "").libc:
                return libc
    return ""


def _bounded(libc: str) -> str:
    """Return a library that is not newer than the default, so that most base images get the same packages."""
    kind, _, version = libc.partition("_")
    if kind != "manylinux":
        return libc or DEFAULT_LIBC
    own, default = (tuple(map(int, text.split("_"))) for text in (version, DEFAULT_LIBC.partition("_")[2]))
    return libc if own < default else DEFAULT_LIBC
