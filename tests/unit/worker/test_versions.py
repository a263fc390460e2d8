"""Versions of Python and cloudpickle are compared before code by value is unpickled."""

from __future__ import annotations

import enum
import io
import json
import marshal
import pickle
import sys
import types
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import cloudpickle
import pytest

from cloudknot.program.program import make_program
from cloudknot.worker.program.load import load_function
from cloudknot.worker.wire import by_value
from cloudknot.worker.wire.buffers import PieceFile
from cloudknot.worker.wire.by_value import PYTHON, OtherPythonError
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


class Local:
    """A class that cloudpickle stores by value, because the test says that it is of ``__main__``."""

    def method(self) -> int:
        return 1


class Colour(enum.Enum):
    RED = 1


class Nested:
    """An object that holds another pickle, as wrappers of other libraries do."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> tuple[Callable[[bytes], object], tuple[bytes]]:
        return pickle.loads, (self.data,)


def by_code() -> dict[str, bytes]:
    """Return pickles that hold code by value."""
    here = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(here)
    try:
        values = {
            "function": cloudpickle.dumps(by_code),
            "lambda": cloudpickle.dumps(lambda: 1),
            "class": cloudpickle.dumps(Local),
            "instance": cloudpickle.dumps([1, Local()]),
            "enum": cloudpickle.dumps(Colour.RED),
            "code": cloudpickle.dumps(by_code.__code__),
        }
    finally:
        cloudpickle.unregister_pickle_by_value(here)
    values["nested"] = pickle.dumps(Nested(values["instance"]))
    values["marshal"] = b"cmarshal\nloads\n(C" + bytes([len(marshal.dumps(1))]) + marshal.dumps(1) + b"tR."
    return values


BY_CODE = by_code()
PLAIN = [
    (1, 2.5, "text", b"bytes", None, [True], {"a": {1, 2}}),
    Path("a"),
    types.SimpleNamespace(x=1),
    ValueError("no"),
    {}.keys(),
    type(None),
    Path,
]


@pytest.mark.parametrize("kind", BY_CODE)
def test_code_of_another_python_is_refused_before_it_exists(kind: str) -> None:
    for read in (by_value.loads, lambda data, python: by_value.load(buffered(data), python)):
        with pytest.raises(OtherPythonError, match=rf"by value, pickled by Python 3\.8, which Python {PYTHON} cannot"):
            read(BY_CODE[kind], "3.8")
    # Code of this Python, and of an unknown one as in format 1, loads.
    by_value.loads(BY_CODE[kind], PYTHON)
    by_value.loads(BY_CODE[kind], "")


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_plain_data_of_another_python_loads(value: object) -> None:
    for data in (pickle.dumps(value) if value != {}.keys() else b"", cloudpickle.dumps(value)):
        if data:
            assert repr(by_value.loads(data, "3.8")) == repr(value)
            assert repr(by_value.load(buffered(data), "3.8")) == repr(value)


def test_large_buffers_of_another_python_load() -> None:
    file = PieceFile()
    cloudpickle.Pickler(file, protocol=5, buffer_callback=file.take).dump([bytearray(100_000), 1])
    data = b"".join(file.pieces())
    assert by_value.loads(data, "3.8") == by_value.load(buffered(data), "3.8") == [bytearray(100_000), 1]


def buffered(data: bytes) -> io.BufferedReader:
    return io.BufferedReader(io.BytesIO(data))  # type: ignore[type-var]
