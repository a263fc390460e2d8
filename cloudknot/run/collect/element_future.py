"""The future of one element of a map, and what it shares with the map's own.

There may be a million of them, so an element's future is made when somebody asks for it, and what `Future` keeps in
each is kept by the map for all of them together.
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

from cloudknot.errors import CKTimeoutError
from cloudknot.run.collect.element_table import CANCELLED, PENDING, ElementTable
from cloudknot.run.collect.loader import Loader, Outcome
from cloudknot.run.collect.waiters import Callback, Waiters

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from cloudknot.run.collect.map_status import MapStatus

BLOCK = 256
"""Neighbouring elements whose futures share their `Block`. Python has each number below it once, for all."""
_LOADING = threading.Lock()


class CollectorLike(Protocol):
    """The `Collector`, as the futures that it resolves see it."""

    waiters: Waiters
    status: MapStatus

    def attended(self) -> AbstractContextManager[None]:
        """Keep the collector at work inside."""


class CloudFuture(Future[Any]):
    """A future that a collector resolves: waiting for it keeps the collector at work."""

    _collector: CollectorLike
    """The collector that resolves it."""
    _all_waiters: Waiters
    """Everybody who waits for its map."""
    _done_callbacks: list[Callback]

    @abstractmethod
    def _outcome(self) -> Outcome:
        """Return the value, or the error; raise CancelledError."""

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the result and return it.

        Parameters
        ----------
        timeout : float, optional
            Seconds; None waits as long as the job takes.

        Raises
        ------
        CKTimeoutError
            Not there after ``timeout``; the job goes on.
        concurrent.futures.CancelledError
            The future was cancelled.
        Exception
            What the function raised, or a `BatchJobFailedError` that says why there is no result.
        """
        self._await(timeout)
        value, error = self._outcome()
        if error is None:
            return value
        try:
            raise error
        finally:
            # As in `concurrent.futures`: the traceback that is now in the error refers to this frame.
            self = error = None  # type: ignore[assignment]

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the end and return the exception, or None where there is a result; see `result`."""
        self._await(timeout)
        return self._outcome()[1]

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait in a coroutine: ``await future`` returns or raises as `result` does, and does not block the event loop.

        Cancelling the task that waits ends the wait only. The job goes on, and so do other waits. When the map is
        cancelled, the task gets `concurrent.futures.CancelledError`, and is not cancelled itself.
        """
        return self._arrival().__await__()

    async def _arrival(self) -> Any:
        from asyncio import to_thread

        if not self.done():
            with self._collector.attended():
                await self._end_in_loop()
        # In a thread: the result may have to be read from S3.
        value, error = await to_thread(self._outcome_or_cancelled)
        if error is None:
            return value
        try:
            raise error
        finally:
            self = error = None  # type: ignore[assignment]  # As in `result`.

    async def _end_in_loop(self) -> None:
        """Wait until the future ends, in the running event loop."""
        # The caller has imported it, and to import it for all others takes time.
        from asyncio import get_running_loop

        loop = get_running_loop()
        ended = loop.create_future()

        def set_ended() -> None:
            if not ended.done():
                ended.set_result(None)

        def wake(_: object) -> None:
            with suppress(RuntimeError):  # The loop was closed meanwhile.
                loop.call_soon_threadsafe(set_ended)

        super().add_done_callback(wake)
        try:
            await ended
        finally:
            self._remove_done_callback(wake)

    def _outcome_or_cancelled(self) -> Outcome:
        """Return the outcome. asyncio would take a CancelledError that is raised in a thread for its own."""
        try:
            return self._outcome()
        except CancelledError as error:
            return None, error

    def _get_snapshot(self) -> tuple[bool, bool, Any, BaseException | None]:
        """Whether it is done and was cancelled, the value and the error: what asyncio asks for from Python 3.14 on."""
        if not self.done() or self.cancelled():
            return self.done(), self.cancelled(), None, None
        return True, False, *self._outcome()

    def _await(self, timeout: float | None) -> None:
        if self.done():
            return
        with self._collector.attended(), self._condition:
            ended = self._condition.wait_for(self.done, timeout)
        if not ended:
            raise self._late(timeout) from TimeoutError()

    def _late(self, timeout: float | None) -> CKTimeoutError:
        status = self._collector.status
        return CKTimeoutError(
            f"No result after {timeout:g} s. {status.so_far()}The job keeps running. {status.how_to_return}"
        )

    def add_done_callback(self, fn: Callback) -> None:
        """Call ``fn(future)`` when the future ends. The interpreter does not end before that."""
        waiters = self._all_waiters
        waiters.calls.add(1)

        def counted(future: Future[Any]) -> None:
            try:
                fn(self)
            finally:
                waiters.calls.add(-1)

        super().add_done_callback(counted)
        waiters.collect()

    def _remove_done_callback(self, fn: Callback) -> None:
        with self._condition, suppress(ValueError):
            self._done_callbacks.remove(fn)


