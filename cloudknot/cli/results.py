"""The results of a job on the command line: print them, or write them to a file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cloudknot.errors import BatchJobFailedError, CloudknotError, refuse

if TYPE_CHECKING:
    from cloudknot.run.jobs.job import BatchJob


def check_file(file: Path) -> None:
    """Check that a file can be written, before a long wait for its content."""
    if not os.access(file if file.exists() else file.absolute().parent, os.W_OK):
        raise click.UsageError(f"{file} cannot be written. Pass another file with --output.")


def result_of(job: BatchJob, index: int | None, timeout: float | None, show_errors: str) -> Any:
    """Wait for the list of results, or for the result of one element, and return it.

    ``show_errors`` is the command that shows the failed elements.

    Raises
    ------
    CloudknotError
        An element has no result. An exception of the function is among its causes.
    """
    if index is not None:
        job.check_index(index)
    future = job.future()
    try:
        return future.result(timeout) if index is None else future[index].result(timeout)
    except CloudknotError:
        raise
    except Exception as error:
        # An exception of the user's function is not a fault of this command, so it has no traceback here.
        # Some notes end with a command and without a full stop.
        sentences = (f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ()))
        text = " ".join(f"{sentence.rstrip('.')}." for sentence in sentences)
        raise BatchJobFailedError(f"{text} Run `{show_errors}` to see all failed elements.") from error


def store(value: Any, file: Path, as_json: bool) -> str:
    """Write a value to a file, and return a sentence about it. A file of that name is replaced at the end."""
    data = _json(value).encode() if as_json or file.suffix == ".json" else _pickle(value)
    # Beside the file first: an interruption must not leave half of it.
    part = file.with_name(f"{file.name}.part")
    part.write_bytes(data)
    part.replace(file)
    return f"{file}: {len(data):,} bytes."


def text_of(value: Any, *, is_list: bool, as_json: bool) -> str:
    """Return a value as text with a newline at the end; of a list, one line for each element."""
    if as_json:
        return _json(value)
    return "".join(f"{item!r}\n" for item in (value if is_list and isinstance(value, list) else [value]))


def _json(value: Any) -> str:
    try:
        return json.dumps(value, indent=2) + "\n"
    except (TypeError, ValueError) as error:
        refuse(
            problem=f"The results cannot be written as JSON: {error}.",
            fix="Pass -o FILE with a name that does not end with .json, which stores a pickle.",
        )


def _pickle(value: Any) -> bytes:
    import cloudpickle

    # Classes of the user's script are not importable here, and travel by value.
    data: bytes = cloudpickle.dumps(value)
    return data
