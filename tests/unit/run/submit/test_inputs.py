"""The layout of uploaded inputs, with a storage in memory."""

import io
import pickle
import weakref
from contextlib import contextmanager
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudknot.errors import CloudknotInputError
from cloudknot.program.inputs.arguments import CallCheck
from cloudknot.run.submit.inputs import PADDING, PADDING_BYTES, InputPacker, upload_inputs
from cloudknot.run.submit.start_run import _not_empty
from cloudknot.worker.s3.limits import PART_SIZE
from cloudknot.worker.wire.input_index import OFFSET_SIZE, unpack_entries
from cloudknot.worker.wire.keys import RunKeys
from cloudknot.worker.wire.manifest import input_seed
from cloudknot.worker.wire.seal import CHECKSUM, numbered, unsealed

KEYS = RunKeys.of("bucket", "knot", "run")
SEED = input_seed("run")


class MemoryStorage:
    """A storage that keeps objects in a dict."""

    def __init__(self):
        self.objects = {}

    def put(self, key, body):
        self.objects[key] = body

    @contextmanager
    def uploading(self, key):
        file = Lent()
        yield file
        self.objects[key] = file.getvalue()


class Lent(io.BytesIO):
    """An upload that records the memory that it may send later."""

    def __init__(self):
        super().__init__()
        self.owners = []

    def lend(self, data):
        self.owners.append(memoryview(data).obj)
        return self.write(data)


def dump(file, element):
    pickle.dump(element, file, protocol=5, buffer_callback=file.take)


def stored(elements, starmap=False):
    storage = MemoryStorage()
    result = upload_inputs(storage, KEYS, InputPacker(elements, dump, starmap))
    return result, storage.objects


def slices(result, objects):
    """Return the bytes that a worker reads for each element."""
    data = objects[KEYS.inputs]
    if result.stride:
        offsets = [n * result.stride for n in range(result.count + 1)]
    else:
        offsets = unpack_entries(objects[KEYS.index], 0, SEED)
    records = [data[start:end] for start, end in pairwise(offsets)]
    return [unsealed(record, numbered(SEED, index)) for index, record in enumerate(records)]


@given(st.lists(st.one_of(st.integers(), st.text(), st.binary(max_size=300)), min_size=1, max_size=60))
def test_worker_unpickles_each_element_from_its_slice(elements):
    result, objects = stored(elements)
    assert result.count == len(elements)
    assert [pickle.loads(piece) for piece in slices(result, objects)] == elements


@given(st.lists(st.integers(min_value=0, max_value=100), min_size=1, max_size=60))
def test_packer_adds_little_padding(sizes):
    elements = [bytes(1000 * size) for size in sizes]
    _, objects = stored(elements)
    plain = sum(len(pickle.dumps(element)) + CHECKSUM for element in elements)
    most = max(PADDING * plain, OFFSET_SIZE * (len(elements) + 1), PADDING_BYTES)
    assert sum(map(len, objects.values())) <= plain + most


@pytest.mark.parametrize("elements", [range(1000), range(257), ["a", "b" * 1000]])
def test_packer_stores_small_elements_without_index(elements):
    result, objects = stored(elements)
    assert result.stride
    assert set(objects) == {KEYS.inputs}


def test_packer_stores_index_for_elements_of_different_sizes():
    result, objects = stored(["a", "b" * 2 * PADDING_BYTES])
    assert result.stride == 0
    assert set(objects) == {KEYS.inputs, KEYS.index}


def test_packer_stores_index_for_inputs_larger_than_upload_part():
    result, objects = stored(bytes(1_000_000) for _ in range(9))
    assert result.stride == 0
    assert [pickle.loads(piece) for piece in slices(result, objects)] == [bytes(1_000_000)] * 9


def test_starmap_turns_any_iterable_into_tuple_of_arguments():
    result, objects = stored([[1, 2], (3, 4), "ab"], starmap=True)
    assert [pickle.loads(piece) for piece in slices(result, objects)] == [(1, 2), (3, 4), ("a", "b")]


def test_upload_names_unpicklable_element_and_stores_nothing():
    storage = MemoryStorage()
    with pytest.raises(CloudknotInputError, match=r"Element 2 .*function"):
        upload_inputs(storage, KEYS, InputPacker([1, 2, lambda: 0], dump, False))
    assert storage.objects == {}


def test_starmap_refuses_element_without_arguments():
    with pytest.raises(CloudknotInputError, match=r"Element 1 .*starmap"):
        stored([(1,), 2], starmap=True)


class RecordingStorage(MemoryStorage):
    """A storage that records which memory each upload may still send when it ends."""

    def __init__(self):
        super().__init__()
        self.owners = []

    @contextmanager
    def uploading(self, key):
        with super().uploading(key) as file:
            yield file
        self.owners += file.owners


@pytest.mark.parametrize("is_lasting", [True, False])
def test_only_lasting_elements_are_sent_from_their_own_memory(is_lasting):
    storage = RecordingStorage()
    data = [bytearray(PART_SIZE) for _ in range(2)]
    elements = [pickle.PickleBuffer(each) for each in data]
    upload_inputs(storage, KEYS, InputPacker(elements, dump, False, is_lasting=is_lasting))
    sent = [owner for owner in storage.owners if isinstance(owner, bytearray)]
    assert [any(owner is each for owner in sent) for each in data] == [is_lasting] * 2


class Block:
    """An element for weak references, which show whether anything still holds it."""


def test_packer_keeps_no_reference_to_element_while_iterable_computes_next():
    references, held = [], []

    def blocks():
        for _ in range(3):
            held.append(sum(reference() is not None for reference in references))
            block = Block()
            references.append(weakref.ref(block))
            yield block
            # Else this generator holds the block itself.
            del block

    packer = InputPacker(
        _not_empty(blocks(), CallCheck(None, {}, False)), lambda file, element: file.write(bytes(PART_SIZE)), False
    )
    assert upload_inputs(MemoryStorage(), KEYS, packer).count == 3
    assert held == [0, 0, 0]
