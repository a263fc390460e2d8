"""The worker looks at the versions of Python and cloudpickle before it unpickles the function."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest

from cloudknot.program.program import make_program
from cloudknot.worker.program import load_function
from tests.helpers.images import render_image

MAJOR = int(version("cloudpickle").split(".")[0])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A program as an image holds it."""
    for name, data in render_image(make_program(lambda x: x + 1)).files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return tmp_path / "program"


def say(folder: Path, **said: str) -> None:
    file = folder / "program.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **said}))


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (
            {"python": "3.8"},
            r"pickled by Python 3\.8, but this image has Python 3\.\d+\. Use a base image with Python 3\.8",
        ),
        (
            {"cloudpickle": f"{MAJOR + 1}.0"},
            rf"cloudpickle {MAJOR + 1}\.0, but this image has cloudpickle {MAJOR}\..*cloudpickle=={MAJOR + 1}\.0 in",
        ),
    ],
)
def test_another_version_is_told_before_pickle_fails(folder: Path, said: dict[str, str], text: str) -> None:
    say(folder, **said)
    (folder / "function.pkl").write_bytes(b"what this version cannot read")
    with pytest.raises(RuntimeError, match=text):
        load_function(folder)


def test_a_minor_version_of_cloudpickle_makes_no_difference(folder: Path) -> None:
    say(folder, cloudpickle=f"{MAJOR}.99")
    assert load_function(folder)(1) == 2
