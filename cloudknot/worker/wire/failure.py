"""The kinds of outcomes, and the failure that an envelope holds in place of a value.

Client and worker both import this module. It does no I/O and imports only the standard library.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from .seal import TOO_SHORT, DamagedError

_LENGTH = struct.Struct("<I")

VALUE, RAISED, EXITED, UNPICKLABLE, NOT_LOADED, NO_INPUT, UNREADABLE = range(7)
"""The kinds. UNREADABLE: the stored input is damaged, or does not suit the job's Python."""
DAMAGED = 254
"""In place of the kind of an outcome that is stored, but damaged. It is never stored."""
ABSENT = 255
"""In place of a kind: a pack has an entry for the element, but no outcome. Another attempt may store one."""

RESULT_OF = "is the result of"
"""The beginning of the message of an UNREADABLE input that is a result of another map."""


@dataclass(frozen=True)
class Failure:
    """The reason why an element has no value.

    Attributes
    ----------
    kind : int
        One of the kinds of outcomes, except ``VALUE``.
    type, message, traceback : str
        The exception in words.
    exit_code : int or None
        The code passed to ``sys.exit``.
    pickled : bytes
        The pickled exception, or the arguments of `rebuilt` if it cannot be unpickled. Empty if neither can travel.
    source : str
        The element of another run that failed in this way, if its result is the input of this element. Else empty.
    attempt : int
        The attempt of the job that stored the failure, from 1. 0 if not known.
    python : str
        The Python that pickled the exception, such as ``"3.11"``. Empty if not known.
    """

    kind: int
    type: str
    message: str
    traceback: str
    exit_code: int | None = None
    pickled: bytes = b""
    source: str = ""
    attempt: int = 0
    python: str = ""

    def to_bytes(self) -> bytes:
        """Return the failure in its stored form: the length of a JSON text, the text, and the pickle."""
        # The words are apart from the pickle, so that a session without the exception's class can still read them.
        attributes = asdict(self)
        del attributes["pickled"]
        text = json.dumps(attributes).encode()
        return _LENGTH.pack(len(text)) + text + self.pickled

    @classmethod
    def from_bytes(cls, data: bytes) -> Failure:
        """Read a stored failure. Raises `DamagedError` if the data are none."""
        if len(data) < _LENGTH.size:
            raise DamagedError(TOO_SHORT)
        (length,) = _LENGTH.unpack_from(data)
        end = _LENGTH.size + length
        try:
            attributes = json.loads(data[_LENGTH.size : end])
            # The image's worker may be of a newer cloudknot and store further names. They are ignored.
            names = {field.name for field in fields(cls)}
            return cls(**{name: value for name, value in attributes.items() if name in names}, pickled=data[end:])
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise DamagedError("it is not a stored failure") from error


def rebuilt(cls: type[BaseException], args: tuple[object, ...], attributes: Mapping[str, object]) -> BaseException:
    """Rebuild an exception from its parts, without calling its ``__init__``."""
    # __init__ may take other arguments than ``args``: this is why such an exception cannot be unpickled.
    error = cls.__new__(cls, *args)
    object.__setattr__(error, "args", args)
    for name, value in attributes.items():
        # Not setattr, which a frozen class refuses. An attribute may have a slot.
        object.__setattr__(error, name, value)
    return error


def add_note(error: BaseException, note: str) -> None:
    """Add a note to any exception, as `BaseException.add_note` does."""
    # An exception that is a frozen dataclass refuses add_note, because it refuses to set attributes.
    object.__setattr__(error, "__notes__", [*getattr(error, "__notes__", ()), note])


def replace_note(error: BaseException, note: str, earlier: str) -> None:
    """Add a note to any exception, without the note ``earlier``."""
    notes = [other for other in getattr(error, "__notes__", ()) if other not in (note, earlier)]
    object.__setattr__(error, "__notes__", [*notes, note])
