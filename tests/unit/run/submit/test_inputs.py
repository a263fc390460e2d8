"""How inputs are laid out, against a storage in memory."""

import io
import pickle
import weakref
from contextlib import contextmanager
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudknot.errors import CloudknotInputError
from cloudknot.run.submit.inputs import PADDING, InputPacker, upload_inputs
from cloudknot.run.submit.start_run import _not_empty
from cloudknot.worker.s3.limits import PART_SIZE
from cloudknot.worker.wire.input_index import OFFSET_SIZE, unpack_offsets
from cloudknot.worker.wire.keys import RunKeys

KEYS = RunKeys.of("bucket", "knot", "run")


class MemoryStorage:
    """Objects in a dict; uploads take pieces as S3's parts do."""

    def __init__(self):
        self.objects = {}

    def put(self, key, body):
        self.objects[key] = body

    @contextmanager
    def uploading(self, key):
        file = io.BytesIO()
        yield file
        self.objects[key] = file.getvalue()


def dump(file, element):
    pickle.dump(element, file, protocol=5, buffer_callback=file.take)


def stored(elements, starmap=False):
    storage = MemoryStorage()
    result = upload_inputs(storage, KEYS, InputPacker(elements, dump, starmap))
    return result, storage.objects


def slices(result, objects):
    """What a worker cuts out for each element."""
    data = objects[KEYS.inputs]
    if result.stride:
        offsets = [n * result.stride for n in range(result.count + 1)]
    else:
        offsets = unpack_offsets(objects[KEYS.index])
    return [data[start:end] for start, end in pairwise(offsets)]


@given(st.lists(st.one_of(st.integers(), st.text(), st.binary(max_size=300)), min_size=1, max_size=60))
def test_every_slice_is_its_element(elements):
    result, objects = stored(elements)
    assert result.count == len(elements)
    assert [pickle.loads(piece) for piece in slices(result, objects)] == elements


@given(st.lists(st.binary(max_size=100), min_size=1, max_size=60))
def test_padding_stays_small(elements):
    _, objects = stored(elements)
    plain = sum(len(pickle.dumps(element)) for element in elements)
    assert sum(map(len, objects.values())) <= max((1 + PADDING) * plain, plain + OFFSET_SIZE * (len(elements) + 1))


def test_numbers_need_no_index():
    result, objects = stored(range(1000))
    assert result.stride
    assert set(objects) == {KEYS.inputs}


def test_what_differs_in_size_gets_an_index():
    result, objects = stored(["a", "b" * 1000])
    assert result.stride == 0
    assert set(objects) == {KEYS.inputs, KEYS.index}


def test_more_than_a_part_gets_an_index():
    result, objects = stored(bytes(1_000_000) for _ in range(9))
    assert result.stride == 0
    assert [pickle.loads(piece) for piece in slices(result, objects)] == [bytes(1_000_000)] * 9


def test_starmap_takes_any_iterable_as_arguments():
    result, objects = stored([[1, 2], (3, 4), "ab"], starmap=True)
    assert [pickle.loads(piece) for piece in slices(result, objects)] == [(1, 2), (3, 4), ("a", "b")]


def test_the_element_that_cannot_be_pickled_is_named_and_nothing_is_stored():
    storage = MemoryStorage()
    with pytest.raises(CloudknotInputError, match=r"Element 2 .*function"):
        upload_inputs(storage, KEYS, InputPacker([1, 2, lambda: 0], dump, False))
    assert storage.objects == {}


def test_starmap_refuses_what_is_no_sequence():
    with pytest.raises(CloudknotInputError, match=r"Element 1 .*starmap"):
        stored([(1,), 2], starmap=True)


class Block:
    """An element of which it can be told whether somebody still holds it."""


def test_no_element_is_held_while_the_next_one_is_made():
    made, held = [], []

    def blocks():
        for _ in range(3):
            held.append(sum(each() is not None for each in made))
            block = Block()
            made.append(weakref.ref(block))
            yield block
            del block

    packer = InputPacker(_not_empty(blocks()), lambda file, element: file.write(bytes(PART_SIZE)), False)
    assert upload_inputs(MemoryStorage(), KEYS, packer).count == 3
    assert held == [0, 0, 0]
