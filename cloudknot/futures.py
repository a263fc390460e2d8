"""MapFuture: the future of a map's list of results, and a sequence of its elements' own futures."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, Protocol, overload

from cloudknot.aws.batch import log_streams
from cloudknot.collector import Collector, Source
from cloudknot.errors import CKTimeoutError, CloudknotError
from cloudknot.outcomes import Place, given_up, load_value, no_result
from cloudknot.worker.protocol import Envelope, Pack


class Job(Source, Protocol):
    """What a map's future must know of its job; `cloudknot.job.BatchJob` is one."""

    def place(self, index: int) -> Place:
        """Where an element runs, for an error's text."""

    @property
    def states(self) -> Mapping[str, int]:
        """How many children were in which state when Batch was asked last."""

    def log_url(self, stream: str) -> str:
        """Where a person can read a log stream."""

    def terminate(self, reason: str) -> None:
        """End the job."""


class Progress(Protocol):
    """Who shows how a map gets on; `cloudknot.progress.ProgressLine` does."""

    def show(self, done: int, failed: int, states: Mapping[str, int]) -> None:
        """Show how many elements have a result or none, and how many children are in which state."""

    def stop(self) -> None:
        """Show no more."""


class _Waiting:
    """Counts who waits and which callbacks have not run, so that the interpreter does not end under them."""

    def __init__(self) -> None:
        self._count = 0
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return self._count > 0

    def add(self, number: int) -> None:
        with self._lock:
            self._count += number

    @contextmanager
    def one(self) -> Iterator[None]:
        self.add(1)
        try:
            yield
        finally:
            self.add(-1)


class _CloudFuture(Future[Any]):
    """A future that a collector resolves: waiting for it keeps the collector at work."""

    def __init__(self, waiting: _Waiting, collect: Callable[[], None], how_to_return: str) -> None:
        super().__init__()
        self._waiting, self._collect, self._how_to_return = waiting, collect, how_to_return

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
        return super().result(0)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the end and return the exception, or None where there is a result; see `result`."""
        self._await(timeout)
        return super().exception(0)

    def _await(self, timeout: float | None) -> None:
        with self._waiting.one():
            self._collect()
            try:
                super().exception(timeout)
            except CancelledError:
                pass
            except KeyboardInterrupt as interrupt:
                interrupt.add_note(f"The job goes on: {self._how_to_return}; future.cancel() ends it.")
                raise
            except TimeoutError as error:
                raise CKTimeoutError(
                    f"There is no result after {timeout:g} s. The job goes on: {self._how_to_return}."
                ) from error

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Call ``fn(future)`` when the future ends. The interpreter does not end before that."""
        self._waiting.add(1)

        def counted(future: Future[Any]) -> None:
            try:
                fn(self)
            finally:
                self._waiting.add(-1)

        super().add_done_callback(counted)
        self._collect()


class ElementFuture(_CloudFuture):
    """The future of one element of a map.

    Attributes
    ----------
    index : int
        The element's position in the input.
    """

    def __init__(self, index: int, waiting: _Waiting, collect: Callable[[], None], how_to_return: str) -> None:
        super().__init__(waiting, collect, how_to_return)
        self.index = index

    def cancel(self) -> bool:
        """Return False unless it was cancelled already: a whole job is cancelled by the map's future."""
        return self.cancelled()


