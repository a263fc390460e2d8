"""Client and worker read everything that the other writes: packs, failures, manifests and keys."""

import io
import json
import pickle
from pickle import PickleBuffer
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudknot.run.collect.pack_cache import Loaded
from cloudknot.worker.wire import buffers, seal
from cloudknot.worker.wire.container import child_index
from cloudknot.worker.wire.failure import ABSENT, DAMAGED, RAISED, Failure
from cloudknot.worker.wire.keys import Location, RunKeys
from cloudknot.worker.wire.manifest import Manifest
from cloudknot.worker.wire.pack import NO_OUTCOME, Envelope, Origin, Pack, head_of, pack
from cloudknot.worker.wire.seal import LARGE, DamagedError

envelopes = st.builds(
    Envelope,
    kind=st.integers(0, 4),
    payload=st.binary(max_size=200),
    wall=st.floats(0, 1e6),
    cpu=st.floats(0, 1e6),
    peak=st.integers(0, 2**60),
)


def manifest(count=10, chunksize=3):
    fields = {"knot": "pi", "run_id": "r1", "function": "f", "image": "image", "created": "2026-01-01T00:00:00Z"}
    return Manifest(count, chunksize, **fields)


def unpacked(items):
    origin = Origin("r1", Location(3, len(items), 2), 1)
    return Pack(pack(items, origin), origin)


@given(st.lists(envelopes, min_size=1, max_size=20))
def test_pack_returns_packed_envelopes(items):
    assert list(unpacked(items)) == items


def test_pack_supports_index_and_slice():
    items = [Envelope(0, bytes([n]) * n, n, n, n) for n in range(5)]
    stored = unpacked(items)
    assert stored[3] == items[3]
    assert stored[1:3] == items[1:3]
    with pytest.raises(IndexError):
        stored[5]


def test_pack_has_at_most_as_many_entries_as_its_gap():
    items, origin = [Envelope(0, b"x", 1, 1, 1)] * 4, Origin("r1", Location(3, 4))
    for number in range(5):
        assert list(Pack(pack(items[:number], origin), origin)) == items[:number]
    with pytest.raises(DamagedError, match="other elements"):
        Pack(pack([*items, *items], origin), origin)


def test_large_payload_follows_entries_without_outcome():
    value, origin = b"x" * (LARGE + 1000), Origin("r1", Location(3, 10))
    envelopes = [NO_OUTCOME, NO_OUTCOME, Envelope(0, b"", 1, 1, 1, (value[:100], value[100:]))]
    data = head_of(envelopes, origin) + value
    stored = Pack(data, origin)
    assert (stored.is_stream, stored.verified_kinds()) == (True, bytes([ABSENT, ABSENT, 0]))
    assert stored.payload(2, data[slice(*stored.span(2))]) == value
    assert stored.stream(io.BytesIO(data[stored.begin :])).read() == value
    assert Loaded.of(stored, data).payload(2) == value
    damaged = bytearray(data)
    damaged[-1] ^= 1
    assert Pack(bytes(damaged), origin).verified_kinds() == bytes([ABSENT, ABSENT, DAMAGED])


def test_pack_refuses_other_data():
    with pytest.raises(DamagedError, match="not a pack"):
        Pack(b"<html>no</html>", Origin("r1", Location(0, 1)))


@given(st.binary(max_size=50), st.text(max_size=50))
def test_failure_survives_serialisation(pickled, message):
    failure = Failure(RAISED, "ValueError", message, "Traceback ...", 3, pickled)
    assert Failure.from_bytes(failure.to_bytes()) == failure


def test_manifest_survives_serialisation_and_ignores_unknown_fields():
    stored = manifest().to_document("key", from_the_future=1)
    assert Manifest.from_document(stored, "key") == manifest()
    short = manifest().for_worker()
    assert Manifest.from_json(json.dumps({**json.loads(short), "from_the_future": 1})) == Manifest.from_json(short)


@given(st.integers(1, 500), st.integers(1, 60))
def test_chunks_cover_every_element_once(count, chunksize):
    whole = manifest(count, chunksize)
    elements = [index for child in range(whole.children) for index in whole.chunk(child)]
    assert elements == list(range(count))
    assert all(index in whole.chunk(whole.child_of(index)) for index in elements)


