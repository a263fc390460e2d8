"""Run a few functions at the same time, in threads that do not outlive the session."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from cloudknot.aws.sdk import interrupts

T = TypeVar("T")
AT_ONCE = 4
"""Functions that run at the same time."""


def run_all(functions: Sequence[Callable[[], T]]) -> list[T]:
    """Call functions, a few at a time, and return their results. After the first error, no other call begins."""
    return _Calls(functions).run()


# No ThreadPoolExecutor: an interrupted program would wait for its threads before it exits, and uploads take minutes.
class _Calls(Generic[T]):
    def __init__(self, functions: Sequence[Callable[[], T]]) -> None:
        self._functions = functions
        self._open = list(range(len(functions)))[::-1]
        self._results: dict[int, T] = {}
        self._error: BaseException | None = None
        self._lock = threading.Lock()

    def run(self) -> list[T]:
        threads = [
            threading.Thread(target=self._work, name="cloudknot-layer", daemon=True)
            for _ in range(min(AT_ONCE, len(self._functions)))
        ]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                interrupts.join(thread)
        except BaseException as error:
            # An interrupt. The threads end with their current functions.
            self._error = self._error or error
            raise
        if self._error is not None:
            raise self._error
        return [self._results[index] for index in range(len(self._functions))]

    def _work(self) -> None:
        while (index := self._next()) is not None:
            try:
                self._results[index] = self._functions[index]()
            except BaseException as error:
                with self._lock:
                    self._error = self._error or error

    def _next(self) -> int | None:
        with self._lock:
            return self._open.pop() if self._open and self._error is None else None
