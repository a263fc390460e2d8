"""Collect the outcomes of a chunk while it runs, and store them in packs from a thread.

`wire.pack_order` has the rule for attempts that store outcomes of the same elements at the same time.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from types import TracebackType

from .element import stop_signal
from .s3.limits import PART_SIZE
from .stored_run import StoredRun
from .wire.buffers import size_of
from .wire.container import attempt_number
from .wire.failure import DAMAGED
from .wire.keys import Location
from .wire.pack import NO_OUTCOME, Envelope, Origin, Pack, head_of, pack_pieces
from .wire.pack_order import Gaps, location_in, read_head
from .wire.seal import UnusableError

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

    Parameters
    ----------
    run : StoredRun
    gaps : Gaps
        The elements of the child without a stored outcome. `add` gets their outcomes in ascending order, and leaves
        out those that failed if another attempt follows.
    """

    def __init__(self, run: StoredRun, gaps: Gaps) -> None:
        self._run, self._gaps = run, gaps
        # Packs are stored one after the other, because a pack begins where the one before it ended.
        self._storing = threading.RLock()
        self._envelopes: dict[int, Envelope] = {}
        self._bytes = 0
        self._wake: threading.Condition | None = None
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
        if envelope.pieces and not last and size_of(envelope.pieces) <= PART_SIZE:
            envelope = replace(envelope, payload=b"".join(envelope.pieces), pieces=())
        if envelope.pieces:
            with self._storing:
                self._store()
                self._fill({index: envelope})
            return
        if self._wake is None and last:
            # A chunk of one element needs no thread.
            self._envelopes[index] = envelope
            return
        wake = self._started_thread()
        with wake:
            if self._error:
                raise self._error
            self._envelopes[index] = envelope
            self._bytes += len(envelope.payload)
            if self._bytes >= PACK_BYTES:
                wake.notify()

    def _started_thread(self) -> threading.Condition:
        """Return the condition for the thread that stores outcomes, after the start of that thread."""
        if self._wake is None:
            self._wake = threading.Condition()
            self._thread = threading.Thread(target=self._store_at_intervals, args=(self._wake,), daemon=True)
            self._thread.start()
        return self._wake

    def needs(self, index: int) -> bool:
        """Return whether no other attempt has stored an outcome of an element, as far as this one knows."""
        return index in self._gaps

    def close(self) -> None:
        """Store the remaining outcomes. Raises the error of an earlier upload, if one failed."""
        with stop_signal.deferred():
            self._close()

    def _close(self) -> None:
        if self._wake is not None and self._thread is not None:
            with self._wake:
                self._closing = True
                self._wake.notify()
            self._thread.join()
        if self._error:
            raise self._error
        self._store()

    def _interval(self) -> float:
        passed = time.monotonic() - self._started
        return min(LONGEST_INTERVAL, max(FIRST_INTERVAL, passed * GROWTH))

    def _store_at_intervals(self, wake: threading.Condition) -> None:
        while True:
            with wake:
                wake.wait_for(lambda: self._closing or self._bytes >= PACK_BYTES, timeout=self._interval())
                if self._closing:
                    return
            try:
                self._store()
            except BaseException as error:
                self._error = error
                return

    def _store(self) -> None:
        with self._storing:
            with self._wake or nullcontext():
                waiting, self._envelopes, self._bytes = self._envelopes, {}, 0
            self._fill(waiting)

    def _fill(self, waiting: dict[int, Envelope]) -> None:
        """Store outcomes in the gaps of their elements. Drop those for which another attempt was first."""
        while waiting:
            gap = self._gaps.around(min(waiting))
            if gap is not None:
                self._fill_gap(gap, max(index for index in waiting if index in gap), waiting)
            waiting = {index: envelope for index, envelope in waiting.items() if index in self._gaps}

    def _fill_gap(self, gap: range, last: int, waiting: dict[int, Envelope]) -> None:
        """Store a pack with the elements of a gap up to ``last``, or read the pack that is stored there already."""
        location = location_in(gap, self._run.manifest.round)
        # Elements that do not wait have failed, and another attempt follows.
        envelopes = [waiting.get(index, NO_OUTCOME) for index in range(gap.start, last + 1)]
        if self._write(location, envelopes):
            self._gaps.fill(location, bytes(envelope.kind for envelope in envelopes))
        else:
            self._gaps.fill(location, stored_kinds(self._run, location))

    def _write(self, location: Location, envelopes: list[Envelope]) -> bool:
        """Store a pack, unless its key exists already. Return False if it does."""
        keys = self._run.keys
        origin = Origin(keys.run_id, location, attempt_number(os.environ))
        if pieces := envelopes[-1].pieces:
            return self._run.write(keys.output(*location), head_of(envelopes, origin), *pieces)
        return self._run.write(keys.output(*location), *pack_pieces(envelopes, origin))


def stored_kinds(run: StoredRun, location: Location) -> bytes:
    """Return the kinds of a stored pack's outcomes. A damaged pack closes its gap."""
    head = read_head(partial(run.read, run.keys.output(*location)), location)
    try:
        return Pack(head, Origin(run.keys.run_id, location)).kinds
    except UnusableError:
        return bytes([DAMAGED]) * location.number
