"""Turn the errors of uv and pip into sentences. No I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum

from cloudknot.program.packages.solving.lines import name_of
from cloudknot.program.packages.target import InstallTarget

SHOWN = 1200
"""Characters of a tool's own text in a message."""


class Kind(Enum):
    """The reasons why there is no lock."""

    DISK_FULL = "disk full"
    LOGIN = "login"
    CERTIFICATE = "certificate"
    OFFLINE = "offline"
    NOT_FOUND = "not found"
    PYTHON = "python"
    NO_WHEEL = "no wheel"
    CONFLICT = "conflict"
    BUILD = "build"
    HASH = "hash"
    OTHER = "other"


# The first pattern that occurs decides. uv's texts, then pip's.
_SIGNS = {
    Kind.DISK_FULL: r"No space left on device|os error 28\b|Errno 28",
    Kind.LOGIN: r"\b40[13] (Unauthorized|Forbidden)|status code: 40[13]|\b40[13] Client Error|Missing credentials"
    r"|unauthorized|Authentication failed",
    Kind.CERTIFICATE: r"invalid peer certificate|CERTIFICATE_VERIFY_FAILED|self.signed certificate|UnknownIssuer",
    Kind.OFFLINE: r"error sending request|dns error|Connection refused|Failed to fetch|network was disabled"
    r"|timed out|NewConnectionError|Name or service not known|Max retries exceeded|ConnectTimeout",
    Kind.BUILD: r"Failed to build|build backend returned an error|metadata-generation-failed|Failed to download and",
    Kind.NOT_FOUND: r"was not found in the (package registry|cache|provided package locations)"
    r"|there (is|are) no versions? of|from versions: none\)|was not found at",
    Kind.PYTHON: r"Python version \([^)]*\) does not satisfy|does not satisfy Python|Requires-Python|requires Python"
    r"|requires a different Python",
    Kind.NO_WHEEL: r"no usable wheels|no wheels with|building from source is disabled|has no wheels|from versions:",
    Kind.CONFLICT: r"No solution found|ResolutionImpossible|conflicting dependencies",
}


class UnsolvedError(Exception):
    """Requirements without a lock, with the tool's own text."""

    def __init__(self, kind: Kind, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text


def unsolved(text: str) -> UnsolvedError:
    """Return the error for a tool's output, which contains no credentials."""
    kind = next((kind for kind, sign in _SIGNS.items() if re.search(sign, text, re.IGNORECASE)), Kind.OTHER)
    return UnsolvedError(kind, text)


def explain(error: UnsolvedError, lines: Sequence[str], target: InstallTarget, tool: str) -> str:
    """Return the sentences for a person: problem, cause, fix, and then the tool's own text, shortened."""
    sentences = {
        Kind.DISK_FULL: "The disk is full, so the requirements cannot be resolved. Free some space, or let "
        "UV_CACHE_DIR name a directory on another disk.",
        Kind.LOGIN: f"The package index{_host(error.text)} refuses the login. Check the user name and the password in "
        "pip's settings, in uv's settings, in ~/.netrc or in the keyring.",
        Kind.CERTIFICATE: f"The certificate of the package index{_host(error.text)} is not trusted. Let SSL_CERT_FILE "
        "name a file with the certificate of its authority.",
        Kind.OFFLINE: f"The package index{_host(error.text)} cannot be reached, so the requirements cannot be "
        "resolved. Check the network and the proxy, and try again.",
        Kind.NOT_FOUND: f"The package index has no {_missing(error.text, lines)}. Correct its name or version, or "
        "leave it out of requirements=[...], which replaces environment='all'. A package that is installed here from "
        "its own folder needs no index.",
        Kind.PYTHON: f"{_culprits(error.text, lines)} does not support {target}. Change its version, or use another "
        "Python for this session.",
        Kind.NO_WHEEL: f"{_culprits(error.text, lines)} has no file for {target}. Change its version, or remove it.",
        Kind.BUILD: f"{_culprits(error.text, lines)} exists only as source code for {target}, and its build fails "
        "here. Change its version, or install what its build needs.",
        Kind.CONFLICT: f"{_culprits(error.text, lines, least=2)} cannot be installed together. Change one of these "
        "lines in requirements=[...], or upgrade the packages that are installed here.",
        Kind.HASH: "The package index has other files than those that the requirements permit by --hash. Correct the "
        "hashes, or check that the index is the right one.",
        Kind.OTHER: f"The requirements cannot be resolved for {target}: {', '.join(lines)}. Correct them in "
        "requirements=[...].",
    }
    return f"{sentences[error.kind]} {tool} reports: {shortened(error.text)}"


def shortened(text: str) -> str:
    """Return a tool's text without empty lines and indentation, of bounded length."""
    plain = "\n".join(line.strip() for line in text.splitlines() if line.strip())
    return plain if len(plain) <= SHOWN else f"{plain[:SHOWN]} [...]"


def _host(text: str) -> str:
    match = re.search(r"https?://([^/\s`'\")]+)", text) or re.search(r"host='([^']+)'", text)
    return f" {match[1]}" if match else ""


def _missing(text: str, lines: Sequence[str]) -> str:
    patterns = (
        r"Because (\S+) was not found in the",
        r"there (?:is|are) no versions? of (\S+?)(?:,| and|$)",
        r"that satisfies the requirement (\S+)",
        r"/simple/([^/]+)/` was not found|distribution found for (\S+)",
    )
    found = [next(filter(None, match.groups())) for p in patterns if (match := re.search(p, text, re.MULTILINE))]
    return found[0].strip("`,") if found else ", ".join(lines)


def _culprits(text: str, lines: Sequence[str], least: int = 1) -> str:
    """Return the requirement lines that a tool names in its error; all lines if it names none."""
    words = {word.lower() for word in re.findall(r"[A-Za-z0-9][\w.-]*", re.sub(r"[-_.]+", "-", text))}
    named = [line for line in lines if (name := name_of(line)) and name in words]
    wanted = named if len(named) >= least else [line for line in lines if not line.startswith("-")]
    return " and ".join(wanted) or "A requirement"