class Block:
    """The part that futures of neighbouring elements share: their map, and the index of the first of them."""

    __slots__ = ("map", "start")

    def __init__(self, map: ElementFutures, start: int) -> None:
        self.map, self.start = map, start


class ElementFuture(CloudFuture):
    """The future of one element of a map. All futures of one element are equal.

    An element cannot be ended by itself, not where it has a job of its own (``job_type="independent"``) either:
    ``cancel()`` of one that waits does nothing and returns False; `MapFuture.cancel` ends the map. ``running()`` is
    always False: which elements run is not looked up. ``future.job.states`` counts the children in each state.

    Attributes
    ----------
    index : int
        The element's position in the input.
    """

    # There may be a million of them: what `Future` keeps in each is kept by the map for all.
    __slots__ = ("_block", "_loaded", "_position")

    def __init__(self, block: Block, position: int) -> None:
        self._block, self._position = block, position
        self._loaded: Outcome | None = None

    @property
    def index(self) -> int:
        return self._block.start + self._position

    def __repr__(self) -> str:
        return f"<ElementFuture {self.index} of {self._block.map.job!r}: {self._state.lower()}>"

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

    @property
    def _state(self) -> str:  # type: ignore[override]
        state = self._block.map.table.state(self.index)
        return NOT_DONE if state == PENDING else CANCELLED_AND_NOTIFIED if state == CANCELLED else FINISHED

    @property
    def _waiters(self) -> Any:  # type: ignore[override]
        return self._block.map.waiters.of_elements.of(self.index)

    @property
    def _done_callbacks(self) -> list[Callback]:  # type: ignore[override]
        return self._block.map.waiters.callbacks.setdefault(self.index, [])

    def _remove_done_callback(self, fn: Callback) -> None:
        self._block.map.waiters.remove_callback(self.index, fn)

    def done(self) -> bool:
        """Whether the element has ended."""
        return self._block.map.table.state(self.index) != PENDING

    def _outcome(self) -> Outcome:
        if self._loaded is not None:
            return self._loaded
        outcome, lasts = self._block.map.loader.outcome(self.index)
        with _LOADING:
            # Another thread may have been faster: all get one and the same object.
            if lasts and self._loaded is None:
                self._loaded = outcome
            return self._loaded or outcome

    def cancel(self) -> bool:
        """Return False unless it was cancelled already: a whole job is cancelled by the map's future."""
        return self.cancelled()


class ElementFutures:
    """Makes the futures of a map's elements.

    One that was asked for by its index is the same as long as somebody holds it. To remember each that somebody came
    by while going through all would take more memory than the futures themselves.
    """

    def __init__(self, collector: CollectorLike, table: ElementTable, loader: Loader, job: object) -> None:
        self.collector, self.table, self.loader, self.job = collector, table, loader, job
        self.waiters: Waiters = collector.waiters
        self._made: weakref.WeakValueDictionary[int, ElementFuture] = weakref.WeakValueDictionary()

    def __getitem__(self, index: int) -> ElementFuture:
        with self.waiters.condition:
            made = self._made.get(index)
            if made is None:
                made = self._made[index] = ElementFuture(Block(self, index), 0)
            return made

    def each(self, indices: Iterable[int]) -> Iterator[ElementFuture]:
        """The futures of some elements; nothing is held of those that were given."""
        block = Block(self, 0)
        for index in indices:
            if not block.start <= index < block.start + BLOCK:
                block = Block(self, index)
            yield (self._made.get(index) if self._made else None) or ElementFuture(block, index - block.start)

    def loaded(self) -> Iterator[tuple[int, Any]]:
        """The values that futures hold which were asked for by their index."""
        for index, element in list(self._made.items()):
            if element._loaded is not None and element._loaded[1] is None:
                yield index, element._loaded[0]
