"""Results on their way to S3: kept together while the chunk runs, stored in packs by a thread."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from .element import stopping
from .stored_run import StoredRun
from .wire.pack import Envelope, head_of, pack

FIRST_INTERVAL = 0.5
GROWTH = 0.05
LONGEST_INTERVAL = 60.0
PACK_BYTES = 8 * 1024 * 1024


class ResultWriter:
    """Stores envelopes of one child while the function goes on with the next element.

    A chunk of short elements is stored as one object. In a chunk that takes long, what is done is stored every half
    second at first and less often later (a twentieth of the time that has passed, at most a minute), so that a child
    that dies loses little and a child of many hours makes few requests.
    """

    def __init__(self, run: StoredRun) -> None:
        self._run = run
        self._held: dict[int, Envelope] = {}
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
        """Take one outcome. It is stored soon; with ``last``, by `close`; at once if it is large.

        A large one is stored from the value's own memory, which the function may change when it goes on.
        """
        with stopping.after_storing():
            self._add(index, envelope, last)

    def _add(self, index: int, envelope: Envelope, last: bool) -> None:
        if envelope.pieces:
            keys, pieces = self._run.keys, [head_of(envelope), *envelope.pieces]
            self._run.s3.write_large(keys.bucket, keys.output(index, 1, self._run.manifest.round), pieces)
            return
        with self._wake:
            if self._error:
                raise self._error
            self._held[index] = envelope
            self._bytes += len(envelope.payload)
            if self._thread is None and not last:
                self._thread = threading.Thread(target=self._store_as_time_passes, daemon=True)
                self._thread.start()
            if self._bytes >= PACK_BYTES:
                self._wake.notify()

    def close(self) -> None:
        """Store what is still held, and raise what storing raised."""
        with stopping.after_storing():
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

    def _store_as_time_passes(self) -> None:
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
            held, self._held, self._bytes = self._held, {}, 0
        for first, envelopes in _consecutive(held):
            key = self._run.keys.output(first, len(envelopes), self._run.manifest.round)
            self._run.write(key, pack(envelopes))


def _consecutive(held: dict[int, Envelope]) -> list[tuple[int, list[Envelope]]]:
    """Split outcomes into runs of neighbouring elements: a pack's key names a first element and a count."""
    runs: list[tuple[int, list[Envelope]]] = []
    for index in sorted(held):
        if runs and runs[-1][0] + len(runs[-1][1]) == index:
            runs[-1][1].append(held[index])
        else:
            runs.append((index, [held[index]]))
    return runs
