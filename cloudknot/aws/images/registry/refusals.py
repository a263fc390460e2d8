"""The errors for registries that refuse a request, or do not answer. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from cloudknot.aws.images.registry.reference import HUB, is_loopback
from cloudknot.errors import CloudError, PermissionDeniedError, ResourceDoesNotExistException, ResourceExistsException

BUSY = (408, 425, 429, 500, 502, 503, 504)
"""The statuses after which another attempt may succeed."""
# docker-registry reports a full disk as a text, or as the number of the error ENOSPC.
_FULL = re.compile(r"no space left|quota|disk (is )?full|\"Err\": ?28\b", re.IGNORECASE)
_TAKEN = re.compile(r"immutable|already exists", re.IGNORECASE)
_ECR = re.compile(r"\.dkr[.-]ecr[.-]")


@dataclass(frozen=True)
class RegistryAnswer:
    """An answer of a registry. The names of the headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The registry's code for an error, for example ``"NAME_UNKNOWN"``; empty without one."""
        return self._first_error()[0]

    @property
    def message(self) -> str:
        """The registry's words for an error, at most 500 characters."""
        code, message = self._first_error()
        return (message or code or self.body.decode(errors="replace").strip() or f"HTTP {self.status}")[:500]

    @property
    def wait(self) -> float:
        """The seconds until the next attempt that the registry asks for; 0 without that."""
        text = self.headers.get("retry-after", "")
        return float(text) if text.isascii() and text.isdigit() else 0.0

    @property
    def is_full(self) -> bool:
        """Whether the registry has no room."""
        return self.status == 507 or (self.status >= 400 and bool(_FULL.search(self.body.decode(errors="replace"))))

    @property
    def is_expired(self) -> bool:
        """Whether the login has expired. ECR reports that as a missing permission."""
        return self.status == 401 or (self.status == 403 and b"expired" in self.body.lower())

    def _first_error(self) -> tuple[str, str]:
        try:
            error = json.loads(self.body)["errors"][0]
            detail = error.get("detail")
            # The disk's own words are only in the detail.
            has_more = self.status >= 500 and detail and isinstance(detail, str)
            words = f"{error.get('message', '')} ({detail})" if has_more else error.get("message")
            return str(error.get("code", "")), str(words or "")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return "", ""


def named(address: str) -> str:
    """Return how a message names a registry."""
    return "Docker Hub" if address == HUB else f"The registry {address}"


def no_answer(address: str, reason: str) -> CloudError:
    """Return the error for a registry that does not answer."""
    fix = "Check the connection to the internet, and HTTPS_PROXY if your network needs a proxy, and try again."
    if is_loopback(address):
        fix = "Start the registry, or pass the address of another one as registry=."
    return CloudError(f"{named(address)} does not answer: {reason}. {fix}")


def not_a_registry(address: str, path: str) -> CloudError:
    """Return the error for a server whose answers are not those of a registry."""
    return CloudError(
        f"The server {address} is not a container registry: its answer for {path} is no manifest or message of one. "
        "Correct the name of the image, or the address of the registry."
    )


def refused(address: str, repository: str, answer: RegistryAnswer, path: str, *, anonymous: bool) -> CloudError:
    """Return the error for an answer that is no success."""
    if answer.status in (401, 403):
        return _denied(address, repository, answer, anonymous=anonymous)
    if answer.status == 429 or answer.code == "TOOMANYREQUESTS":
        return _limited(address, repository, answer)
    if answer.is_full:
        return CloudError(
            f"{named(address)} has no room for {repository}: {answer.message.rstrip('.')}. Free space on its "
            "disk, or delete images in it.",
            code=answer.code,
        )
    if answer.code == "NAME_UNKNOWN":
        return ResourceDoesNotExistException(
            f"{named(address)} has no repository {repository}. Correct the name, or create the repository.",
            code=answer.code,
        )
    if answer.code == "TAG_INVALID" and _TAKEN.search(answer.message):
        return ResourceExistsException(
            f"{named(address)} refuses to change a tag of {repository}: {answer.message.rstrip('.')}. Use another "
            "tag, or permit changes of tags in the settings of the repository.",
            code=answer.code,
        )
    if answer.status >= 500:
        return CloudError(
            f"{named(address)} returned HTTP {answer.status} for {path}: {answer.message.rstrip('.')}. Try "
            "again later. If it fails again, read the log of the registry.",
            code=answer.code,
        )
    return CloudError(
        f"{named(address)} returned HTTP {answer.status} for {path}. "
        f"Correct the problem that its answer names: {answer.message}",
        code=answer.code,
    )


def _denied(address: str, repository: str, answer: RegistryAnswer, *, anonymous: bool) -> PermissionDeniedError:
    words = answer.message.rstrip(".")
    login = "docker login" if address == HUB else f"docker login {address}"
    if anonymous:
        return PermissionDeniedError(
            f"{named(address)} refuses {repository} without a login: {words}. It is private or does not exist. "
            f"Correct the name, or run `{login}`.",
            code=answer.code,
        )
    fix = f"Run `{login}`, or ask the administrator of the registry for permission."
    if _ECR.search(address):
        fix = "Ask the administrator of your AWS account for the policy that `cloudknot permissions create` prints."
        if answer.is_expired:
            fix = "The login has expired. Renew your AWS credentials, and try again."
    return PermissionDeniedError(
        f"{named(address)} refuses the login or the request for {repository}: {words}. {fix}", code=answer.code
    )


def _limited(address: str, repository: str, answer: RegistryAnswer) -> CloudError:
    fix = "Wait some minutes, and try again."
    if address == HUB:
        fix = "Docker Hub limits the downloads of an address and of an account. Run `docker login`"
        official = repository.startswith("library/")
        mirror = f", or use the copy of the image at Amazon: public.ecr.aws/docker/{repository}" if official else ""
        fix = f"{fix}{mirror}."
    words = answer.message.rstrip(".")
    return CloudError(f"{named(address)} refuses more requests for now: {words}. {fix}", code="TOOMANYREQUESTS")
