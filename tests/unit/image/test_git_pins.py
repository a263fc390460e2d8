"""`pinned` replaces the branch or tag in a Git address by its commit, or warns. Lookups are fakes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from cloudknot.image.git_pins import pinned, references_of

A, B, C = "a" * 40, "b" * 40, "c" * 40
REFS = {"HEAD": A, "refs/heads/main": A, "refs/tags/v1": B, "refs/tags/v1^{}": C, "refs/tags/v2": B}


@pytest.mark.parametrize(
    ("address", "expected", "looked_up"),
    [
        ("https://github.com/o/n", f"https://github.com/o/n@{A}", "https://github.com/o/n"),
        ("git+https://github.com/o/n.git@v1", f"git+https://github.com/o/n.git@{C}", "https://github.com/o/n.git"),
        (
            "https://github.com/o/n@v2#subdirectory=x",
            f"https://github.com/o/n@{B}#subdirectory=x",
            "https://github.com/o/n",
        ),
        ("https://user@host/o/n@main", f"https://user@host/o/n@{A}", "https://user@host/o/n"),
        ("ssh://git@github.com/o/n.git", f"ssh://git@github.com/o/n.git@{A}", "ssh://git@github.com/o/n.git"),
        ("git@github.com:o/n.git@main", f"git@github.com:o/n.git@{A}", "git@github.com:o/n.git"),
    ],
)
def test_pinned_replaces_reference_by_commit(address: str, expected: str, looked_up: str) -> None:
    requests = []
    assert pinned([address], lambda url: requests.append(url) or REFS) == (expected,)  # type: ignore[func-returns-value]
    assert requests == [looked_up]


def test_pinned_keeps_commit_without_lookup() -> None:
    def unexpected(url: str) -> dict[str, str]:
        raise AssertionError(url)

    assert pinned([f"https://github.com/o/n@{A}"], unexpected) == (f"https://github.com/o/n@{A}",)


def test_pinned_warns_and_keeps_address_that_it_cannot_resolve() -> None:
    def silent(url: str) -> dict[str, str]:
        raise subprocess.TimeoutExpired("git", 15)

    with pytest.warns(UserWarning, match=r"not pinned to a commit.*Its repository did not answer: "):
        assert pinned(["https://github.com/o/n@v1"], silent) == ("https://github.com/o/n@v1",)
    with pytest.warns(UserWarning, match="has no branch or tag v9"):
        assert pinned(["https://github.com/o/n@v9"], lambda url: REFS) == ("https://github.com/o/n@v9",)


def test_references_are_read_from_git_repository(tmp_path: Path) -> None:
    identity = {f"GIT_{role}_{field}": "me@here" for role in ("AUTHOR", "COMMITTER") for field in ("NAME", "EMAIL")}

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(tmp_path), *arguments]
        process = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **identity})
        return process.stdout.strip()

    git("init", "--initial-branch", "main")
    git("commit", "--allow-empty", "-m", "one")
    git("tag", "-a", "v1", "-m", "one")
    commit = git("rev-parse", "HEAD")
    references = references_of(str(tmp_path))
    assert references["HEAD"] == references["refs/heads/main"] == references["refs/tags/v1^{}"] == commit
    # The tag is annotated, so it is an object of its own.
    assert references["refs/tags/v1"] != commit
    with pytest.raises(subprocess.CalledProcessError):
        references_of(str(tmp_path / "none"))


def test_warning_contains_no_password() -> None:
    def silent(url: str) -> dict[str, str]:
        raise OSError(f"unable to access {url}")

    with pytest.warns(UserWarning, match="not pinned") as caught:
        pinned(["https://me:s3cret@host/o/n"], silent)
    assert "s3cret" not in str(caught[0].message)
