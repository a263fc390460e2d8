"""Pickle the inputs of a program. Classes and functions that the job cannot import travel by value."""

from __future__ import annotations

import functools
import io
import pickle
from typing import IO, TYPE_CHECKING

from cloudknot.errors import CloudknotInputError
from cloudknot.program.inputs.missing_modules import missing_in_job
from cloudknot.worker.wire.buffers import OUT_OF_BAND_SIZE, PieceFile

if TYPE_CHECKING:
    from cloudknot.program.inputs.needs import InputNeeds
    from cloudknot.program.pickling import MissingModules
    from cloudknot.program.program import Program

_NUMBERS = {int, float, bool, complex, type(None)}


def pickle_value(value: object, program: Program | None) -> bytes:
    """Return the pickle of an input, as `pickle_into` writes it."""
    buffer = io.BytesIO()
    pickle_into(buffer, value, program)
    return buffer.getvalue()


def pickle_into(
    file: IO[bytes] | PieceFile, value: object, program: Program | None, needs: InputNeeds | None = None
) -> None:
    """Pickle an input of a program into a file.

    Parameters
    ----------
    file : file or PieceFile
    value : object
        The input.
    program : Program or None
        None if another session made the program. This session then does not know the files in the image, so all local
        modules travel by value. Those of local packages that the image has are imported.
    needs : InputNeeds, optional
        The check of the packages that the input needs. Default: none.

    Raises
    ------
    CloudknotInputError
        The value cannot be pickled. The message, a clause without a period, names the part.
    LackingPackages
        The image does not have a package that the input needs.
    """
    if _is_plain(value) or (type(value) is tuple and all(map(_is_plain, value))):
        # The same bytes as below, in a tenth of the time: no value of these types can hold an object of the user.
        file.write(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))
        return
    from cloudknot.program import pickling
    from cloudknot.program.checks import pickle_errors

    by_value = program.by_value if program else ()
    missing = program.missing_modules if program else _missing_in_image(needs.installed if needs else None)
    try:
        pickling.dump(value, file, by_value, missing, needs.met if needs else None)
    except Exception as error:
        culprit = pickle_errors.culprit(value, by_value, missing)
        raise CloudknotInputError(f"{culprit} cannot be pickled ({error})") from error
    if needs:
        needs.check()


@functools.lru_cache(maxsize=8)
def _missing_in_image(packages: frozenset[str] | None) -> MissingModules:
    """Return the modules that jobs of another session's program lack, described once for all elements of a map."""
    return missing_in_job((), packages=packages)


def _is_plain(value: object) -> bool:
    """Return whether a value is a number, None or a short text."""
    return type(value) in _NUMBERS or (type(value) is str and len(value) < OUT_OF_BAND_SIZE)
