"""The options of a start: those of the last start stand for missing ones."""

from pathlib import Path

import pytest

from cloudknot.local.directory.files import OPTIONS
from cloudknot.local.options import ServerOptions, remember, with_last

DOCKER = ServerOptions(runner="docker", registry="127.0.0.1:5000", iam=True, vcpus=3)


def test_first_start_keeps_its_options(tmp_path: Path) -> None:
    assert with_last(ServerOptions(), tmp_path) == ServerOptions()


def test_next_start_has_runner_registry_and_iam_of_last_one(tmp_path: Path) -> None:
    remember(DOCKER, tmp_path)
    # The vCPUs are those of this machine again.
    assert with_last(ServerOptions(), tmp_path) == ServerOptions(runner="docker", registry="127.0.0.1:5000", iam=True)


@pytest.mark.parametrize(
    "chosen", [ServerOptions(runner="process"), ServerOptions(runner="docker", registry="127.0.0.1:6000")]
)
def test_chosen_runner_replaces_last_one_with_its_registry(tmp_path: Path, chosen: ServerOptions) -> None:
    remember(DOCKER, tmp_path)
    found = with_last(chosen, tmp_path)
    assert (found.runner, found.registry, found.iam) == (chosen.runner, chosen.registry, True)


def test_no_iam_replaces_last_choice(tmp_path: Path) -> None:
    remember(DOCKER, tmp_path)
    assert with_last(ServerOptions(iam=False), tmp_path).iam is False


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_damaged_file_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / OPTIONS).write_text(text, encoding="utf-8")
    assert with_last(ServerOptions(), tmp_path) == ServerOptions()