class MapFuture(_CloudFuture, Sequence[ElementFuture]):
    """What `Knot.map` returns.

    As a `concurrent.futures.Future`, its result is the list of all results in input order. As a sequence, it holds
    each element's own `Future`: ``len(f)``, ``f[3].result()``, ``as_completed(f)``, ``wait(f)``.

    ``result()`` raises the exception of the first element, by index, that has one; the others' results stay
    reachable in their own futures.

    Attributes
    ----------
    job : BatchJob or None
        The Batch job; None for an empty map.
    """

    def __init__(
        self,
        job: Job | None,
        count: int,
        max_threads: int = 64,
        how_to_return: str = "",
        progress: Progress | None = None,
    ) -> None:
        super().__init__(_Waiting(), self._start_collector, how_to_return)
        self.job: Any = job
        self._progress = progress
        self._elements = [ElementFuture(i, self._waiting, self._start_collector, how_to_return) for i in range(count)]
        self._left, self._without_value = count, 0
        self._collector = Collector(job, self, count, max_threads) if job is not None else None
        if not count:
            self.set_result([])
        self._start_collector()

    def __repr__(self) -> str:
        failed = f", {self._without_value} without a result" if self._without_value else ""
        return f"<MapFuture of {len(self)} elements: {len(self) - self._left} done{failed}>"

    def _start_collector(self) -> None:
        if self._collector is not None:
            self._collector.start()

    def __len__(self) -> int:
        return len(self._elements)

    @overload
    def __getitem__(self, index: int) -> ElementFuture: ...
    @overload
    def __getitem__(self, index: slice) -> list[ElementFuture]: ...
    def __getitem__(self, index: int | slice) -> ElementFuture | list[ElementFuture]:
        return self._elements[index]

    def cancel(self) -> bool:
        """End the Batch job. Results that are stored stay reachable; returns False when all had ended already."""
        if self.done():
            return self.cancelled()
        if self._collector is None:
            return _cancel(self)
        with self._collector.held():
            self.job.terminate("Cancelled by its future")
            self._collector.stop()
            for element in self._elements:
                _cancel(element)
            return _cancel(self)

    # What follows is called by the collector.

    def wanted(self) -> bool:
        """Whether somebody waits for this map, by a call or a callback."""
        return bool(self._waiting) or any(future._waiters for future in (self, *self._elements))

    def store(self, first: int, pack: Pack) -> None:
        """Take the outcomes of elements ``first`` onwards."""
        for index, envelope in enumerate(pack, first):
            if not self._elements[index].done():
                self._settle(index, envelope)

    def fail(self, index: int, job: dict[str, Any]) -> None:
        """An element's job ended without a result for it."""
        if not self._elements[index].done():
            streams = log_streams(job)
            place = replace(self.job.place(index), log_url=self.job.log_url(streams[-1]) if streams else "")
            self._settle_error(index, no_result(place, job))

    def give_up(self, error: CloudknotError) -> None:
        """End every element that is left, and so the map, with ``error``."""
        for index, element in enumerate(self._elements):
            if not element.done():
                self._settle_error(index, given_up(self.job.place(index), error))
        self.complete()

    def _settle(self, index: int, envelope: Envelope) -> None:
        try:
            value = load_value(envelope, self.job.place(index))
        except BaseException as error:
            self._settle_error(index, error)
        else:
            self._left -= 1
            # A future that was cancelled in the meantime keeps that ending.
            with suppress(InvalidStateError):
                self._elements[index].set_result(value)

    def _settle_error(self, index: int, error: BaseException) -> None:
        self._left -= 1
        self._without_value += 1
        with suppress(InvalidStateError):
            self._elements[index].set_exception(error)

    def complete(self) -> bool:
        """Whether every element has ended; then the map's own future ends too."""
        if self._left == 0 and not self.done():
            with suppress(InvalidStateError, CancelledError):
                self._finish()
        return self.done()

    def looked(self) -> None:
        """The collector has looked once more: show what it saw."""
        if self._progress is not None:
            done = len(self) - self._left - self._without_value
            self._progress.show(done, self._without_value, self.job.states if self._left else {})

    def left(self) -> None:
        """The collector looks no more."""
        if self._progress is not None:
            self._progress.stop()

    def _finish(self) -> None:
        error = next((e for element in self._elements if (e := Future.exception(element, 0)) is not None), None)
        if error is not None:
            self.set_exception(error)
        else:
            self.set_result([Future.result(element, 0) for element in self._elements])


def _cancel(future: Future[Any]) -> bool:
    """Cancel by the rule of `Future`, and tell those who wait."""
    if not Future.cancel(future):
        return False
    future.set_running_or_notify_cancel()
    return True
