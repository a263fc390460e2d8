"""The defaults of memory and timeout keep costs down, and existing knots keep what their functions may need."""

import pytest

import cloudknot as ck
from cloudknot.deploy.ec2 import memory_for_jobs
from cloudknot.deploy.job_definition import facts, revision_of
from cloudknot.options.choices import KnotOptions, MapOptions
from cloudknot.options.compute import FARGATE_MEMORY, earlier_memory
from cloudknot.run.submit.ids import new_run_id
from cloudknot.run.submit.start_run import _chunksize
from cloudknot.worker.wire.keys import RunKeys
from tests.helpers.functions import cube, square
from tests.helpers.waiting import LONG

WEEK = 604_800


def facts_of(knot):
    return facts(revision_of(knot.cloud, knot.job_definition.arn))


def size_of(knot):
    found = facts_of(knot)
    return found["memory"], found["timeout"]


@pytest.mark.parametrize("gib_for_each_vcpu", [2, 4, 8])
@pytest.mark.parametrize("vcpus", [1, 2, 4, 8, 16, 48, 96])
@pytest.mark.parametrize("job_vcpus", [1, 2, 4])
def test_jobs_of_default_size_use_all_vcpus_of_a_machine(gib_for_each_vcpu, vcpus, job_vcpus):
    options = KnotOptions.make(job_def_vcpus=job_vcpus)
    # Larger machines lose up to 3.5 % (measured: 65,536 MiB leave 63,591).
    usable = min(memory_for_jobs(1024 * gib_for_each_vcpu * vcpus), int(1024 * gib_for_each_vcpu * vcpus * 0.965 - 32))
    assert usable // options.memory >= vcpus // job_vcpus


def test_default_size_on_fargate_is_next_to_that_on_machines():
    for vcpus, sizes in FARGATE_MEMORY.items():
        options = KnotOptions.make(instance_types="fargate", job_def_vcpus=vcpus)
        assert options.memory == sizes[0]


@pytest.mark.parametrize(
    ("timeout", "stored"), [({}, str(WEEK)), ({"timeout": None}, "none"), ({"timeout": 90}, "90")]
)
def test_timeout_is_a_week_unless_chosen(cloud, timeout, stored):
    knot = ck.Knot("money-timeout", func=square, cloud=cloud, **timeout)
    assert facts_of(knot)["timeout"] == stored
    future = knot.map([2])
    assert future.result(LONG) == [4]
    (job,) = future.job._view.describe_jobs()
    assert job.get("timeout") == ({"attemptDurationSeconds": int(stored)} if stored != "none" else None)


def test_fargate_refuses_timeout_that_aws_does_not_keep(cloud):
    with pytest.raises(ck.CloudknotInputError, match=r"timeout=1209601 is not available on Fargate.*timeout=1209600"):
        ck.Knot("money-fargate", func=square, instance_types="fargate", timeout=1_209_601, cloud=cloud)
    knot = ck.Knot("money-fargate", func=square, instance_types="fargate", timeout=None, cloud=cloud)
    with pytest.raises(ck.CloudknotInputError, match=r"timeout=1209601 is not available on Fargate"):
        knot.map([1], timeout=1_209_601)
    assert knot.map([1], timeout=1_209_600).result(LONG) == [1]
    # EC2 instances have no such limit.
    assert facts_of(ck.Knot("money-timeout", func=square, timeout=1_209_601, cloud=cloud))["timeout"] == "1209601"


@pytest.mark.parametrize("choices", [{}, {"instance_types": "fargate"}], ids=["EC2", "Fargate"])
def test_knot_of_earlier_version_keeps_its_memory_and_gets_timeout(cloud, caplog, choices):
    name, earlier = f"money-earlier-{len(choices)}", earlier_memory(1, bool(choices))
    # A knot as earlier versions made it without memory= and timeout=.
    ck.Knot(name, func=square, memory=earlier, timeout=None, cloud=cloud, **choices)
    caplog.clear()
    # max_vcpus changes the stack, which then registers a revision of its own.
    for change in ({"func": cube}, {"func": cube, "max_vcpus": 7}, {"func": cube, "max_vcpus": 7}):
        knot = ck.Knot(name, cloud=cloud, **change, **choices)
        assert size_of(knot) == (str(earlier), str(WEEK))
    text = caplog.text
    assert f"keeps memory={earlier}, the default of earlier versions" in text
    assert f"timeout none -> {WEEK}" in text
    assert "memory " not in text.replace("keeps memory=", "")
    default = KnotOptions.make(**choices).memory
    knot = ck.Knot(name, func=cube, max_vcpus=7, memory=default, cloud=cloud, **choices)
    assert size_of(knot) == (str(default), str(WEEK))
    assert f"memory {earlier} -> {default}" in caplog.text
    # From now on it is a knot like any new one.
    caplog.clear()
    assert size_of(ck.Knot(name, func=cube, max_vcpus=7, cloud=cloud, **choices)) == (str(default), str(WEEK))
    assert caplog.text == ""


def test_chosen_memory_returns_to_default_in_a_line(cloud, caplog):
    ck.Knot("money-chosen", func=square, memory=600, cloud=cloud)
    assert size_of(ck.Knot("money-chosen", func=square, cloud=cloud))[0] == "1900"
    assert "memory 600 -> 1900" in caplog.text


@pytest.mark.parametrize(("timeout", "size"), [({}, 2000), ({"timeout": None}, 2000), ({"timeout": 3600}, 100)])
def test_default_timeout_leaves_size_of_child_jobs_alone(cloud, timeout, size):
    """A timeout that the user chose makes children of a first map small: it may be meant for one call."""
    knot = ck.Knot(f"money-chunks-{size}-{len(timeout)}", func=square, cloud=cloud, **timeout)
    keys = RunKeys.of(cloud.bucket, knot.name, new_run_id())
    assert _chunksize(knot.cloud, keys, knot._target, 1_000_000, MapOptions.of_map(), None) == size
