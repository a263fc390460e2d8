"""The future of one element of a map, and what it shares with the map's own.

There may be a million of them, so an element's future is made when somebody asks for it, and what `Future` keeps in
each is kept by the map for all of them together.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures._base import CANCELLED_AND_NOTIFIED, FINISHED
from concurrent.futures._base import PENDING as NOT_DONE
from typing import Any, Protocol

from cloudknot.elements import CANCELLED, PENDING, Elements
from cloudknot.errors import CKTimeoutError
from cloudknot.results import Outcome
from cloudknot.waiting import Waiters, Waiting

Callback = Callable[[Any], object]


class Owner(Protocol):
    """What the futures of a map share; `cloudknot.futures.MapFuture` is one."""

    job: Any
    elements: Elements
    waiting: Waiting
    element_waiters: Waiters
    callbacks: dict[int, list[Callback]]
    how_to_return: str
    _condition: Any

    def collect(self) -> None:
        """Have somebody look for results."""

    def outcome_of(self, index: int) -> tuple[Outcome, bool]:
        """The outcome of an element that has ended, and whether it would be the same the next time."""


class CloudFuture(Future[Any]):
    """A future that a collector resolves: waiting for it keeps the collector at work."""

    @property
    def _owner(self) -> Owner:
        raise NotImplementedError

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

    def _outcome(self) -> Outcome:
        """The value, or the error; raises CancelledError."""
        raise NotImplementedError

    def _await(self, timeout: float | None) -> None:
        if self.done():
            return
        owner = self._owner
        with owner.waiting.one():
            owner.collect()
            try:
                with self._condition:
                    ended = self._condition.wait_for(self.done, timeout)
            except KeyboardInterrupt as interrupt:
                interrupt.add_note(f"The job goes on: {owner.how_to_return}; future.cancel() ends it.")
                raise
        if not ended:
            raise self._late(timeout) from TimeoutError()

    def _late(self, timeout: float | None) -> CKTimeoutError:
        how = self._owner.how_to_return
        return CKTimeoutError(f"There is no result after {timeout:g} s. The job goes on: {how}.")

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Call ``fn(future)`` when the future ends. The interpreter does not end before that."""
        owner = self._owner
        owner.waiting.add(1)

        def counted(future: Future[Any]) -> None:
            try:
                fn(self)
            finally:
                owner.waiting.add(-1)

        super().add_done_callback(counted)
        owner.collect()


class ElementFuture(CloudFuture):
    """The future of one element of a map.

    Attributes
    ----------
    index : int
        The element's position in the input.
    """

    # There may be a million of them: what `Future` keeps in each is kept by the map for all.
    __slots__ = ("_loaded", "_map", "index")

    def __init__(self, index: int, owner: Owner) -> None:
        self.index, self._map = index, owner
        self._loaded: Outcome | None = None

    def __repr__(self) -> str:
        return f"<ElementFuture {self.index} of {self._map.job!r}: {self._state.lower()}>"

    @property
    def _owner(self) -> Owner:
        return self._map

    @property
    def _condition(self) -> Any:  # type: ignore[override]
        return self._map._condition

    @property
    def _state(self) -> str:  # type: ignore[override]
        state = self._map.elements.state(self.index)
        return NOT_DONE if state == PENDING else CANCELLED_AND_NOTIFIED if state == CANCELLED else FINISHED

    @property
    def _waiters(self) -> Any:  # type: ignore[override]
        return self._map.element_waiters.of(self.index)

    @property
    def _done_callbacks(self) -> list[Any]:
        return self._map.callbacks.setdefault(self.index, [])

    def done(self) -> bool:
        """Whether the element has ended."""
        return self._map.elements.state(self.index) != PENDING

    def _outcome(self) -> Outcome:
        if self._loaded is not None:
            return self._loaded
        outcome, lasts = self._map.outcome_of(self.index)
        with self._condition:
            # Another thread may have been faster: all get one and the same object.
            if lasts and self._loaded is None:
                self._loaded = outcome
            return self._loaded or outcome

    def cancel(self) -> bool:
        """Return False unless it was cancelled already: a whole job is cancelled by the map's future."""
        return self.cancelled()
