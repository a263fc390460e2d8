"""Stored data that were changed at random are refused: no wrong value, no hang, no other error than `UnusableError`.

Each case is a decoder with its data. A mutation flips, cuts, inserts, swaps or repeats bytes. The usual tests try some
hundred mutations of each, and `make test-more` 10,000; of large values 60 and 1,000, because each takes 50 ms.
"""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise

import pytest

from cloudknot.worker.s3 import limits
from cloudknot.worker.wire import by_value, seal
from cloudknot.worker.wire.buffers import PieceFile
from cloudknot.worker.wire.documents import from_document, to_document
from cloudknot.worker.wire.failure import DAMAGED, RAISED, VALUE, Failure
from cloudknot.worker.wire.input_index import pack_entry, unpack_entries
from cloudknot.worker.wire.keys import Location
from cloudknot.worker.wire.manifest import Manifest, record_from_document, submission_record
from cloudknot.worker.wire.pack import Envelope, Origin, Pack, head_of, head_size, pack
from cloudknot.worker.wire.seal import DamagedError, NewerFormatError, UnusableError

RUN = "20261124T065124884127-a905db"
ORIGIN = Origin(RUN, Location(8, 4, 1), 1)
USUAL, MORE = 300, 10_000
MANY = pytest.param(MORE, marks=pytest.mark.more)
MANIFEST = Manifest(count=20, chunksize=4, knot="pi", run_id=RUN, function="f", version=seal.FORMAT, python="3.11")
KEY = f"cloudknot.jobs/pi/{RUN}/manifest.json"
SEED = seal.seed_of("place")


@dataclass(frozen=True)
class Decoder:
    """A decoder, the data that it reads, and the items that it returns for them.

    ``decode`` returns a list of items. An item is the `UnusableError` of a damaged part in its place.
    """

    data: bytes
    decode: Callable[[bytes], list[object]]


def each(read: Callable[[int], object], count: int) -> list[object]:
    """Return the item of each position, or the error in its place."""
    items: list[object] = []
    for position in range(count):
        try:
            items.append(read(position))
        except UnusableError as error:
            items.append(error)
    return items


def envelopes() -> list[Envelope]:
    failure = Failure(RAISED, "ValueError", "no", "Traceback ...", pickled=pickle.dumps(ValueError("no")))
    payloads = [pickle.dumps(value) for value in (7, "text", list(range(50)))]
    values = [Envelope(VALUE, payload, 1.5, 0.5, 1024) for payload in payloads]
    return [*values, Envelope(RAISED, failure.to_bytes(), 1.5, 0.5, 1024)]


def whole_pack(data: bytes) -> list[object]:
    """Read a pack as the collector does: whole, with one look at the kinds."""
    stored = Pack(data, ORIGIN)
    kinds = stored.verified_kinds()

    def read(position: int) -> object:
        if kinds[position] == DAMAGED:
            raise DamagedError("its kind")
        return stored[position]

    return each(read, 4)


def ranges_of_pack(data: bytes) -> list[object]:
    """Read a pack as a dependent job does: the head, then each record by a range."""
    stored = Pack(data[: head_size(4)], ORIGIN)
    return each(lambda n: (stored.kinds[n], bytes(stored.payload(n, data[slice(*stored.span(n))]))), 4)


