"""Packs of results, read from where they are stored, and kept within a bound.

What is small is kept as it came, so that it is read once. What is not kept is read again when somebody asks for it: a
map's results are then never in memory together, unless somebody wants the list of them.
"""

from __future__ import annotations

import pickle
import threading
from array import array
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, BinaryIO, Protocol, TypeVar

from cloudknot.run.collect.element_table import Part
from cloudknot.worker.wire.keys import Location
from cloudknot.worker.wire.pack import Pack, head_size

T = TypeVar("T")

ROOM = 64 * 1024 * 1024
"""Bytes of packs that one map keeps, and that it reads at the same time."""
WHOLE = 16 * 1024 * 1024
"""Bytes; a larger pack holds a large value, which is unpickled as it comes."""
STREAMS = 4
"""Large packs that are read at the same time."""


class Store(Protocol):
    """A place of packs: `cloudknot.run.collect.run_view.RunView`, or the fake of a test."""

    def read(self, location: Location, start: int = 0, end: int | None = None) -> bytes:
        """Bytes of a pack, from ``start`` to ``end`` (not included)."""

    def open(self, location: Location, start: int, end: int | None) -> BinaryIO:
        """The same, as a file that is read as it comes."""


@dataclass(frozen=True)
class Loaded:
    """A pack in memory, without what its envelopes tell besides: of small results, that is most of it.

    ``ends`` are where the payloads end in ``data``, of which the first one begins at ``ends[0]``.
    """

    kinds: bytes
    ends: array[int]
    data: bytes

    @classmethod
    def of(cls, data: bytes) -> Loaded:
        pack = Pack(data)
        begin = head_size(len(pack))
        # Cutting the head off is a copy of all the rest, and of large values not worth it.
        cut = begin if 4 * begin > len(data) else 0
        ends = array("I", [begin - cut])
        ends += array("I", pack.ends() if cut else map(begin.__add__, pack.ends()))
        return cls(pack.kinds, ends, data[cut:])

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return len(self.kinds) + len(self.ends) * self.ends.itemsize + len(self.data)

    @cached_property
    def loads(self) -> Callable[[memoryview], Any]:
        """What unpickles its values: the standard library's, wherever that will do."""
        from cloudknot.program import pickling

        return pickling.loads if pickling.needs_loads(self.data) else pickle.loads

    def payload(self, position: int) -> memoryview:
        """One payload."""
        return memoryview(self.data)[self.ends[position] : self.ends[position + 1]]

    def value(self, position: int) -> Any:
        """One value. Raises what unpickling it raises."""
        return self.loads(self.payload(position))


class Packs:
    """The packs of one map.

    Parameters
    ----------
    store : Store
    room : int
        Bytes to keep.
    """

    def __init__(self, store: Store, room: int = ROOM) -> None:
        self._store, self._room = store, room
        self._kept: OrderedDict[Location, Loaded] = OrderedDict()
        self._used = 0
        self._lock = threading.Lock()

    def kinds(self, location: Location, size: int) -> bytes:
        """The kinds of a new pack's envelopes. The pack is kept if there is room, else only its head is read."""
        with self._lock:
            if location in self._kept:
                return self._kept[location].kinds
        if not self._reserve(size):
            return Pack(self._store.read(location, 0, head_size(location.number))).kinds
        try:
            loaded = Loaded.of(self._store.read(location))
        except BaseException:
            self._reserve(-size)
            raise
        with self._lock:
            # Somebody else may have kept it meanwhile.
            self._used += (0 if location in self._kept else loaded.size) - size
            self._kept[location] = loaded
        return loaded.kinds

    def _reserve(self, size: int) -> bool:
        with self._lock:
            if size > WHOLE or self._used + size > self._room:
                return False
            self._used += size
            return True

    def payload(self, location: Location, size: int, position: int) -> memoryview | BinaryIO:
        """One payload of a pack of about ``size`` bytes, or, where that is large, the file to read it from."""
        if size <= WHOLE:
            return self.loaded(location).payload(position)
        if location.number == 1:
            return self._store.open(location, head_size(1), None)
        head = Pack(self._store.read(location, 0, head_size(location.number)))
        return self._store.open(location, *head.span(position))

    def loaded(self, location: Location) -> Loaded:
        """A pack that is not large; in place of those kept that were used least lately."""
        with self._lock:
            kept = self._kept.get(location)
            if kept is not None:
                self._kept.move_to_end(location)
                return kept
        loaded = Loaded.of(self._store.read(location))
        with self._lock:
            if location not in self._kept:
                self._kept[location] = loaded
                self._used += loaded.size
            while self._used > self._room and len(self._kept) > 1:
                self._used -= self._kept.popitem(last=False)[1].size
        return loaded


def in_order(pool: ThreadPoolExecutor, call: Callable[[Part], T], parts: Iterable[Part]) -> Iterator[T]:
    """What ``call`` gives for each part, in order, some ahead of the one that is taken: as many as have room."""
    ahead: deque[tuple[Future[T], int]] = deque()
    used = 0
    for part in parts:
        # Of a large one, only a buffer is in memory besides its value.
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
    """Submit to the pool; call at once when the interpreter is ending and pools take no more work."""
    try:
        return pool.submit(call, *arguments)
    except RuntimeError:
        done: Future[T] = Future()
        try:
            done.set_result(call(*arguments))
        except Exception as error:
            done.set_exception(error)
        return done
