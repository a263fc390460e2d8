"""A child job reads neighbouring elements together, in windows of limited size. Hypothesis draws the elements."""

import io
import pickle
from array import array
from itertools import accumulate, pairwise
from zlib import crc32

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudknot.run.submit.inputs import InputPacker, upload_inputs
from cloudknot.worker.element import run_element
from cloudknot.worker.function import function_of
from cloudknot.worker.inputs import _windows, inputs_of
from cloudknot.worker.s3.limits import SKIP, WINDOW
from cloudknot.worker.stored_run import StoredRun
from cloudknot.worker.wire.failure import UNREADABLE, VALUE, Failure
from cloudknot.worker.wire.keys import RunKeys
from cloudknot.worker.wire.manifest import Manifest
from cloudknot.worker.wire.seal import FORMAT, NewerFormatError
from tests.unit.run.submit.test_inputs import MemoryStorage

# Small elements, elements around the distance that a request reads over, and elements around the size of a window.
sizes = st.integers(1, 100) | st.integers(1, 2 * SKIP) | st.integers(WINDOW // 3, 2 * WINDOW)


@st.composite
def todos(draw):
    """Return some elements of a child job, and the offsets of all elements from the first to the last of them."""
    lengths = draw(st.lists(sizes, min_size=1, max_size=40))
    first = draw(st.integers(0, 10**9))
    kept = draw(st.sets(st.integers(0, len(lengths) - 1), min_size=1))
    offsets = array("Q", accumulate(lengths, initial=first))[min(kept) :]
    return sorted(first + position for position in kept), offsets


@given(todos())
def test_windows_contain_each_element_once_within_limits(case):
    todo, offsets = case
    windows = list(_windows(todo, offsets))
    assert [index for window in windows for index in window] == todo

    def span(window):
        """Return the first and the last offset of a window."""
        return offsets[window[0] - todo[0]], offsets[window[-1] - todo[0] + 1]

    for window in windows:
        begin, end = span(window)
        assert end - begin <= WINDOW or len(window) == 1
        assert all(span([b])[0] - span([a])[1] <= SKIP for a, b in pairwise(window))
    for before, after in pairwise(windows):
        begin, end = span(before)
        # The next element would have been too far away, or would have made the window too large.
        assert span(after[:1])[0] - end > SKIP or span(after[:1])[1] - begin > WINDOW


KEYS = RunKeys.of("bucket", "knot", "run")


class MemoryS3:
    """The worker's S3 client for objects in memory."""

    def __init__(self, objects):
        self.objects, self.reads = objects, 0

    def read(self, bucket, key, start=0, end=None):
        self.reads += 1
        return bytes(self.objects[key][start:end])

    def load(self, bucket, key, start, end, unpickle):
        return unpickle(io.BufferedReader(io.BytesIO(self.read(bucket, key, start, end))))


def stored_run(elements, **fields):
    """Return a run with these inputs, which cloudpickle pickles by value where it has to."""

    def dump(file, element):
        cloudpickle.Pickler(file, protocol=5, buffer_callback=file.take).dump(element)

    storage = MemoryStorage()
    layout = upload_inputs(storage, KEYS, InputPacker(elements, dump, False))
    manifest = Manifest(len(elements), len(elements), stride=layout.stride, **{"version": FORMAT, **fields})
    return StoredRun(MemoryS3(storage.objects), KEYS, manifest)


def outcomes(run, function=type):
    return [run_element(function, load, False) for load in inputs_of(run, range(run.manifest.count))]


@pytest.mark.parametrize("sizes", [[1] * 9, [1, 1000, 3], [1, WINDOW + 100_000, 2, 3 * WINDOW]])
def test_child_reads_each_input(sizes):
    elements = [bytes([n]) * size for n, size in enumerate(sizes)]
    run = stored_run(elements)
    assert [pickle.loads(outcome.payload) for outcome in outcomes(run, crc32)] == list(map(crc32, elements))


def test_input_of_another_python_is_refused_if_it_holds_code_and_read_if_it_is_plain():
    """Bytecode of another Python would end the job with exit code 139."""
    done = outcomes(stored_run([7, lambda: 1, "text"], python="3.8"))
    assert [outcome.kind for outcome in done] == [VALUE, UNREADABLE, VALUE]
    failure = Failure.from_bytes(done[1].payload)
    assert (failure.type, "by value, pickled by Python 3.8" in failure.message) == ("OtherPythonError", True)


@pytest.mark.parametrize("size", [10, WINDOW + 100_000])
@pytest.mark.parametrize("place", [0.5, 0.9999999])
def test_damaged_input_is_refused_and_its_neighbours_are_read(size, place):
    run = stored_run([b"a" * size, b"b" * size, b"c" * size])
    data = bytearray(run.s3.objects[KEYS.inputs])
    data[int(len(data) / 3 * (1 + place))] ^= 16
    run.s3.objects[KEYS.inputs] = data
    assert [outcome.kind for outcome in outcomes(run)] == [VALUE, UNREADABLE, VALUE]


@pytest.mark.parametrize("entry", range(4))
def test_damaged_entry_of_index_costs_the_elements_beside_it(entry):
    run = stored_run([b"a", b"b" * 100, b"c" * 50_000])
    data = bytearray(run.s3.objects[KEYS.index])
    data[8 * entry + 2] ^= 1
    run.s3.objects[KEYS.index] = data
    beside = {entry - 1, entry}
    expected = [UNREADABLE if n in beside else VALUE for n in range(3)]
    assert [outcome.kind for outcome in outcomes(run)] == expected
    run.s3.objects[KEYS.index] = data[: 8 * entry]
    assert [outcome.kind for outcome in outcomes(run)] == [VALUE if n < entry - 1 else UNREADABLE for n in range(3)]


def test_seals_cost_no_request():
    small, large = stored_run(list(range(1000))), stored_run([b"a", b"b" * 50_000])
    outcomes(small)
    outcomes(large)
    assert (small.s3.reads, large.s3.reads) == (1, 2)


def test_run_of_newer_cloudknot_is_refused():
    with pytest.raises(NewerFormatError, match="format 99"):
        function_of(stored_run([1], version=99))