def large_pack() -> bytes:
    """Return a pack with one large value, of which a test cannot mutate each byte, but each block."""
    file = PieceFile()
    pickle.Pickler(file, protocol=5, buffer_callback=file.take).dump(bytearray(range(256)) * (seal.LARGE // 256 + 9))
    envelope = Envelope(VALUE, b"", 1.0, 1.0, 1, file.pieces())
    return b"".join([head_of([envelope], SINGLE), *envelope.pieces])


SINGLE = Origin(RUN, Location(3, 1))


def streamed(data: bytes) -> list[object]:
    """Read a large pack as it arrives."""
    file = io.BufferedReader(io.BytesIO(data))  # type: ignore[type-var]
    stored = Pack(file.read(head_size(1)), SINGLE)
    return [hash(bytes(by_value.load(stored.stream(file), stored.python)))]


def index(data: bytes) -> list[object]:
    found = unpack_entries(data, 5, SEED)
    return [DamagedError("entry") if number is None else number for number in found + [None] * (12 - len(found))][:12]


def inputs(data: bytes) -> list[object]:
    """Read records of equal size, as padded inputs are."""
    records = [data[start:end] for start, end in pairwise(range(0, 6 * SLOT + 1, SLOT))]
    return each(lambda n: pickle.loads(seal.unsealed(records[n], seal.numbered(SEED, n))), 6)


SLOT = 24


def padded() -> bytes:
    slots = [pickle.dumps(n).ljust(SLOT - seal.CHECKSUM, b"\0") for n in range(6)]
    return b"".join(piece for n, slot in enumerate(slots) for piece in seal.sealed([slot], seal.numbered(SEED, n)))


def record(data: bytes) -> list[object]:
    return [record_from_document(data, KEY)]


DECODERS = {
    "pack read whole": Decoder(pack(envelopes(), ORIGIN), whole_pack),
    "pack read by ranges": Decoder(pack(envelopes(), ORIGIN), ranges_of_pack),
    "pack of one": Decoder(pack(envelopes()[:1], SINGLE), lambda data: list(Pack(data, SINGLE))),
    "inputs": Decoder(padded(), inputs),
    "index of inputs": Decoder(b"".join(pack_entry(n * 100, n, SEED) for n in range(5, 17)), index),
    "manifest": Decoder(MANIFEST.to_document(KEY), lambda data: [Manifest.from_document(data, KEY)]),
    "choices": Decoder(MANIFEST.to_document(KEY, tags={"a": "b"}), lambda data: [from_document(data, KEY)]),
    "record": Decoder(to_document(submission_record("pi-1", MANIFEST, ["id-1"]), KEY), record),
    "small record": Decoder(
        b"".join(seal.sealed([pickle.dumps({"a": 1.5})], SEED)),
        lambda data: [pickle.loads(seal.unsealed(data, SEED))],
    ),
}


def mutations(data: bytes, number: int, seed: int) -> Iterator[bytes]:
    """Yield ``number`` changed copies of the data. Every kind of change takes its turn."""
    chance = random.Random(seed)
    made = 0
    while made < number:
        copy, kind = bytearray(data), made % 6
        start = chance.randrange(len(data))
        stop = min(len(data), start + chance.choice((1, 2, 4, 8, 40, 100)))
        if kind == 0:
            copy[start] ^= 1 << chance.randrange(8)
        elif kind == 1:
            copy[start:stop] = chance.randbytes(stop - start)
        elif kind == 2:
            del copy[start:stop]
        elif kind == 3:
            copy[start:start] = chance.randbytes(stop - start)
        elif kind == 4:
            other = chance.randrange(len(data))
            length = stop - start
            copy[start:stop], copy[other : other + length] = copy[other : other + length], copy[start:stop]
        else:
            del copy[start:]
        # A change may restore the data.
        if copy != data:
            made += 1
            yield bytes(copy)


@pytest.mark.parametrize("number", [USUAL, MANY])
@pytest.mark.parametrize("name", DECODERS)
def test_decoder_returns_stored_items_or_refuses(name: str, number: int) -> None:
    check(DECODERS[name], number)


@pytest.mark.parametrize("number", [60, pytest.param(1000, marks=pytest.mark.more)])
@pytest.mark.parametrize("decode", [streamed, lambda data: list(Pack(data, SINGLE))], ids=["streamed", "whole"])
def test_large_value_is_returned_or_refused(decode: Callable[[bytes], list[object]], number: int) -> None:
    check(Decoder(large_pack(), decode), number)


def check(decoder: Decoder, number: int) -> None:
    """Decode mutations, and fail for a wrong item or another error than `UnusableError`."""
    expected = decoder.decode(decoder.data)
    assert not any(isinstance(item, UnusableError) for item in expected)
    refused = 0
    for data in mutations(decoder.data, number, seed=number):
        try:
            items = decoder.decode(data)
        except UnusableError:
            refused += 1
            continue
        wrong = [item for item, right in zip(items, expected, strict=True) if not is_same(item, right)]
        assert not wrong, (data, wrong)
        refused += any(isinstance(item, UnusableError) for item in items)
    # Bytes after the end of the data, and padding of the format, do not count. Nearly all others do.
    assert refused > 0.9 * number


def is_same(item: object, right: object) -> bool:
    return isinstance(item, UnusableError) or item == right


def old_pack() -> bytes:
    """Return a pack in format 1, which has no checksums."""
    items = envelopes()
    ends = accumulate(len(item.payload) for item in items)
    entries = [
        struct.pack("<BxxxxxxxddQQ", e.kind, e.wall, e.cpu, e.peak, end) for e, end in zip(items, ends, strict=True)
    ]
    return b"".join([struct.pack("<4sI", b"ckp1", len(items)), *entries, *(e.payload for e in items)])


def test_pack_of_format_1_stays_readable_in_run_of_format_1() -> None:
    stored = Pack(old_pack(), ORIGIN, version=1)
    assert list(stored) == envelopes()
    assert stored.verified_kinds() == bytes(e.kind for e in envelopes())
    assert (stored.python, stored.attempt) == ("", 0)
    # A longer head was asked for than the pack has.
    assert Pack(old_pack()[: head_size(4)], ORIGIN, version=1).kinds == stored.kinds


def test_pack_of_format_1_is_refused_in_newer_run() -> None:
    with pytest.raises(DamagedError, match="earlier version"):
        Pack(old_pack(), ORIGIN)


@pytest.mark.parametrize("number", [USUAL, MANY])
def test_damaged_pack_of_format_1_raises_no_other_error(number: int) -> None:
    """Without checksums its values may be wrong. But no read fails in another way, or takes long."""
    for data in mutations(old_pack(), number, seed=number):
        try:
            stored = Pack(data, ORIGIN, version=1)
        except UnusableError:
            continue
        assert len(each(stored.__getitem__, 4)) == 4


@pytest.mark.parametrize("number", [USUAL, MANY])
def test_damaged_failure_raises_no_other_error(number: int) -> None:
    for data in mutations(envelopes()[-1].payload, number, seed=number):
        try:
            assert isinstance(Failure.from_bytes(data), Failure)
        except DamagedError:
            continue


@pytest.mark.parametrize(
    ("origin", "reason"),
    [
        (Origin("20261124T065124884127-ffffff", ORIGIN.location), "belongs to the run 20261124T065124884127-a905db"),
        (Origin(RUN, Location(9, 4, 1)), "other elements"),
        (Origin(RUN, Location(8, 3, 1)), "other elements"),
        (Origin(RUN, Location(8, 5, 1)), "other elements"),
        (Origin(RUN, Location(8, 4, 0)), "other elements"),
    ],
)
def test_pack_at_another_place_is_refused(origin: Origin, reason: str) -> None:
    with pytest.raises(DamagedError, match=reason):
        Pack(pack(envelopes(), ORIGIN), origin)


def test_pack_names_attempt_and_python_that_stored_it() -> None:
    stored = Pack(pack(envelopes(), ORIGIN), ORIGIN)
    assert (stored.attempt, stored.python) == (1, by_value.PYTHON)


def test_newer_formats_are_refused_with_their_number() -> None:
    data = bytearray(pack(envelopes(), ORIGIN))
    data[6] = 9
    for read in (
        lambda: Pack(bytes(data), ORIGIN),
        lambda: Manifest.from_document(b'{"format": 9}', KEY),
        lambda: record_from_document(b'{"version": 9}', KEY),
        lambda: Manifest(1, 1, version=9).check_version(),
    ):
        with pytest.raises(NewerFormatError, match=f"format 9 of a newer cloudknot.*up to {seal.FORMAT}"):
            read()


def test_documents_of_format_1_stay_readable() -> None:
    old = {"attempts": 1, "chunksize": 2, "count": 3, "from_the_future": 1, "version": 1}
    assert Manifest.from_document(json.dumps(old).encode(), KEY) == Manifest(3, 2)
    record = {"job_definition": "d", "job_ids": ["x"], "job_queue": "q", "name": "n"}
    assert record_from_document(json.dumps(record).encode(), KEY)["jobs"] == 1


def test_document_of_another_run_is_refused() -> None:
    with pytest.raises(DamagedError, match="checksum"):
        Manifest.from_document(MANIFEST.to_document(KEY), KEY.replace("a905db", "ffffff"))


def test_record_of_another_element_is_refused() -> None:
    data = padded()
    swapped = data[SLOT : 2 * SLOT] + data[:SLOT] + data[2 * SLOT :]
    assert [isinstance(item, DamagedError) for item in inputs(swapped)] == [True, True] + [False] * 4


def test_large_record_is_as_long_as_announced() -> None:
    for size in (0, 1, seal.LARGE - seal.CHECKSUM, seal.LARGE - 3, seal.LARGE + seal.BLOCK, 3 * seal.LARGE + 5):
        record = b"".join(seal.sealed([bytes(size)], SEED))
        assert len(record) == seal.sealed_size(size)
        assert len(seal.unsealed(record, SEED)) == size
        if len(record) > seal.LARGE:
            file = io.BufferedReader(io.BytesIO(record))  # type: ignore[type-var]
            assert seal.verified(file, len(record), SEED).read() == bytes(size)


def test_window_of_worker_fits_records_with_one_checksum() -> None:
    """The worker reads smaller records whole, and larger ones as streams."""
    assert limits.WINDOW == seal.LARGE
