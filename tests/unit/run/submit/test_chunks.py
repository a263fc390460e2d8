"""The number of elements in a chunk, from the length of the input, measured times and the caller's choice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudknot.aws.s3.storage import StoredObject
from cloudknot.errors import CloudknotInputError, ResourceDoesNotExistException
from cloudknot.run.submit.chunks import LONGEST, MAX_CHILDREN, SHORTEST, chunksize, is_automatic, measured_seconds
from cloudknot.worker.wire.failure import RAISED, VALUE
from cloudknot.worker.wire.keys import Location, RunKeys
from cloudknot.worker.wire.pack import Envelope, Origin, head_size, pack, wall_seconds


@pytest.mark.parametrize(
    ("count", "wanted", "default", "expected"),
    [(5, None, 1, 1), (10_000, None, 1, 1), (50, None, 7, 7), (50_000, None, 7, 7), (10, 4, 1, 4), (50_000, 9, 1, 9)],
)
def test_map_takes_given_chunksize_or_default_of_function(count, wanted, default, expected):
    assert chunksize(count, wanted, default, None, 256) == expected
    assert not is_automatic(count, wanted, default)


@pytest.mark.parametrize(
    ("count", "seconds", "slots", "timeout", "expected"),
    [
        (10_001, None, 256, None, 20),
        (1_000_000, None, 256, None, 2000),
        (1_000_000, None, 4, None, 2000),
        (1_000_000, None, 5000, None, 200),
        (1_000_000, None, 256, 3600, 100),
        (1_000_000, 1e-5, 256, None, 2000),
        (1_000_000, 1.0, 256, None, 240),
        (1_000_000, 1.0, 256, 300, 150),
        (1_000_000, 1e-5, 256, 300, 2000),
        (1_000_000, 3600.0, 256, None, 100),
    ],
)
def test_map_chooses_chunksize_for_more_elements_than_array_children(count, seconds, slots, timeout, expected):
    assert chunksize(count, None, 1, seconds, slots, timeout) == expected
    assert is_automatic(count, None, 1)


@given(st.integers(10_001, 10**7), st.none() | st.floats(0, 1e5), st.integers(0, 10**5), st.none() | st.integers(60))
def test_chosen_chunksize_makes_many_children_within_array_limit(count, seconds, slots, timeout):
    size = chunksize(count, None, 1, seconds, slots, timeout)
    assert -(-count // size) >= 500
    assert -(-count // size) <= MAX_CHILDREN
    smallest = -(-count // MAX_CHILDREN)
    if timeout and seconds is not None:
        assert size * seconds <= timeout or size in (1, smallest)


def test_map_refuses_chunksize_with_too_many_children():
    with pytest.raises(CloudknotInputError, match="chunksize=3 or more"):
        chunksize(20_001, 2, 1, None, 256)


@pytest.mark.parametrize(
    ("count", "seconds", "slots", "expected"),
    [
        (1000, None, 256, 4),
        (100, None, 256, 1),
        (1000, 1.0, 256, 60),
        (100_000, 1.0, 256, 240),
        (30_000, 1.0, 256, 118),
        (1000, 0.0, 256, 1000),
        (1000, 0.001, 2, 1000),
        (1000, 3600.0, 256, 1),
        (1_000_000, 3600.0, 256, 100),
    ],
)
def test_auto_chunksize_depends_on_measured_seconds_and_slots(count, seconds, slots, expected):
    assert chunksize(count, "auto", 1, seconds, slots) == expected
    assert is_automatic(count, "auto", 1)


def test_auto_chunksize_keeps_children_to_half_of_timeout():
    assert chunksize(1000, "auto", 1, 1.0, 2, 120) == 60
    assert chunksize(1000, "auto", 1, 100.0, 2, 120) == 1


@given(st.integers(1, 10**7), st.none() | st.floats(0, 1e5), st.integers(0, 10**5))
def test_auto_chunksize_never_exceeds_array_limit(count, seconds, slots):
    size = chunksize(count, "auto", 1, seconds, slots)
    assert 1 <= size <= count
    assert -(-count // size) <= MAX_CHILDREN


@given(st.integers(1, 10**6), st.floats(0.01, 50), st.integers(1, 1000))
def test_children_of_auto_chunksize_take_minutes_or_hold_all_elements(count, seconds, slots):
    size = chunksize(count, "auto", 1, seconds, slots)
    smallest = -(-count // MAX_CHILDREN)
    assert size * seconds <= LONGEST + seconds or size == smallest
    assert size * seconds >= SHORTEST - seconds or size == count


def test_pack_head_gives_wall_seconds_of_its_values():
    origin = Origin("run", Location(0, 5))
    packed = pack([Envelope(RAISED if n == 1 else VALUE, b"x" * 1000, n, 0, 0) for n in range(5)], origin)
    assert wall_seconds(packed[: head_size(3)]) == [0, 2]
    assert wall_seconds(packed[: head_size(5)]) == [0, 2, 3, 4]


class Storage:
    """A bucket with one pack that another session deletes between the listing and the read."""

    bucket = "bucket"

    def folders(self, prefix):
        return ["20260101T000000000000-abcdef"]

    def pages(self, prefix):
        yield [StoredObject(f"{prefix}000000000-1", 100, None)]

    def get(self, key, start=0, end=None):
        raise ResourceDoesNotExistException("NoSuchKey", code="NoSuchKey", operation="s3:get_object")


class Cloud:
    storage = Storage()


def test_measurement_ignores_run_deleted_during_its_reading():
    assert measured_seconds(Cloud(), RunKeys.of("bucket", "knot", "20260102T000000000000-abcdef"), "image") is None
