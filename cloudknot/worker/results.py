"""Collect the outcomes of a chunk while it runs, and store them in packs from a thread."""

from __future__ import annotations

import os
import threading
import time
from types import TracebackType

from .element import stop_signal
from .stored_run import StoredRun
from .wire.container import attempt_number
from .wire.keys import Location
from .wire.pack import Envelope, Origin, head_of, pack

# The intervals grow, so that a child that dies loses little, and a child of many hours makes few requests.
FIRST_INTERVAL = 0.5
GROWTH = 0.05
"""Length of an interval as a share of the time since the start."""
LONGEST_INTERVAL = 60.0
"""Seconds, as `FIRST_INTERVAL` is."""
PACK_BYTES = 8 * 1024 * 1024
"""Bytes of waiting outcomes that end an interval early."""


class ResultWriter:
    """A writer that stores the outcomes of one child while the function goes on with the next element.

    A chunk of short elements is stored as one pack at its end. A chunk that takes long is stored in several packs: the
    first after half a second, the next at growing intervals of up to a minute.
    """

    def __init__(self, run: StoredRun) -> None:
        self._run = run
        self._envelopes: dict[int, Envelope] = {}
        self._bytes = 0
        self._wake = threading.Condition()
        self._started = time.monotonic()
        self._closing = False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> ResultWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def add(self, index: int, envelope: Envelope, *, last: bool = False) -> None:
        """Add one outcome, to be stored soon. The ``last`` one is stored by `close`, a large one immediately."""
        with stop_signal.deferred():
            self._add(index, envelope, last)

    def _add(self, index: int, envelope: Envelope, last: bool) -> None:
        # A large value is stored from its own memory, which the function may change when it goes on.
        if envelope.pieces:
            keys, origin = self._run.keys, self._origin(index, 1)
            pieces = [head_of(envelope, origin), *envelope.pieces]
            self._run.s3.write_large(keys.bucket, keys.output(*origin.location), pieces)
            return
        with self._wake:
            if self._error:
                raise self._error
            self._envelopes[index] = envelope
            self._bytes += len(envelope.payload)
            # A chunk of one element needs no thread.
            if self._thread is None and not last:
                self._thread = threading.Thread(target=self._store_at_intervals, daemon=True)
                self._thread.start()
            if self._bytes >= PACK_BYTES:
                self._wake.notify()

    def close(self) -> None:
        """Store the remaining outcomes. Raises the error of an earlier upload, if one failed."""
        with stop_signal.deferred():
            self._close()

    def _close(self) -> None:
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()
        if self._error:
            raise self._error
        self._store()

    def _interval(self) -> float:
        passed = time.monotonic() - self._started
        return min(LONGEST_INTERVAL, max(FIRST_INTERVAL, passed * GROWTH))

    def _store_at_intervals(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._closing or self._bytes >= PACK_BYTES, timeout=self._interval())
                if self._closing:
                    return
            try:
                self._store()
            except BaseException as error:
                self._error = error
                return

    def _store(self) -> None:
        with self._wake:
            waiting, self._envelopes, self._bytes = self._envelopes, {}, 0
        for first, envelopes in _consecutive(waiting):
            origin = self._origin(first, len(envelopes))
            self._run.write(self._run.keys.output(*origin.location), pack(envelopes, origin))

    def _origin(self, first: int, number: int) -> Origin:
        location = Location(first, number, self._run.manifest.round)
        return Origin(self._run.keys.run_id, location, attempt_number(os.environ))


def _consecutive(envelopes: dict[int, Envelope]) -> list[tuple[int, list[Envelope]]]:
    """Group the outcomes of consecutive elements, each group with its first element."""
    # A pack holds consecutive elements only, because its key consists of the first element and a number.
    groups: list[tuple[int, list[Envelope]]] = []
    for index in sorted(envelopes):
        if groups and groups[-1][0] + len(groups[-1][1]) == index:
            groups[-1][1].append(envelopes[index])
        else:
            groups.append((index, [envelopes[index]]))
    return groups
