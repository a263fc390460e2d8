"""Work beside the main thread, which a program that is interrupted does not wait for.

The threads of an executor hold up the end of the program until their work is done, and CloudFormation takes minutes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


def in_background(work: Callable[..., T], *arguments: Any) -> Future[T]:
    """Begin ``work(*arguments)`` in a thread of its own; the future has its result, or what it raised."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work(*arguments))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name=f"background {getattr(work, '__name__', '')}", daemon=True).start()
    return future
