"""The kinds of outcomes, and the failure that stands in an envelope in place of a value.

Client and worker both import this module. It does no I/O and imports the standard library only.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

_LENGTH = struct.Struct("<I")

VALUE, RAISED, EXITED, UNPICKLABLE, NOT_LOADED, NO_INPUT = range(6)


@dataclass(frozen=True)
class Failure:
    """Why an element has no value.

    ``pickled`` is the exception itself, or the arguments of `rebuilt` where it does not unpickle, or empty when
    neither can travel. ``source`` names the element of another run that failed in this way, and whose result this
    element would have taken; else it is empty. ``attempt`` is the attempt of its job that stored it, from 1; 0 where
    that is not known. The other fields are always there.
    """

    kind: int
    type: str
    message: str
    traceback: str
    exit_code: int | None = None
    pickled: bytes = b""
    source: str = ""
    attempt: int = 0

    def to_bytes(self) -> bytes:
        about = asdict(self)
        del about["pickled"]
        text = json.dumps(about).encode()
        return _LENGTH.pack(len(text)) + text + self.pickled

    @classmethod
    def from_bytes(cls, data: bytes) -> Failure:
        (length,) = _LENGTH.unpack_from(data)
        end = _LENGTH.size + length
        about = json.loads(data[_LENGTH.size : end])
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in about.items() if name in known}, pickled=data[end:])


def rebuilt(cls: type[BaseException], args: tuple[object, ...], attributes: Mapping[str, object]) -> BaseException:
    """An exception as it was, without its ``__init__``, which may take other arguments than ``args``."""
    error = cls.__new__(cls, *args)
    object.__setattr__(error, "args", args)
    error.__dict__.update(attributes)
    return error


def add_note(error: BaseException, note: str) -> None:
    """`BaseException.add_note`, also to one that is a frozen dataclass and so takes no attribute."""
    object.__setattr__(error, "__notes__", [*getattr(error, "__notes__", ()), note])
