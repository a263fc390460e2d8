"""Keyword arguments and closures for all elements of a map are stored once and read once by each child job.

The embedded cloud counts the requests.
"""

import os
import threading
from collections import Counter

import pytest

import cloudknot as ck
from cloudknot.errors import CloudknotInputError
from cloudknot.worker.wire.keys import RUNS, SHARED
from tests.faulty_cloud.plan import Faults
from tests.faulty_cloud.switches import FaultSwitches

LONG = 120
MEGABYTE = 1024 * 1024


class Transfers:
    """The number of calls of a cloud's S3 client, by operation, and of the bytes that it sends."""

    def __init__(self, cloud):
        self.calls = Counter()
        self.sent = 0
        self._lock = threading.Lock()
        self._put = cloud.door.put_quickly
        cloud.door.put_quickly = self._note_plain
        cloud.door.client("s3").meta.events.register("before-send.s3", self._note)

    def _note_plain(self, bucket, key, body, *rest):
        """Note a request that bypasses botocore's client."""
        with self._lock:
            self.calls["UploadPart" if rest[1:] and rest[1] else "PutObject"] += 1
            self.sent += sum(memoryview(piece).nbytes for piece in body)
        return self._put(bucket, key, body, *rest)

    def _note(self, request, event_name, **_):
        with self._lock:
            self.calls[event_name.rpartition(".")[2]] += 1
            self.sent += int(request.headers.get("Content-Length") or 0)


@pytest.fixture
def own_cloud(cloud):
    """Return the same cloud with clients of its own, so that only their calls are counted."""
    return ck.LocalCloud(cloud.directory)


@pytest.fixture
def requests_for(cloud):
    """Yield a function that starts to count S3 requests with a text in their method and path."""
    # The cloud counts its faults. A delay of zero seconds is a fault that changes nothing.
    switches = FaultSwitches(cloud)

    def count(text):
        switches.set(Faults(slow=1.0, delay=0.0, only=text))
        return lambda: switches.injected().get("slow", 0)

    yield count
    switches.off()


def scaled(x, factor=1, *, shift=0):
    return x * factor + shift


def test_every_element_gets_kwargs(knot_of):
    knot = knot_of(scaled)
    assert knot.map([1, 2], kwargs={"factor": 10}).result(LONG) == [10, 20]
    assert knot.map([(1, 2), (3, 4)], starmap=True, kwargs={"shift": 100}).result(LONG) == [102, 112]
    assert knot.map([1, 2], kwargs={"shift": 5}, job_type="independent").result(LONG) == [6, 7]
    assert knot.map([1, 2], kwargs={}).result(LONG) == [1, 2]


class Scale:
    def __init__(self, factor):
        self.factor = factor


def multiply(x, scale):
    assert isinstance(scale, Scale)
    return Scale(x * scale.factor)


def test_kwargs_may_hold_instances_of_users_classes(knot_of):
    (result,) = knot_of(multiply).map([2], kwargs={"scale": Scale(3)}).result(LONG)
    assert (type(result), result.factor) == (Scale, 6)


def count_calls(x, calls):
    calls.append(x)
    return len(calls)


def test_worker_reads_kwargs_once_for_chunk(knot_of):
    assert knot_of(count_calls).map([5] * 6, chunksize=3, kwargs={"calls": []}).result(LONG) == [1, 2, 3, 1, 2, 3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kwargs": {"fcator": 2}}, "scaled.*fcator"),
        ({"kwargs": {"x": 2}}, "multiple values for argument 'x'"),
        ({"kwargs": [("factor", 2)]}, "a dict"),
        ({"kwargs": {1: 2}}, "a dict"),
        ({"kwargs": {"factor": threading.Lock()}}, "kwargs cannot be sent.*factor.*lock"),
    ],
)
def test_invalid_kwargs_are_refused_and_leave_no_object(knot_of, place, arguments, message):
    knot = knot_of(scaled)
    before = set(place.cloud.storage.keys(f"{RUNS}/{knot.name}/"))
    with pytest.raises(CloudknotInputError, match=message):
        knot.map([1], **arguments)
    assert set(place.cloud.storage.keys(f"{RUNS}/{knot.name}/")) == before


def test_map_with_unpicklable_element_leaves_no_kwargs(knot_of, place):
    knot = knot_of(scaled)
    before = set(place.cloud.storage.keys(f"{RUNS}/{knot.name}/"))
    with pytest.raises(CloudknotInputError, match="Element 1"):
        knot.map([1, threading.Lock()], kwargs={"factor": 12345})
    assert set(place.cloud.storage.keys(f"{RUNS}/{knot.name}/")) == before


def first_byte(index, table):
    return table[index]


