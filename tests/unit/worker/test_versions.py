"""The worker compares the versions of Python and cloudpickle before it unpickles the function."""

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
    """Return the folder of a program in an image."""
    for name, data in render_image(make_program(lambda x: x + 1)).files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return tmp_path / "program"


def rewrite_description(folder: Path, **versions: str) -> None:
    file = folder / "program.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **versions}))


@pytest.mark.parametrize(
    ("versions", "message"),
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
def test_worker_reports_other_version_before_unpickling(folder: Path, versions: dict[str, str], message: str) -> None:
    rewrite_description(folder, **versions)
    (folder / "function.pkl").write_bytes(b"unreadable in this version")
    with pytest.raises(RuntimeError, match=message):
        load_function(folder)


def test_worker_accepts_other_minor_version_of_cloudpickle(folder: Path) -> None:
    rewrite_description(folder, cloudpickle=f"{MAJOR}.99")
    assert load_function(folder)(1) == 2
