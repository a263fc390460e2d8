"""Identity: whether a file is still the same one, or another one took its place."""

from __future__ import annotations

from pathlib import Path


class Identity:
    """A path and the file that was there. Another file may be there later, or none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._was = self._is()

    def remains(self) -> bool:
        """Return whether the same file is still there."""
        return self._was is not None and self._is() == self._was

    def _is(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino
