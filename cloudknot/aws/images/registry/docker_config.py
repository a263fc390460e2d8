"""Logins for registries from Docker's own settings: ``~/.docker/config.json`` and its credential helpers."""

from __future__ import annotations

import base64
import binascii
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

from cloudknot.aws.images.docker_context import settings_folder
from cloudknot.aws.images.ecr import RegistryLogin
from cloudknot.aws.images.registry.reference import HUB, HUB_NAMES
from cloudknot.options import streams

HUB_KEY = "https://index.docker.io/v1/"
"""The name of Docker Hub in Docker's settings."""
TOKEN_USER = "<token>"
"""The user name of a login whose secret is an identity token (Docker, "Credential helper protocol")."""
HELPER_TIMEOUT = 30.0
"""Seconds that a credential helper may take. Some ask a keychain, and that one a person."""


def login_for(registry: str) -> RegistryLogin:
    """Return Docker's login for a registry; an anonymous one, with an empty user name, if there is none."""
    settings = _settings()
    helper = _dict(settings, "credHelpers").get(registry) or settings.get("credsStore")
    found = _from_helper(str(helper), registry) if helper else None
    username, password = found or _from_file(_dict(settings, "auths"), registry) or ("", "")
    return RegistryLogin(registry, username, password)


def _settings() -> dict[str, Any]:
    try:
        content = json.loads((settings_folder() / "config.json").read_bytes())
    except (OSError, ValueError):
        # Public images need no login, so unreadable settings are no reason to fail.
        return {}
    return content if isinstance(content, dict) else {}


def _dict(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = settings.get(name)
    return value if isinstance(value, dict) else {}


def _key(registry: str) -> str:
    return HUB_KEY if registry == HUB else registry


def _from_helper(helper: str, registry: str) -> tuple[str, str] | None:
    """Return user name and password from the program ``docker-credential-<helper>``."""
    program = shutil.which(f"docker-credential-{helper}") if re.fullmatch(r"[\w.-]+", helper) else None
    if program is None:
        _warn(helper, registry, "it is not installed")
        return None
    try:
        # Windows opens a console window for a program without this flag.
        result = subprocess.run(
            [program, "get"],
            input=_key(registry),
            capture_output=True,
            text=True,
            timeout=HELPER_TIMEOUT,
            check=False,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            encoding="utf-8",
            errors="replace",
        )
        if result.returncode:
            if "credentials not found" not in result.stdout:
                _warn(helper, registry, f"it ended with exit code {result.returncode}")
            return None
        answer = json.loads(result.stdout)
        return str(answer["Username"]), str(answer["Secret"])
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError) as error:
        # The text of some of these errors contains the output, and so the password.
        _warn(helper, registry, f"{type(error).__name__} while it ran")
        return None


def _warn(helper: str, registry: str, problem: str) -> None:
    streams.logger.warning(
        "Docker's settings name the program docker-credential-%s for the login to %s, but %s. cloudknot goes on "
        "without that login.",
        helper,
        registry,
        problem,
    )


def _from_file(logins: Mapping[str, Any], registry: str) -> tuple[str, str] | None:
    """Return user name and password from the settings themselves."""
    names = (*HUB_NAMES, HUB_KEY) if registry == HUB else (registry,)
    wanted = {_host(name) for name in names}
    entries = [entry for key, entry in logins.items() if _host(key) in wanted and isinstance(entry, dict)]
    for entry in entries:
        if entry.get("identitytoken"):
            return TOKEN_USER, str(entry["identitytoken"])
        if entry.get("username"):
            return str(entry["username"]), str(entry.get("password", ""))
        try:
            username, _, password = base64.b64decode(entry.get("auth") or "").decode().partition(":")
        except (binascii.Error, UnicodeDecodeError, TypeError):
            continue
        if username:
            return username, password.rstrip("\0")
    return None


def _host(key: str) -> str:
    """Return the host of a key, which may be an address such as ``https://host/v1/``."""
    return re.sub(r"^https?://", "", key).partition("/")[0]
