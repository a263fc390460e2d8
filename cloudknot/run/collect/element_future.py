"""ElementFuture: the future of one element of a map, and `CloudFuture`, its common base with `MapFuture`.

A map may have a million elements. So the future of an element is created on demand, and the map holds the fields of
`Future` for all elements together.
"""

from __future__ import annotations

import threading
import weakref
from abc import abstractmethod
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from concurrent.futures._base import CANCELLED_AND_NOTIFIED, FINISHED
from concurrent.futures._base import PENDING as NOT_DONE
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from cloudknot.aws.sdk import forks, interrupts
from cloudknot.errors import CKTimeoutError
from cloudknot.options.public import public
from cloudknot.run.collect.element_table import CANCELLED, PENDING, STATE_WORDS, ElementTable
from cloudknot.run.collect.loader import Loader, Outcome
from cloudknot.run.collect.waiters import Callback, Waiters

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from cloudknot.run.collect.map_status import MapStatus

BLOCK = 256
"""Number of contiguous elements whose futures share one `Block`."""
# Python has one object for each int up to 256, so a position in a block takes no memory of its own.

# One lock for all maps: it guards an assignment, and is not held during a download.
_LOADING = forks.renewed(threading.Lock())


class CollectorLike(Protocol):
    """The part of `Collector` that futures use."""

    waiters: Waiters
    status: MapStatus

    @property
    def job_id(self) -> str:
        """The id of the job in Batch."""

    def attended(self) -> AbstractContextManager[None]:
        """Keep the collector running inside the block."""

    def is_running(self, element: int) -> bool:
        """Return whether a pending element is in a child that was running at the last poll."""


