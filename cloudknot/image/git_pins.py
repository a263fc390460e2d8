"""Pin git repositories to the commit of their branch or tag, so that the same options give the same image."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterable

from cloudknot.options import streams

TIMEOUT = 15.0
"""Seconds that a repository may take to answer."""
_ADDRESS = re.compile(
    r"(?P<url>(?:git\+)?(?:https|ssh)://[^/@]*@?[^@#]+|git@[^@#]+)(?:@(?P<ref>[^#]+))?(?P<rest>#.*)?"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")

References = Callable[[str], dict[str, str]]


def pinned(addresses: Iterable[str], references: References | None = None) -> tuple[str, ...]:
    """Return the addresses, each with the commit that its branch, tag or HEAD points to now.

    An address stays as it is if its repository does not answer or has no such reference.

    Parameters
    ----------
    addresses : iterable of str
        Addresses in pip's form, with or without ``git+``: ``"https://github.com/owner/name.git@v1"``.
    references : callable, optional
        Returns the commits of a repository by reference name. Default: `references_of`.

    Warns
    -----
    UserWarning
        An address could not be pinned.
    """
    return tuple(_pinned(address, references or references_of) for address in addresses)


def _pinned(address: str, references: References) -> str:
    match = _ADDRESS.fullmatch(address)
    # A full commit needs no look-up.
    if match is None or _COMMIT.fullmatch(match["ref"] or ""):
        return address
    url, ref = match["url"], match["ref"]
    try:
        commits = references(url.removeprefix("git+"))
    except (OSError, subprocess.SubprocessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1:]
        return _unpinned(address, url, f"Its repository did not answer: {''.join(reason).rstrip('.')}.")
    # Branches come first, as in pip. The name with ^{} is the commit of an annotated tag: the plain name would be the
    # tag's own object, which is no commit.
    names = (f"refs/heads/{ref}", f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}") if ref else ("HEAD",)
    commit = next((commits[name] for name in names if name in commits), None)
    if commit is None:
        return _unpinned(address, url, f"Its repository has no branch or tag {ref or 'HEAD'}.")
    return f"{url}@{commit}{match['rest'] or ''}"


def _unpinned(address: str, url: str, cause: str) -> str:
    from cloudknot.program.packages.wheels.fetch import without_password

    text = (
        f"{address} is not pinned to a commit, so a later image may contain another version of it. {cause} "
        f"Correct the address, or add a commit to it: {url}@<40 hexadecimal digits>."
    )
    streams.warn(without_password(text))
    return address


def references_of(url: str) -> dict[str, str]:
    """Return the commits of a repository by reference name, as ``git ls-remote`` lists them.

    Raises
    ------
    OSError, subprocess.SubprocessError
        git is not installed, or the repository cannot be reached within `TIMEOUT`.
    """
    result = subprocess.run(
        ["git", "ls-remote", "--", url],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
        # A private repository must fail at once: a question for a password would hang a notebook.
        stdin=subprocess.DEVNULL,
        env={**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": "ssh -o BatchMode=yes"},
        encoding="utf-8",
        errors="replace",
    )
    rows = (line.split("\t", 1) for line in result.stdout.splitlines() if "\t" in line)
    return {name: commit for commit, name in rows}
