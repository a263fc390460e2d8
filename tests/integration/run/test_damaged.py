"""A damaged object in S3 costs the elements it concerns, each with a clear error in bounded time, and nothing else."""

import json
import logging
import pickle
import socket
import struct
from itertools import accumulate

import pytest

import cloudknot as ck
from cloudknot.worker.wire.failure import VALUE
from cloudknot.worker.wire.keys import Location
from cloudknot.worker.wire.pack import Envelope, Origin, Pack, pack
from tests.helpers.functions import square
from tests.helpers.waiting import LONG, until

COUNT = 6


@pytest.fixture(scope="module")
def knot(cloud):
    return ck.Knot(name="damaged", func=square, cloud=cloud)


def done(knot, chunksize=1, count=COUNT, **choices):
    """Return an ended map with one pack for each chunk. A slow machine may store a chunk in several ones."""

    def mapped():
        future = knot.map(range(count), chunksize=chunksize, **choices)
        future.result(LONG)
        packs = sum(len(page) for page in future.job._view.list_packs(0))
        return future if packs == -(-count // chunksize) else None

    return until(mapped)


def again(cloud, future):
    """Return the future of the same map in a later session."""
    return ck.BatchJob(future.job.job_id, cloud=cloud).future()


def flip(data, position):
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


DAMAGE = {
    "flip in payload": lambda data, other: flip(data, -2 % len(data)),
    "flip in time": lambda data, other: flip(data, 100),
    "flip in kind": lambda data, other: flip(data, 80),
    "flip in run": lambda data, other: flip(data, 30),
    "flip in magic": lambda data, other: flip(data, 0),
    "cut": lambda data, other: data[:-1],
    "head only": lambda data, other: data[:40],
    "empty": lambda data, other: b"",
    "page": lambda data, other: b"<html>no</html>" * 20,
    "pack of another run": lambda data, other: other,
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_pack_is_clear_error_of_its_element_and_can_be_retried(cloud, knot, kind, ended):
    keys = ended.job.keys
    intact = cloud.storage.get(keys.output(2, 1))
    other = cloud.storage.get(done_once(knot).job.keys.output(2, 1))
    cloud.storage.put(keys.output(2, 1), DAMAGE[kind](intact, other))
    try:
        future = again(cloud, ended)
        with pytest.raises(ck.errors.ElementError, match=r"Element 2 .*is damaged.*retry_failed"):
            future[2].result(LONG)
        assert [future[n].result(LONG) for n in (0, 1, 3, 4, 5)] == [0, 1, 9, 16, 25]
        with pytest.raises(ck.errors.ElementError, match=r"Element 2 .*is damaged"):
            future.result(LONG)
    finally:
        cloud.storage.put(keys.output(2, 1), intact)


@pytest.fixture(scope="module")
def ended(knot):
    return done(knot)


_others = []


def done_once(knot):
    """Return one more map, the same one for all cases."""
    if not _others:
        _others.append(done(knot))
    return _others[0]


def test_swapped_packs_are_errors_of_both_elements(cloud, knot):
    ended = done(knot)
    keys, storage = ended.job.keys, cloud.storage
    first, second = (storage.get(keys.output(n, 1)) for n in (1, 4))
    storage.put(keys.output(1, 1), second)
    storage.put(keys.output(4, 1), first)
    future = again(cloud, ended)
    for index in (1, 4):
        with pytest.raises(ck.errors.ElementError, match=rf"Element {index} .*belongs to other elements"):
            future[index].result(LONG)
    assert [future[n].result(LONG) for n in (0, 2, 3, 5)] == [0, 4, 9, 25]


@pytest.mark.parametrize(("stored", "named"), [(3, 1), (1, 3), (2, 3)])
def test_pack_with_another_number_of_results_than_its_key_ends_in_time(cloud, knot, stored, named):
    """A pack with more results than its key names made the collector loop for ever, whatever the timeout."""
    ended = done(knot, chunksize=named)
    keys = ended.job.keys
    envelopes = [Envelope(VALUE, pickle.dumps(7), 0, 0, 0)] * stored
    cloud.storage.put(keys.output(0, named), pack(envelopes, Origin(keys.run_id, Location(0, stored))))
    future = again(cloud, ended)
    for index in range(named):
        with pytest.raises(ck.errors.ElementError, match=rf"Element {index} .*belongs to other elements"):
            future[index].result(LONG)
    assert [future[n].result(LONG) for n in range(named, COUNT)] == [n * n for n in range(named, COUNT)]
    assert future.done()


def test_damaged_result_in_chunk_leaves_its_neighbours_and_is_run_again(cloud, knot):
    ended = done(knot, chunksize=3)
    key = ended.job.keys.output(3, 3)
    data = cloud.storage.get(key)
    pack = Pack(data, Origin(ended.job.keys.run_id, Location(3, 3)))
    cloud.storage.put(key, flip(data, pack.span(1)[0] + 2))
    future = again(cloud, ended)
    with pytest.raises(ck.errors.ElementError, match=r"Element 4 .*checksum"):
        future[4].result(LONG)
    assert [future[n].result(LONG) for n in (0, 1, 2, 3, 5)] == [0, 1, 4, 9, 25]
    retried = future.retry_failed()
    assert retried.result(LONG) == [n * n for n in range(COUNT)]
    assert knot.map(retried).result(LONG) == [n**4 for n in range(COUNT)]
    assert again(cloud, ended).result(LONG) == [n * n for n in range(COUNT)]


def test_foreign_objects_among_results_change_nothing(cloud, knot):
    ended = done(knot)
    outputs = ended.job.keys.outputs
    for name in (
        "garbage",
        "000000002-99999999999",
        "000000000-3",
        "000000099-1",
        "000000001-1.x",
        "000000003-1/deep",
    ):
        cloud.storage.put(outputs + name, b"garbage")
    cloud.storage.put(f"{ended.job.keys.rounds}x.json", b"garbage")
    assert again(cloud, ended).result(LONG) == [n * n for n in range(COUNT)]
    assert knot.map(again(cloud, ended)).result(LONG) == [n**4 for n in range(COUNT)]


def test_damaged_runs_are_missing_in_list_of_jobs_and_others_stay(cloud, caplog):
    knot = ck.Knot(name="damaged-list", func=square, cloud=cloud)
    jobs = [done(knot, count=1).job for _ in range(4)]
    storage = cloud.storage
    # A record alone can be restored from Batch, or from that of the first child.
    storage.put(jobs[0].keys.submission, b"[1, 2]")
    storage.put(jobs[1].keys.submission, flip(storage.get(jobs[1].keys.submission), 20))
    for key in (jobs[2].keys.submission, jobs[2].keys.manifest):
        storage.put(key, b"{")
    for key in ("garbage/manifest.json", "20260101/submission.json", "2026", "shared/x/used-by/y"):
        storage.put(f"cloudknot.jobs/damaged-list/{key}", b"garbage")
    with caplog.at_level(logging.WARNING, "cloudknot"):
        listed = ck.Knot(name="damaged-list", func=square, cloud=cloud).jobs
    assert [job.job_id for job in listed] == [jobs[n].job_id for n in (0, 1, 3)]
    assert [job.result(LONG) for job in listed] == [[0]] * 3
    assert f"The run {jobs[2].keys.run_id} of the knot 'damaged-list' is not listed" in caplog.text
    with pytest.raises(ck.errors.StoredDataError, match="is damaged"):
        ck.BatchJob(jobs[2].job_id, cloud=cloud).result(LONG)
    knot.clobber()


def test_dependent_map_has_error_of_damaged_element_only(cloud, knot):
    ended = done(knot, chunksize=3)
    key = ended.job.keys.output(3, 3)
    data = cloud.storage.get(key)
    cloud.storage.put(key, flip(data, len(data) - 3))
    dependent = knot.map(ended)
    with pytest.raises(ck.errors.ElementError, match=r"Element 5 .*did not run.*element 5 of the map.*is damaged"):
        dependent[5].result(LONG)
    assert [dependent[n].result(LONG) for n in range(5)] == [n**4 for n in range(5)]
    cloud.storage.put(key, b"")
    dependent = knot.map(ended)
    for index in (3, 4, 5):
        with pytest.raises(ck.errors.ElementError, match=rf"Element {index} .*did not run.*is damaged"):
            dependent[index].result(LONG)
    assert [dependent[n].result(LONG) for n in range(3)] == [n**4 for n in range(3)]
    with pytest.raises(ck.errors.ElementError, match="is damaged"):
        ended.reduce(sum).result(LONG)


@pytest.mark.parametrize("padded", [True, False])
def test_damaged_input_is_error_of_its_element(cloud, gate, padded):
    """The inputs change between their upload and the start of the job."""
    waiting = ck.Knot(name="damaged-gate", func=enter, cloud=cloud).map([gate.address])
    inputs = range(COUNT) if padded else [b"x" * n**7 for n in range(COUNT)]
    future = ck.Knot(name="damaged-input", func=len_or_square, cloud=cloud).map(
        inputs, chunksize=3, depends_on=waiting
    )
    keys, storage = future.job.keys, cloud.storage
    data = storage.get(keys.inputs)
    if padded:
        stride = len(data) // COUNT
        storage.put(keys.inputs, flip(data, 4 * stride + 2))
    else:
        offsets = [n & (1 << 44) - 1 for (n,) in struct.iter_unpack("<Q", storage.get(keys.index))]
        storage.put(keys.inputs, flip(data, offsets[4] + 2))
        storage.put(keys.index, flip(storage.get(keys.index), 0))
    gate.open()
    damaged = {4} if padded else {0, 4}
    for index in damaged:
        with pytest.raises(ck.errors.ElementError, match=rf"Element {index} .*did not run.*input is damaged"):
            future[index].result(LONG)
    expected = [n * n if padded else n**7 for n in range(COUNT)]
    assert {n: future[n].result(LONG) for n in range(COUNT) if n not in damaged} == {
        n: value for n, value in enumerate(expected) if n not in damaged
    }


def enter(address):
    with socket.create_connection(address, LONG) as connection:
        connection.recv(1)


def len_or_square(x):
    return x * x if isinstance(x, int) else len(x)


def test_damaged_large_value_is_refused_while_it_arrives(cloud):
    size = 20_000_000
    ended = ck.Knot(name="damaged-large", func=bytes, cloud=cloud).map([size])
    (value,) = ended.result(LONG)
    assert value == bytes(size)
    key = ended.job.keys.output(0, 1)
    data = cloud.storage.get(key)
    cloud.storage.put(key, flip(data, len(data) - 12_345))
    with pytest.raises(ck.errors.ElementError, match=r"Element 0 .*is damaged"):
        again(cloud, ended)[0].result(LONG)
    dependent = ck.Knot(name="damaged-large", cloud=cloud).map(ended)
    with pytest.raises(ck.errors.ElementError, match=r"Element 0 .*is damaged"):
        dependent[0].result(LONG)


def test_damaged_keyword_arguments_are_named(cloud, gate):
    waiting = ck.Knot(name="damaged-gate", func=enter, cloud=cloud).map([gate.address])
    knot = ck.Knot(name="damaged-kwargs", func=power, cloud=cloud)
    future = knot.map([2], kwargs={"exponent": 3}, depends_on=waiting)
    key = future.job.manifest.kwargs
    cloud.storage.put(key, flip(cloud.storage.get(key), 30))
    gate.open()
    with pytest.raises(ck.errors.ElementError, match=r"did not run.*kwargs, is damaged"):
        future[0].result(LONG)


def power(x, exponent):
    return x**exponent


def test_results_of_earlier_format_stay_readable_and_can_be_mapped(cloud, knot):
    """Rewrite a run as the format before this one stored it: no checksums, no version."""
    ended = done(knot, chunksize=3)
    keys, storage = ended.job.keys, cloud.storage
    for first in (0, 3):
        key, location = keys.output(first, 3), Location(first, 3)
        storage.put(key, old_pack(Pack(storage.get(key), Origin(keys.run_id, location))))
    for key in (keys.manifest, keys.submission):
        fields = json.loads(storage.get(key))
        for name in ("checksum", "format", "version", "python", "source_version"):
            fields.pop(name, None)
        storage.put(key, json.dumps({**fields, "version": 1} if key == keys.manifest else fields).encode())
    later = again(cloud, ended)
    assert later.result(LONG) == [n * n for n in range(COUNT)]
    assert knot.map(later).result(LONG) == [n**4 for n in range(COUNT)]
    assert ended.job.job_id in [job.job_id for job in ck.Knot(name="damaged", cloud=cloud).jobs]


def old_pack(envelopes):
    ends = accumulate(len(item.payload) for item in envelopes)
    entries = [
        struct.pack("<BxxxxxxxddQQ", item.kind, item.wall, item.cpu, item.peak, end)
        for item, end in zip(envelopes, ends, strict=True)
    ]
    return b"".join([struct.pack("<4sI", b"ckp1", len(envelopes)), *entries, *(item.payload for item in envelopes)])
