"""A bounded cache of the packs of one map, and downloads of packs in order.

Small packs stay in memory as they came, so each is read once. A pack without room in the cache is read again on each
use. So a map's results are never in memory together, unless a caller asks for the list of them.
"""

from __future__ import annotations

import pickle
import threading
from array import array
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, BinaryIO, Protocol, TypeVar

from cloudknot.aws.sdk import forks
from cloudknot.run.collect.element_table import Part
from cloudknot.worker.wire import by_value
from cloudknot.worker.wire.buffers import ReceivedPickle
from cloudknot.worker.wire.by_value import is_other
from cloudknot.worker.wire.failure import DAMAGED, Failure
from cloudknot.worker.wire.keys import Location
from cloudknot.worker.wire.pack import Pack, head_size, needed_for_head
from cloudknot.worker.wire.pack_order import read_head
from cloudknot.worker.wire.seal import WRONG_CHECKSUM, DamagedError, UnusableError, stream_head_size

T = TypeVar("T")

ROOM = 64 * 1024 * 1024
"""Bytes of packs that the cache of one map holds, and bytes of packs that are read ahead for the list of results."""
WHOLE = 16 * 1024 * 1024
"""Bytes of the largest pack that is read whole."""
# A larger pack holds a large value. It is unpickled during the download, straight into the new object, so that
# memory never holds a copy besides.
WHOLE_ALONE = 1024 * 1024
"""The same for a pack that can have a single element only."""
STREAMS = 4
"""Larger packs that are read at the same time."""


def is_whole(location: Location, size: int) -> bool:
    """Return whether a pack of about ``size`` bytes is read whole, and cached."""
    return size <= (WHOLE_ALONE if location.number == 1 else WHOLE)


class Store(Protocol):
    """Storage with packs: `cloudknot.run.collect.run_view.RunView`, or the fake of a test."""

    def read(self, location: Location, start: int = 0, end: int | None = None) -> bytes:
        """Return the bytes of a pack from ``start`` up to, but without, ``end``."""

    def open(self, location: Location, start: int, end: int | None) -> BinaryIO:
        """Return the bytes that `read` returns, as a file that downloads them while it is read."""

    def unpack(self, location: Location, data: bytes) -> Pack:
        """Return a pack from its bytes. Raises `UnusableError` if it is not the pack that was stored there."""


@dataclass(frozen=True)
class Loaded:
    """A pack in memory: its kinds and payloads, without the measurements in its envelopes.

    The payload at position ``i`` is ``data[ends[i]:ends[i + 1]]``. All checksums were compared: damaged payloads have
    the kind `DAMAGED`. ``python`` is the Python that stored the pack; empty if unknown.
    """

    kinds: bytes
    ends: array[int]
    data: bytes
    python: str = ""

    @classmethod
    def of(cls, pack: Pack, data: bytes) -> Loaded:
        """Return the loaded form of a pack and its bytes."""
        kinds, begin = pack.verified_kinds(), pack.begin
        # A pack of small results is mostly head, so the head is cut off. For large values, copying the rest is dearer.
        cut = begin if 4 * begin > len(data) else 0
        ends = array("I", [begin - cut])
        ends += array("I", pack.ends() if cut else map(begin.__add__, pack.ends()))
        if pack.is_stream:
            ends[-2] += stream_head_size(ends[-1] - ends[-2])
        return cls(kinds, ends, data[cut:], pack.python)

    @property
    def size(self) -> int:
        """Bytes of memory that the pack occupies."""
        return len(self.kinds) + len(self.ends) * self.ends.itemsize + len(self.data)

    @cached_property
    def loads(self) -> Callable[[memoryview], Any]:
        """The function that unpickles its values."""
        if is_other(self.python):
            return partial(by_value.loads, python=self.python)
        # The standard library's function is faster, and is enough for most packs.
        from cloudknot.program import pickling

        return pickling.loads if pickling.needs_loads(self.data) else pickle.loads

    def payload(self, position: int) -> memoryview:
        """Return the payload at a position. Raises `DamagedError` if it is damaged."""
        if self.kinds[position] == DAMAGED:
            raise DamagedError(WRONG_CHECKSUM)
        return memoryview(self.data)[self.ends[position] : self.ends[position + 1]]

    def value(self, position: int) -> Any:
        """Return the value at a position. Raises the exception that unpickling it raises."""
        return self.loads(self.payload(position))