@public
class CloudFuture(Future[Any]):
    """A future that a collector resolves. A wait for it keeps the collector running."""

    _collector: CollectorLike
    """The collector that resolves it."""
    _all_waiters: Waiters
    """All waiters of its map."""
    _done_callbacks: list[Callback]

    @abstractmethod
    def _outcome(self) -> Outcome:
        """Return the value or the error of an ended future. Raises CancelledError if it was cancelled."""

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the result and return it.

        The result of a map is the list of all results in input order. The result of an element is the value that the
        function returned.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait. Default: no limit.

        Raises
        ------
        CKTimeoutError
            There is no result after ``timeout`` seconds. The job keeps running.
        concurrent.futures.CancelledError
            The map was cancelled.
        BatchJobFailedError
            There is no result for another reason than an exception, such as too little memory.
        Exception
            The exception that the function raised, with the traceback in the job as its ``__cause__``.
        """
        self._await(timeout)
        value, error = self._outcome()
        if error is None:
            return value
        try:
            raise error
        finally:
            # As in `concurrent.futures`: the traceback of the error refers to this frame, which would be a cycle.
            self = error = None  # type: ignore[assignment]

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the end and return the exception that `result` would raise; None if there is a result.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait. Default: no limit.

        Raises
        ------
        CKTimeoutError
            The future has not ended after ``timeout`` seconds. The job keeps running.
        concurrent.futures.CancelledError
            The map was cancelled.
        """
        self._await(timeout)
        return self._outcome()[1]

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait in a coroutine: ``await future`` returns or raises the same as `result`.

        The event loop continues during the wait. Cancelling the waiting task ends only this wait: the job keeps
        running, and so do other waits. If the map is cancelled, the task gets `concurrent.futures.CancelledError` and
        is not cancelled itself.
        """
        # Not `asyncio.wrap_future`: it reads the result in the loop, cancels the map when a task is cancelled, and
        # turns a cancelled map into a cancelled task, which no `except Exception` sees. With it,
        # `asyncio.wait_for(future, 5)` would end a job of hours.
        return self._arrival().__await__()

    async def _arrival(self) -> Any:
        from asyncio import to_thread

        if not self.done():
            with self._collector.attended():
                await self._end_in_loop()
        # In a thread, because the result may have to be read from S3.
        value, error = await to_thread(self._outcome_or_cancelled)
        if error is None:
            return value
        try:
            raise error
        finally:
            # As in `result`.
            self = error = None  # type: ignore[assignment]

    async def _end_in_loop(self) -> None:
        """Wait in the running event loop until the future ends."""
        # Imported here, because its import takes time and the caller has it already.
        from asyncio import get_running_loop

        loop = get_running_loop()
        ended = loop.create_future()

        def set_ended() -> None:
            if not ended.done():
                ended.set_result(None)

        def wake(_: object) -> None:
            # The loop may have been closed during the wait.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(set_ended)

        super().add_done_callback(wake)
        try:
            await ended
        finally:
            # Otherwise each wait that is given up would leave a callback, and the interpreter would wait for it.
            self._remove_done_callback(wake)

    def _outcome_or_cancelled(self) -> Outcome:
        """Return the outcome, with CancelledError as the error."""
        # asyncio would take a CancelledError that is raised in the thread for a cancellation of its task.
        try:
            return self._outcome()
        except CancelledError as error:
            return None, error

    def _get_snapshot(self) -> tuple[bool, bool, Any, BaseException | None]:
        """Return whether the future is done, whether it was cancelled, its value and its error."""
        # asyncio.wrap_future calls this method from Python 3.14 on.
        if not self.done() or self.cancelled():
            return self.done(), self.cancelled(), None, None
        return True, False, *self._outcome()

    def _await(self, timeout: float | None) -> None:
        """Wait until the future has ended."""
        if self.done():
            return
        with self._collector.attended(), self._condition:
            ended = interrupts.wait_for(self._condition, self.done, timeout)
        if not ended:
            raise self._late(timeout) from TimeoutError()

    def _late(self, timeout: float | None) -> CKTimeoutError:
        """Return the error for a wait that ended before the future did."""
        status = self._collector.status
        return CKTimeoutError(
            f"No result after {timeout:g} s. {status.so_far()}The job keeps running. {status.how_to_return}",
            job_id=self._collector.job_id,
        )

    def add_done_callback(self, fn: Callback) -> None:
        """Call ``fn(future)`` when the future ends, on a thread of cloudknot.

        If the future has already ended, ``fn`` is called at once in the caller's thread. The interpreter waits for
        callbacks before it ends.
        """
        waiters = self._all_waiters
        waiters.calls.add(1)
        # Emptied by the call, so that the callback does not keep the future, and its results, in memory.
        called_with = [self]

        def counted(future: Future[Any]) -> None:
            try:
                fn(called_with.pop())
            finally:
                waiters.calls.add(-1)

        super().add_done_callback(counted)
        waiters.collect()

    def _remove_done_callback(self, fn: Callback) -> None:
        # A new list: `Future` may be calling the callbacks of the old one in another thread, and would skip one.
        with self._condition:
            self._done_callbacks = [other for other in self._done_callbacks if other is not fn]


class Block:
    """The common part of the futures of contiguous elements: their map, and the index of the first element."""

    __slots__ = ("map", "start")

    def __init__(self, map: ElementFutures, start: int) -> None:
        self.map, self.start = map, start


@public
class ElementFuture(CloudFuture):
    """The future of one element of a map: ``future[3]``, or an item of a loop over the future of the map.

    It is a `concurrent.futures.Future`, and ``await future[3]`` returns its result. The result is read from S3 by the
    first call of `result`, and stays in memory as long as this object.

    A single element cannot be cancelled, even with ``job_type="independent"``. `MapFuture.cancel` cancels the map.

    Two futures of the same element are equal, but may be different objects.

    Attributes
    ----------
    index : int
        The position of the element in the input.

    Examples
    --------
    >>> future = knot.map([1, 2, 3])
    >>> future[2].result()
    9
    """

    # A `Future` with its lock takes about a kilobyte, this object 80 bytes: there may be a million of them.
    __slots__ = ("_block", "_loaded", "_position")

    def __init__(self, block: Block, position: int) -> None:
        self._block, self._position = block, position
        self._loaded: Outcome | None = None

    @property
    def index(self) -> int:
        """The position of the element in the input."""
        return self._block.start + self._position

    def __repr__(self) -> str:
        table = self._block.map.table
        return f"<ElementFuture {self.index} of {len(table):,}: {STATE_WORDS[table.state(self.index)]}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ElementFuture):
            return NotImplemented
        return self.index == other.index and self._block.map is other._block.map

    def __hash__(self) -> int:
        return id(self._block.map) + self.index

    @property
    def _collector(self) -> CollectorLike:  # type: ignore[override]
        return self._block.map.collector

    @property
    def _all_waiters(self) -> Waiters:  # type: ignore[override]
        return self._block.map.waiters

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        return self._block.map.waiters.condition

    # `concurrent.futures.wait` and `as_completed` read these fields of a future, so they are properties here.
    @property
    def _state(self) -> str:  # type: ignore[override]
        state = self._block.map.table.state(self.index)
        return NOT_DONE if state == PENDING else CANCELLED_AND_NOTIFIED if state == CANCELLED else FINISHED

    @property
    def _waiters(self) -> Any:  # type: ignore[override]
        return self._block.map.waiters.of_elements.list_for(self.index)

    @property
    def _done_callbacks(self) -> list[Callback]:  # type: ignore[override]
        return self._block.map.waiters.callbacks.setdefault(self.index, [])

    def _remove_done_callback(self, fn: Callback) -> None:
        self._block.map.waiters.remove_callback(self.index, fn)

    def done(self) -> bool:
        """Return whether the element has ended, with a result or without."""
        return self._block.map.table.state(self.index) != PENDING

    def running(self) -> bool:
        """Return whether the element has not ended and its child job runs, by the last poll of Batch.

        The elements of one chunk run one after the other, and all of them count as running.
        """
        return not self.done() and self._collector.is_running(self.index)

    def _outcome(self) -> Outcome:
        if self._loaded is not None:
            return self._loaded
        outcome, lasts = self._block.map.loader.outcome(self.index)
        with _LOADING:
            # Another thread may have loaded it in the meantime. All callers get the same object.
            if lasts and self._loaded is None:
                self._loaded = outcome
            return self._loaded or outcome

    def cancel(self) -> bool:
        """Do nothing, and return whether the map was cancelled. Only `MapFuture.cancel` ends jobs."""
        return self.cancelled()


class ElementFutures:
    """The futures of a map's elements, created on demand.

    A future that a caller got by index is the same object as long as the caller holds it. Futures from a loop are not
    remembered.
    """

    def __init__(self, collector: CollectorLike, table: ElementTable, loader: Loader, job: object) -> None:
        self.collector, self.table, self.loader, self.job = collector, table, loader, job
        self.waiters: Waiters = collector.waiters
        # A weak reference takes twice as much memory as a future, so loops leave none here.
        self._by_index: weakref.WeakValueDictionary[int, ElementFuture] = weakref.WeakValueDictionary()

    def __getitem__(self, index: int) -> ElementFuture:
        with self.waiters.condition:
            element = self._by_index.get(index)
            if element is None:
                element = self._by_index[index] = ElementFuture(Block(self, index), 0)
            return element

    def each(self, indices: Iterable[int]) -> Iterator[ElementFuture]:
        """Yield the futures of some elements, without a reference to those already yielded."""
        block = Block(self, 0)
        for index in indices:
            if not block.start <= index < block.start + BLOCK:
                block = Block(self, index)
            yield (self._by_index.get(index) if self._by_index else None) or ElementFuture(block, index - block.start)

    def loaded(self) -> Iterator[tuple[int, Any]]:
        """Yield the index and the value for each remembered future that has read its value."""
        for index, element in list(self._by_index.items()):
            if element._loaded is not None and element._loaded[1] is None:
                yield index, element._loaded[0]
