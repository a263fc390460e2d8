"""Picture: the content of a progress line at one moment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Picture:
    """The content of a progress line at one moment.

    Attributes
    ----------
    ended : int
        Number of elements that need no more work.
    text : str
        The progress in words: ``"3/9, 1 failed, 10/s"``.
    failed : int
        Number of elements without a result.
    failure : str
        The first failure: ``"element 3 failed: KeyError: 'gone'"``. Empty before it.
    reason : str
        A sentence with the reason why no job starts. Empty while a job runs or the reason is unknown.
    advice : str
        A sentence with a faster way to run the map. Empty without one.
    """

    ended: int
    text: str
    failed: int = 0
    failure: str = ""
    reason: str = ""
    advice: str = ""


class Notes:
    """The notes of one map below or above its bar. Each is printed once."""

    def __init__(self, name: str, count: int) -> None:
        self._name, self._count = name, count
        self._printed: set[str] = set()

    def new(self, picture: Picture) -> list[str]:
        """Return the lines of a picture that were not printed before."""
        lines = {
            picture.failure: self._failure(picture),
            picture.reason: picture.reason,
            picture.advice: picture.advice,
        }
        new = {key: line for key, line in lines.items() if key and key not in self._printed}
        self._printed.update(new)
        return list(new.values())

    def _failure(self, picture: Picture) -> str:
        """Return the first failure with the number of failures so far, which does not make it a new note."""
        return failure_line(self._name, picture.failure, picture.failed, self._count)


def failure_line(name: str, failure: str, failed: int, count: int) -> str:
    """Return the line on the first failure: ``"squares: element 3 failed: KeyError: 'gone' (1 of 12)"``."""
    return f"{name}: {failure} ({failed:,} of {count:,})"
