"""The bound of the pack cache, with a storage that makes threads read at the same time."""

import threading
from concurrent.futures import ThreadPoolExecutor

from cloudknot.run.collect.pack_cache import Packs
from cloudknot.worker.wire.failure import VALUE
from cloudknot.worker.wire.keys import Location
from cloudknot.worker.wire.pack import Envelope, Origin, Pack, pack

ENVELOPES = [Envelope(VALUE, b"x" * 1000, 0, 0, 0)]
SIZE = len(pack(ENVELOPES, Origin("run", Location(0, 1))))


class Store:
    """A storage of similar packs. The first ``together`` reads wait for each other."""

    def __init__(self, together):
        self.reads, self._barrier, self._together = 0, threading.Barrier(together), together

    def read(self, location, start=0, end=None):
        self.reads += 1
        if self.reads <= self._together:
            self._barrier.wait(60)
        return pack(ENVELOPES, Origin("run", location))[start:end]

    def unpack(self, location, data):
        return Pack(data, Origin("run", location))


def test_cache_counts_pack_once_that_two_threads_read():
    store = Store(2)
    packs = Packs(store, room=2 * SIZE + 100)
    first, second = Location(0, 1), Location(1, 1)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(packs.kinds, [first] * 2, [SIZE] * 2)) == [bytes([VALUE])] * 2
    packs.kinds(second, SIZE)
    assert store.reads == 3
    assert [bytes(packs.payload(location, SIZE, 0)[0]) for location in (first, second)] == [b"x" * 1000] * 2
    assert store.reads == 3