class Packs:
    """The cache of packs for one map.

    Parameters
    ----------
    store : Store
    room : int
        Bytes of packs to hold.
    """

    def __init__(self, store: Store, room: int = ROOM) -> None:
        self._store, self._room = store, room
        self._cache: OrderedDict[Location, Loaded] = OrderedDict()
        self._used = 0
        self._lock = forks.renewed(threading.Lock())
        forks.renew(self)

    def after_fork(self) -> None:
        """Forget all packs: another thread of the parent may have been changing the cache."""
        self._cache, self._used = OrderedDict(), 0

    def kinds(self, location: Location, size: int) -> bytes | None:
        """Return the kinds of a new pack's outcomes. Caches the pack if there is room, else reads only its head.

        Damaged outcomes have the kind `DAMAGED`. None if the whole pack is unusable, so that not even its elements are
        known.
        """
        try:
            return self._kinds(location, size)
        except UnusableError:
            return None

    def _kinds(self, location: Location, size: int) -> bytes:
        with self._lock:
            if location in self._cache:
                return self._cache[location].kinds
        if not (is_whole(location, size) and self._reserve(size)):
            return self._head(location).kinds
        try:
            loaded = self._load(location)
        except BaseException:
            self._reserve(-size)
            raise
        with self._lock:
            # Another thread may have cached it in the meantime, and has counted its size.
            self._used += (0 if location in self._cache else loaded.size) - size
            self._cache[location] = loaded
        return loaded.kinds

    def _reserve(self, size: int) -> bool:
        """Count a pack before its download, so that parallel downloads stay within the bound together."""
        with self._lock:
            if self._used + size > self._room:
                return False
            self._used += size
            return True

    def _load(self, location: Location) -> Loaded:
        data = self._store.read(location)
        return Loaded.of(self._store.unpack(location, data), data)

    def _head(self, location: Location) -> Pack:
        return self._store.unpack(location, read_head(partial(self._store.read, location), location))

    def payload(
        self, location: Location, size: int, position: int
    ) -> tuple[memoryview | ReceivedPickle | BinaryIO, str]:
        """Return a payload of a pack of about ``size`` bytes, and the Python that stored it.

        For a large pack, the payload was received into memory of its own, or is the file to read it from.

        Raises
        ------
        UnusableError
            The payload or the pack is damaged, or a newer cloudknot stored it. Reading the file may raise it too.
        """
        if is_whole(location, size):
            loaded = self.loaded(location)
            return loaded.payload(position), loaded.python
        single = self._open_single(location) if position == 0 else None
        if single is not None:
            return single
        pack = self._head(location)
        start, end = pack.span(position)
        if pack.is_stream or not pack.is_sealed:
            return pack.stream(self._store.open(location, start, end)), pack.python
        return pack.payload(position, self._store.read(location, start, end)), pack.python

    def failure(self, location: Location, size: int, position: int) -> Failure:
        """Return the failure at a position of a pack of about ``size`` bytes. Raises `UnusableError` as `payload`."""
        payload, _ = self.payload(location, size, position)
        if isinstance(payload, ReceivedPickle):
            return Failure.from_bytes(payload.pickled)
        return Failure.from_bytes(bytes(payload) if isinstance(payload, memoryview) else payload.read())

    def _open_single(self, location: Location) -> tuple[ReceivedPickle | BinaryIO, str] | None:
        """Return the payload of a large pack with one element; None if it has more.

        One request reads its head and its payload. A large value usually has a pack of its own.
        """
        file = self._store.open(location, 0, None)
        head = file.read(head_size(1))
        if needed_for_head(head, location) > head_size(1):
            file.close()
            return None
        pack = self._store.unpack(location, head)
        if not pack.is_sealed:
            # The head was shorter, so the file is read again from the start of the payload.
            return self._store.open(location, pack.span(0)[0], None), pack.python
        if not pack.is_stream:
            return pack.receive(file), pack.python
        return pack.stream(file), pack.python

    def loaded(self, location: Location) -> Loaded:
        """Return a pack that is read whole, and cache it. Drops the least recently used packs for its room."""
        with self._lock:
            cached = self._cache.get(location)
            if cached is not None:
                self._cache.move_to_end(location)
                return cached
        loaded = self._load(location)
        with self._lock:
            if location not in self._cache:
                self._cache[location] = loaded
                self._used += loaded.size
            # The pack just read stays, even if it exceeds the bound alone.
            while self._used > self._room and len(self._cache) > 1:
                self._used -= self._cache.popitem(last=False)[1].size
        return loaded


def in_order(pool: ThreadPoolExecutor, call: Callable[[Part], T], parts: Iterable[Part]) -> Iterator[T]:
    """Yield the result of ``call`` for each part, in order. Runs ahead of the caller as far as `ROOM` allows."""
    ahead: deque[tuple[Future[T], int]] = deque()
    used = 0
    for part in parts:
        # For a large pack, memory holds only a buffer besides its value.
        room = min(part.size, ROOM // STREAMS)
        while ahead and (used + room > ROOM or len(ahead) >= pool._max_workers):
            future, freed = ahead.popleft()
            used -= freed
            yield future.result()
        ahead.append((submit(pool, call, part), room))
        used += room
    while ahead:
        yield ahead.popleft()[0].result()


def submit(pool: ThreadPoolExecutor, call: Callable[..., T], *arguments: object) -> Future[T]:
    """Submit a call to the pool; make the call at once if the pool takes no more work."""
    try:
        return pool.submit(call, *arguments)
    except RuntimeError:
        # The interpreter is ending, and the collector must still finish for callbacks that have not run.
        done: Future[T] = Future()
        try:
            done.set_result(call(*arguments))
        except Exception as error:
            done.set_exception(error)
        return done
