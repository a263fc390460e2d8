"""Inputs of a program, pickled: what the job cannot import travels by value."""

from __future__ import annotations

import io
from typing import IO, TYPE_CHECKING

from cloudknot.errors import CloudknotInputError
from cloudknot.program.missing_modules import absent
from cloudknot.worker.wire.buffers import PieceFile

if TYPE_CHECKING:
    from cloudknot.program.program import Program


def pickle_value(value: object, program: Program | None) -> bytes:
    """Pickle an input of a program as `pickle_into` does."""
    buffer = io.BytesIO()
    pickle_into(buffer, value, program)
    return buffer.getvalue()


def pickle_into(file: IO[bytes] | PieceFile, value: object, program: Program | None) -> None:
    """Pickle an input of a program; without one, of a program that another session made.

    Functions and classes of local modules travel by value, unless the module's file travels with the program.

    Raises
    ------
    CloudknotInputError
        The value cannot be pickled; the message names the part at fault.
    """
    from cloudknot.program import pickle_errors, pickling

    by_value = program.by_value if program else ()
    missing = program.absent if program else absent(())
    try:
        pickling.dump(value, file, by_value, missing)
    except Exception as error:
        at_fault = pickle_errors.explain(value, by_value, missing)
        raise CloudknotInputError(f"{at_fault} cannot be pickled ({error})") from error
