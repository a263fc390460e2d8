"""Pins: an address with the commit that its branch or tag is at, or as it is, with a warning."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from cloudknot.image.git_pins import pinned, references_of

A, B, C = "a" * 40, "b" * 40, "c" * 40
REFS = {"HEAD": A, "refs/heads/main": A, "refs/tags/v1": B, "refs/tags/v1^{}": C, "refs/tags/v2": B}


@pytest.mark.parametrize(
    ("address", "expected", "asked"),
    [
        ("https://github.com/o/n", f"https://github.com/o/n@{A}", "https://github.com/o/n"),
        ("git+https://github.com/o/n.git@v1", f"git+https://github.com/o/n.git@{C}", "https://github.com/o/n.git"),
        ("https://github.com/o/n@v2#subdirectory=x", f"https://github.com/o/n@{B}#subdirectory=x", None),
        ("https://user@host/o/n@main", f"https://user@host/o/n@{A}", "https://user@host/o/n"),
        ("ssh://git@github.com/o/n.git", f"ssh://git@github.com/o/n.git@{A}", "ssh://git@github.com/o/n.git"),
        ("git@github.com:o/n.git@main", f"git@github.com:o/n.git@{A}", "git@github.com:o/n.git"),
    ],
)
def test_a_reference_becomes_a_commit(address: str, expected: str, asked: str | None) -> None:
    requests = []
    assert pinned([address], lambda url: requests.append(url) or REFS) == (expected,)  # type: ignore[func-returns-value]
    assert asked is None or requests == [asked]


def test_a_commit_is_not_looked_up() -> None:
    def nobody(url: str) -> dict[str, str]:
        raise AssertionError(url)

    assert pinned([f"https://github.com/o/n@{A}"], nobody) == (f"https://github.com/o/n@{A}",)


def test_what_does_not_answer_stays_with_a_warning() -> None:
    def silent(url: str) -> dict[str, str]:
        raise subprocess.TimeoutExpired("git", 15)

    with pytest.warns(UserWarning, match=r"not pinned to a commit.*Its repository did not answer: "):
        assert pinned(["https://github.com/o/n@v1"], silent) == ("https://github.com/o/n@v1",)
    with pytest.warns(UserWarning, match="has no branch or tag v9"):
        assert pinned(["https://github.com/o/n@v9"], lambda url: REFS) == ("https://github.com/o/n@v9",)


def test_references_are_gits_own(tmp_path: Path) -> None:
    who = {f"GIT_{role}_{what}": "me@here" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(tmp_path), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **who})
        return done.stdout.strip()

    git("init", "--initial-branch", "main")
    git("commit", "--allow-empty", "-m", "one")
    git("tag", "-a", "v1", "-m", "one")
    commit = git("rev-parse", "HEAD")
    known = references_of(str(tmp_path))
    assert known["HEAD"] == known["refs/heads/main"] == known["refs/tags/v1^{}"] == commit
    assert known["refs/tags/v1"] != commit
    with pytest.raises(subprocess.CalledProcessError):
        references_of(str(tmp_path / "none"))
