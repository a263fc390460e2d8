"""The refusal of a request: AWS's error code, a message, and the HTTP status."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Refusal:
    """The error that refuses a request: AWS's code and message, and the HTTP status."""

    code: str
    message: str
    status: int = 403


class Refused(Exception):
    """A request is refused with ``refusal``."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.refusal = Refusal(code, message, status)
