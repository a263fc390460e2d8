"""Every kind of map, small and cheap, with its expected results. The trials run them."""

from __future__ import annotations

import os
import time
import uuid
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cloudknot as ck
from tests.helpers.waiting import LONG

BLOCK = 300_000
LARGE = 9_000_000
"""Bytes. More than one part of an upload."""
GATE = "TRIAL_GATE"
"""The environment variable with the path of a file that the calls wait for."""
RECORD = "TRIAL_RECORD"
"""The environment variable with the path of a file that lists the calls that have returned a value."""


def value(element: Any, *more: int, plus: int = 0, table: bytes = b"") -> Any:
    """Square a number, measure bytes, and return a bytearray unchanged."""
    if isinstance(element, bytearray):
        return element
    if isinstance(element, bytes):
        return len(element), element[:1]
    return element * element + sum(more) + plus + zlib.crc32(table)


def wait_at_gate() -> None:
    """Wait until the file named by `GATE` exists."""
    gate = os.environ.get(GATE)
    while gate and not os.path.exists(gate):
        time.sleep(0.02)


def record(element: Any) -> None:
    """Note that the call for an element succeeds."""
    if path := os.environ.get(RECORD):
        # A short line that is appended stays whole, whatever other processes append.
        with open(path, "a") as file:
            file.write(f"{zlib.crc32(repr(element).encode())}\n")


def work(element: Any, *more: int, plus: int = 0, table: bytes = b"") -> Any:
    """Compute the value of an element after the gate is open."""
    wait_at_gate()
    time.sleep(0.005)
    record(element)
    return value(element, *more, plus=plus, table=table)


def needs_a_file(path: str, number: int) -> int:
    """Square a number. Fail for odd numbers until the file exists."""
    if number % 2:
        if not os.path.exists(path):
            raise LookupError(f"{number} is not ready")
        wait_at_gate()
    record(number)
    return number * number


@dataclass(frozen=True)
class Place:
    """Knots for `work` and `needs_a_file`, a folder, and environment variables for the jobs."""

    work: ck.Knot
    needs_a_file: ck.Knot
    folder: Path
    env_vars: dict[str, str] = field(default_factory=dict)

    def recording(self) -> dict[str, str]:
        """Return environment variables for one map, which records its calls."""
        return {**self.env_vars, RECORD: str(self.folder / f"{uuid.uuid4().hex}.record")}


@dataclass(frozen=True)
class Expected:
    """A future, with the expected value of each of its elements, and the record of its calls."""

    future: ck.MapFuture
    values: list[Any]
    record: str = ""

    @property
    def repeated(self) -> int:
        """The number of calls for elements of which an earlier call has succeeded."""
        if not self.record:
            return 0
        calls = Path(self.record).read_text().split()
        return len(calls) - len(set(calls))

    @property
    def result(self) -> Any:
        """The expected result of the future."""
        return self.values[0] if self.future.job.manifest.gather else self.values


@dataclass(frozen=True)
class Kind:
    """A kind of map. An ``early`` submission waits for jobs itself, so it comes before submissions with held jobs."""

    name: str
    submit: Callable[[Place], list[Expected]]
    early: bool = False


def plain(name: str, inputs: list[Any], iterate: Callable[[list[Any]], Iterable[Any]] = list, **choices: Any) -> Kind:
    """Return the kind of a plain map. ``iterate`` turns the inputs into the iterable for `Knot.map`."""

    def submit(place: Place) -> list[Expected]:
        env_vars = place.recording()
        future = place.work.map(iterate(inputs), env_vars=env_vars, **choices)
        starmap, kwargs = choices.get("starmap"), choices.get("kwargs", {})
        values = [value(*(element if starmap else (element,)), **kwargs) for element in inputs]
        return [Expected(future, values, env_vars[RECORD])]

    return Kind(name, submit)


def submit_chain(place: Place) -> list[Expected]:
    """Submit a map, a map of its results with the same chunks, and a third map with other chunks.

    With the same chunks, each child waits for one child. With other chunks, all wait for the whole map.
    """
    env_vars = [place.recording() for _ in range(3)]
    first = place.work.map(range(4), chunksize=2, env_vars=env_vars[0])
    second = place.work.map(first, env_vars=env_vars[1])
    third = place.work.map(second, chunksize=3, kwargs={"plus": 1}, env_vars=env_vars[2])
    squares = [n**2 for n in range(4)]
    fourths = [n**2 for n in squares]
    values = [squares, fourths, [n**2 + 1 for n in fourths]]
    return [
        Expected(*parts, env[RECORD]) for *parts, env in zip((first, second, third), values, env_vars, strict=True)
    ]


def submit_reduce(place: Place) -> list[Expected]:
    """Submit a map and the sum of its results."""
    env_vars = place.recording()
    future = place.work.map(range(6), chunksize=4, env_vars=env_vars)
    squares = [n**2 for n in range(6)]
    return [Expected(future, squares, env_vars[RECORD]), Expected(future.reduce(sum), [sum(squares)])]


def submit_retry(place: Place) -> list[Expected]:
    """Submit a map, wait until half of its elements have failed, and retry them."""
    ready = place.folder / f"{uuid.uuid4().hex}.ready"
    inputs = [(str(ready), number) for number in range(4)]
    env_vars = place.recording()
    future = place.needs_a_file.map(inputs, starmap=True, chunksize=2, env_vars=env_vars)
    errors = [element.exception(LONG) for element in future]
    assert all(errors[1::2]), errors
    ready.touch()
    return [Expected(future.retry_failed(), [number**2 for number in range(4)], env_vars[RECORD])]


KINDS = (
    plain("one element", [7]),
    plain("an element a child", list(range(4))),
    plain("chunks", list(range(100)), chunksize=60),
    plain("bytes", [bytes([n]) * (BLOCK + n) for n in range(4)], chunksize=2),
    plain("more than a part", [bytearray([5, 7]) * (LARGE // 2)]),
    plain("independent jobs", [3, 4], job_type="independent"),
    plain("starmap", [(1, 2), (3, 4, 5), (6,)], starmap=True, chunksize=2),
    plain("kwargs", [1, 2, 3], kwargs={"plus": 100, "table": bytes(BLOCK)}, chunksize=2),
    plain("a generator", list(range(5)), lambda inputs: (element for element in inputs), chunksize=3),
    plain("chunks by itself", list(range(3)), chunksize="auto"),
    Kind("maps of maps", submit_chain),
    Kind("reduce", submit_reduce),
    Kind("retry", submit_retry, early=True),
)