def test_manifest_refuses_child_beyond_last():
    with pytest.raises(ValueError, match="0 to 3"):
        manifest().chunk(4)


def test_run_keys_parse_their_own_url_and_output_keys():
    keys = RunKeys.of("bucket", "pi-calc", "20260101T000000-abc")
    assert RunKeys.parse(keys.url) == keys
    assert (keys.knot, keys.run_id) == ("pi-calc", "20260101T000000-abc")
    assert keys.parse_output(keys.output(12, 5)) == (12, 5, 0)
    assert keys.parse_output(keys.output(12, 5, 3)) == (12, 5, 3)


@pytest.mark.parametrize(
    "name",
    ["garbage", "", "-", "12-5", "000000012-0", "000000012-5.0", "000000012-5.1.1", "٠٠٠٠٠٠٠١٢-5", "0" * 40 + "-1"],
)
def test_run_keys_take_foreign_outputs_for_no_packs(name):
    keys = RunKeys.of("bucket", "pi-calc", "20260101T000000-abc")
    assert keys.parse_output(keys.outputs + name) is None


@pytest.mark.parametrize("name", ["garbage", "1", "01.json", "0.json", "1.json.json", "-1.json", "+1.json"])
def test_run_keys_take_foreign_objects_for_no_rounds(name):
    keys = RunKeys.of("bucket", "pi-calc", "20260101T000000-abc")
    assert keys.round_of(keys.rounds + name) is None
    assert keys.round_of(keys.round(12)) == 12


@pytest.mark.parametrize("url", ["http://b/p", "s3://bucket", "s3:///p", ""])
def test_run_keys_refuse_other_urls(url):
    with pytest.raises(ValueError, match="s3://bucket/prefix"):
        RunKeys.parse(url)


def test_output_keys_sort_in_order_of_elements():
    keys = RunKeys.of("b", "k", "r")
    starts = [0, 9, 10, 99, 100, 999_999, 1_000_000]
    assert sorted(keys.output(first, 1) for first in starts) == [keys.output(first, 1) for first in starts]


@pytest.mark.parametrize(
    ("environment", "index"),
    [({}, 0), ({"AWS_BATCH_JOB_ARRAY_INDEX": "7"}, 7), ({"CLOUDKNOT_CHILD": "3"}, 3)],
)
def test_child_index_comes_from_batch_or_cloudknot_variable(environment, index):
    assert child_index(environment) == index


def pickled(value):
    """Return the joined pieces of a value."""
    file = buffers.PieceFile()
    pickle.Pickler(file, protocol=5, buffer_callback=file.take).dump(value)
    return b"".join(file.pieces())


def received(data, size, seed=0):
    with io.BufferedReader(io.BytesIO(data)) as file:
        return seal.received(file, size, seed)


VALUES = [{"a": 1}, bytes(300_000), [PickleBuffer(bytearray(100_000)), PickleBuffer(bytearray(b"x" * 70_000)), "x"]]


@pytest.mark.parametrize("value", VALUES, ids=["small", "bytes", "buffers"])
def test_received_pickle_is_the_one_that_was_written(value):
    data = pickled(value)
    found, proof = received(data, len(data), seed=7)
    assert buffers.loads(found) == buffers.loads(data)
    assert proof == crc32(data, 7)


def test_received_buffers_become_the_memory_of_the_objects():
    data = pickled([PickleBuffer(bytearray(100_000))])
    found, _ = received(data, len(data))
    assert buffers.loads(found)[0] is found.buffers[0]


@given(place=st.integers(0, 300_200), change=st.integers(1, 255))
def test_damaged_pickle_is_refused_or_has_another_checksum(place, change):
    data = bytearray(pickled([PickleBuffer(bytearray(100_000)), PickleBuffer(bytearray(200_000))]))
    right = crc32(data)
    # The first bytes have the sizes of the pieces, so they are damaged more often than the others.
    data[place % (len(data) if place % 2 else 40)] ^= change
    try:
        _, proof = received(data, len(data))
    except DamagedError:
        return
    assert proof != right


@pytest.mark.parametrize("size", [0, 3, 5, 8, 20, 100, 70_000])
def test_pickle_that_ends_too_early_is_refused(size):
    data = pickled([PickleBuffer(bytearray(100_000))])
    with pytest.raises(DamagedError):
        received(data[:size], len(data))