def test_large_kwargs_are_sent_once_and_read_once_by_each_child_job(cloud, own_cloud, requests_for):
    knot = ck.Knot(name="shared-table", func=first_byte, cloud=own_cloud)
    table = os.urandom(40 * MEGABYTE)
    transfers = Transfers(own_cloud)
    first = knot.map(range(100), chunksize=50, kwargs={"table": table})
    assert first.result(LONG) == list(table[:100])
    assert 40 * MEGABYTE < transfers.sent < 41 * MEGABYTE
    # Not those of other knots, whose jobs may still run.
    requests = requests_for(f"/{knot.name}/{SHARED}/")
    second = knot.map(range(100), chunksize=50, kwargs={"table": table})
    assert second.result(LONG) == list(table[:100])
    assert transfers.sent < 42 * MEGABYTE
    mark, children, blocks = 1, 2, 1
    assert requests() == mark + children * blocks


def test_shared_kwargs_are_deleted_with_last_run_that_uses_them(cloud):
    knot = ck.Knot(name="shared-and-gone", func=scaled, cloud=cloud)
    maps = [knot.map([1], kwargs={"factor": 7}) for _ in range(2)]
    assert [future.result(LONG) for future in maps] == [[7], [7]]
    key = maps[0].job.manifest.kwargs
    assert key == maps[1].job.manifest.kwargs
    assert len(knot.jobs) == 2
    maps[0].job.clobber()
    assert cloud.storage.exists(key)
    maps[1].job.clobber()
    assert not list(cloud.storage.keys(f"{RUNS}/{knot.name}/"))


@pytest.mark.parametrize("deletion", ["clobber", "failed submission"])
def test_shared_kwargs_stay_for_run_during_its_submission(cloud, deletion):
    knot = ck.Knot(name="shared-and-kept", func=scaled, cloud=cloud)
    kwargs = {"factor": 8, "shift": deletion == "clobber"}
    first = knot.map([1], kwargs=kwargs)
    expected = 8 + kwargs["shift"]
    assert first.result(LONG) == [expected]

    def elements():
        # The generator runs during the submission: the other run's deletion falls into it.
        yield 1
        first.job.clobber()
        if deletion != "clobber":
            with pytest.raises(CloudknotInputError, match="Element 0"):
                knot.map([threading.Lock()], kwargs=kwargs)
        yield 2

    second = knot.map(elements(), kwargs=kwargs)
    assert second.result(LONG) == [expected, 8 + expected]
    second.job.clobber()
    assert not list(cloud.storage.keys(f"{RUNS}/{knot.name}/"))


def test_large_closure_is_sent_once(cloud, own_cloud):
    table = os.urandom(40 * MEGABYTE)

    def look_up(index):
        return table[index]

    ck.Knot(name="closure", func=look_up, cloud=cloud)
    images = set((cloud.directory / "images").iterdir())
    transfers = Transfers(own_cloud)
    knot = ck.Knot(name="closure", func=look_up, cloud=own_cloud)
    assert set((cloud.directory / "images").iterdir()) == images
    future = knot.map(range(200), chunksize=100)
    assert future.result(LONG) == list(table[:200])
    assert transfers.sent < MEGABYTE


def test_map_runs_with_longest_accepted_environment(cloud):
    # The longest name of a knot. The overrides of a job contain it too.
    name = "n" + "o" * 44
    knot = ck.Knot(name=name, func=scaled_environment, cloud=cloud)
    text = "x" * (6500 - len('{"name": "V", "value": ""}, '))
    future = knot.map(
        [1] * 9999, chunksize=5000, env_vars={"V": text}, kwargs={"shift": 1}, memory=1000, vcpus=1, timeout=3600
    )
    assert future.result(LONG) == [len(text) + 1] * 9999
    with pytest.raises(CloudknotInputError, match="6500 characters"):
        knot.map([1], env_vars={"V": text + "x"})
    with pytest.raises(CloudknotInputError, match="6500 characters"):
        knot.map([1], env_vars={"V": "\n" * 3600})


def scaled_environment(_, shift):
    return len(os.environ["V"]) + shift


def test_script_prints_its_results(cloud, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import sys\nprint(int(sys.argv[1]) * 2)\n")
    knot = ck.Knot(name="printing", image_script_path=script, cloud=cloud)
    assert knot.map([3, 4]).result(LONG) == ["6\n", "8\n"]


def test_script_takes_no_kwargs(cloud, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("print(1)")
    knot = ck.Knot(name="a-script", image_script_path=script, cloud=cloud)
    with pytest.raises(CloudknotInputError, match="runs a script"):
        knot.map([1], kwargs={"a": 1})
