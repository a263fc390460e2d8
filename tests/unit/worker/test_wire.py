"""The wire: what one side writes, the other reads."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudknot.worker.wire.container import child_index
from cloudknot.worker.wire.failure import RAISED, Failure
from cloudknot.worker.wire.keys import RunKeys
from cloudknot.worker.wire.manifest import Manifest
from cloudknot.worker.wire.pack import Envelope, Pack, pack

envelopes = st.builds(
    Envelope,
    kind=st.integers(0, 4),
    payload=st.binary(max_size=200),
    wall=st.floats(0, 1e6),
    cpu=st.floats(0, 1e6),
    peak=st.integers(0, 2**60),
)


def manifest(count=10, chunksize=3, **more):
    said = {"knot": "pi", "run_id": "r1", "function": "f", "image": "image", "created": "2026-01-01T00:00:00Z"}
    return Manifest(count, chunksize, **said, **more)


@given(st.lists(envelopes, max_size=20))
def test_pack_gives_back_what_was_packed(items):
    assert list(Pack(pack(items))) == items


def test_pack_is_read_at_any_position():
    items = [Envelope(0, bytes([n]) * n, n, n, n) for n in range(5)]
    read = Pack(pack(items))
    assert read[3] == items[3]
    assert read[1:3] == items[1:3]
    with pytest.raises(IndexError):
        read[5]


def test_pack_refuses_other_bytes():
    with pytest.raises(ValueError, match="not a pack"):
        Pack(b"<html>no</html>")


@given(st.binary(max_size=50), st.text(max_size=50))
def test_failure_survives_the_wire(pickled, message):
    failure = Failure(RAISED, "ValueError", message, "Traceback ...", 3, pickled)
    assert Failure.from_bytes(failure.to_bytes()) == failure


def test_manifest_survives_the_wire_and_newer_names():
    text = json.loads(manifest().to_json())
    assert Manifest.from_json(json.dumps({**text, "from_the_future": 1})) == manifest()


@given(st.integers(1, 500), st.integers(1, 60))
def test_chunks_cover_every_element_once(count, chunksize):
    whole = manifest(count, chunksize)
    elements = [index for child in range(whole.children) for index in whole.chunk(child)]
    assert elements == list(range(count))
    assert all(index in whole.chunk(whole.child_of(index)) for index in elements)


def test_a_child_beyond_the_last_is_refused():
    with pytest.raises(ValueError, match="0 to 3"):
        manifest().chunk(4)


def test_keys_are_found_again_from_the_url():
    keys = RunKeys.of("bucket", "pi-calc", "20260101T000000-abc")
    assert RunKeys.parse(keys.url) == keys
    assert (keys.knot, keys.run_id) == ("pi-calc", "20260101T000000-abc")
    assert keys.parse_output(keys.output(12, 5)) == (12, 5, 0)
    assert keys.parse_output(keys.output(12, 5, 3)) == (12, 5, 3)


@pytest.mark.parametrize("url", ["http://b/p", "s3://bucket", "s3:///p", ""])
def test_other_urls_are_refused(url):
    with pytest.raises(ValueError, match="s3://bucket/prefix"):
        RunKeys.parse(url)


def test_keys_of_elements_sort_as_the_elements_do():
    keys = RunKeys.of("b", "k", "r")
    starts = [0, 9, 10, 99, 100, 999_999, 1_000_000]
    assert sorted(keys.output(first, 1) for first in starts) == [keys.output(first, 1) for first in starts]


@pytest.mark.parametrize(
    ("environment", "index"),
    [({}, 0), ({"AWS_BATCH_JOB_ARRAY_INDEX": "7"}, 7), ({"CLOUDKNOT_CHILD": "3"}, 3)],
)
def test_child_index(environment, index):
    assert child_index(environment) == index
