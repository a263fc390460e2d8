"""Which commit a git repository's branch or tag is at, so that the same choice gives the same image."""

from __future__ import annotations

import os
import re
import subprocess
import warnings
from collections.abc import Callable, Iterable

TIMEOUT = 15.0
"""Seconds that a repository may take to answer."""
_ADDRESS = re.compile(
    r"(?P<url>(?:git\+)?(?:https|ssh)://[^/@]*@?[^@#]+|git@[^@#]+)(?:@(?P<ref>[^#]+))?(?P<rest>#.*)?"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")

References = Callable[[str], dict[str, str]]


def pinned(addresses: Iterable[str], references: References | None = None) -> tuple[str, ...]:
    """The addresses, each with the commit that its branch, tag or HEAD is at now.

    Parameters
    ----------
    addresses : iterable of str
        As pip takes them, with ``git+`` before them or not: ``"https://github.com/owner/name.git@v1"``.
    references : callable, optional
        Gives the commits of a repository's references by name. Default: `references_of`.

    An address whose repository does not answer, or has no such reference, stays as it is; a UserWarning says so.
    """
    return tuple(_pinned(address, references or references_of) for address in addresses)


def _pinned(address: str, references: References) -> str:
    found = _ADDRESS.fullmatch(address)
    if found is None or _COMMIT.fullmatch(found["ref"] or ""):
        return address
    url, ref = found["url"], found["ref"]
    try:
        known = references(url.removeprefix("git+"))
    except (OSError, subprocess.SubprocessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1:]
        return _unpinned(address, f"its repository did not answer ({''.join(reason)})")
    # A tag's own object is not the commit that it is on. pip looks for a branch first.
    names = (f"refs/heads/{ref}", f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}") if ref else ("HEAD",)
    commit = next((known[name] for name in names if name in known), None)
    if commit is None:
        return _unpinned(address, f"its repository has no branch or tag {ref or 'HEAD'}")
    return f"{url}@{commit}{found['rest'] or ''}"


def _unpinned(address: str, reason: str) -> str:
    warnings.warn(
        f"{address} is not pinned to a commit, for {reason}: an image made later may have another version of it.",
        UserWarning,
        stacklevel=5,
    )
    return address


def references_of(url: str) -> dict[str, str]:
    """The commits of a repository's references, by name, as ``git ls-remote`` gives them. Never asks for a password.

    Raises
    ------
    OSError, subprocess.SubprocessError
        There is no git, or the repository cannot be reached.
    """
    done = subprocess.run(
        ["git", "ls-remote", "--", url],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": "ssh -o BatchMode=yes"},
    )
    rows = (line.split("\t", 1) for line in done.stdout.splitlines() if "\t" in line)
    return {name: commit for commit, name in rows}
