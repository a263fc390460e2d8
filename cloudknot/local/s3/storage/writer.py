"""ObjectWriter: collects the data of a new object, in memory while it is small, then in a file beside the others."""

from __future__ import annotations

from types import TracebackType


class ObjectWriter:
    """The data of a new object or part. Used in a ``with`` block, which drops the data unless they were stored."""

    size: int

    def write(self, block: bytes | bytearray | memoryview) -> None:
        """Append a block. The caller may reuse its buffer afterwards."""
        raise NotImplementedError

    def __enter__(self) -> ObjectWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        raise NotImplementedError
