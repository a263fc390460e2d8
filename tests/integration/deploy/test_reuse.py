"""An existing knot is reused: its calls, its warnings and the changes it refuses, on the embedded cloud."""

import logging
import os
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import cloudknot as ck
from cloudknot.deploy.cloudformation.stack import Stack
from cloudknot.deploy.iam import SPOT, linked_role
from tests.helpers.counting import CountingCloud
from tests.helpers.functions import cube, square
from tests.helpers.inventory import inventory

LONG = 120
TYPE_LOOKUPS = ["describe_instance_type_offerings", "describe_instance_types"]


@pytest.fixture
def counting_cloud(cloud):
    return CountingCloud(cloud.directory)


@pytest.fixture(scope="module")
def cloud_without_pars(tmp_path_factory):
    """Yield a cloud of this module alone, where only the last test with this fixture makes the default Pars."""
    with ck.LocalCloud(tmp_path_factory.mktemp("without-pars"), vcpus=2) as cloud:
        yield cloud


@pytest.fixture
def knot_warnings(caplog):
    """Return a getter of the warnings about knots so far."""
    # Collectors of other runs may warn, too.
    caplog.set_level(logging.WARNING, logger="cloudknot")
    return lambda: [line for line in caplog.messages if line.startswith("The knot ")]


def slow_square(x):
    time.sleep(2)
    return x * x


def environment_of(cloud, knot):
    answer = cloud.call("batch", "describe_compute_environments", computeEnvironments=[knot.compute_environment])
    return answer["computeEnvironments"][0]["computeResources"]


def test_unchanged_knot_causes_only_read_calls_and_no_warning(counting_cloud, knot_warnings):
    first = ck.Knot(name="reuse-same", func=square, memory=500, cloud=counting_cloud)
    counting_cloud.calls.clear()
    second = ck.Knot(name="reuse-same", func=square, memory=500, cloud=counting_cloud)
    assert counting_cloud.writes == []
    assert len(counting_cloud.calls) <= 10
    assert knot_warnings() == []
    assert second.job_definition == first.job_definition


def test_new_function_registers_one_revision_and_logs_one_line(counting_cloud, knot_warnings):
    ck.Knot(name="reuse-function", func=square, cloud=counting_cloud)
    counting_cloud.calls.clear()
    knot = ck.Knot(name="reuse-function", func=cube, cloud=counting_cloud)
    assert [call for call in counting_cloud.writes if call != "put_image"] == ["register_job_definition"]
    (line,) = knot_warnings()
    assert line == (
        "The knot 'reuse-function' was updated. Changed: function. "
        "Running maps keep the version that they started with."
    )
    assert knot.map([2]).result(LONG) == [8]


def test_running_map_keeps_its_function_after_update(counting_cloud):
    running = ck.Knot(name="reuse-running", func=slow_square, cloud=counting_cloud).map([2, 3])
    newer = ck.Knot(name="reuse-running", func=cube, cloud=counting_cloud)
    assert newer.map([2, 3]).result(LONG) == [8, 27]
    assert running.result(LONG) == [4, 9]
    assert running.job.job_definition != newer.job_definition.arn


def test_knot_connected_by_name_has_its_latest_function(counting_cloud):
    for func in (square, cube, square):
        ck.Knot(name="reuse-last", func=func, cloud=counting_cloud)
    connected = ck.Knot(name="reuse-last", cloud=CountingCloud(counting_cloud.directory))
    assert connected.map([3]).result(LONG) == [9]


def test_warning_names_changed_requirements_and_not_function(counting_cloud, knot_warnings):
    ck.Knot(name="reuse-needs", func=square, requirements=["six==1.16.0"], cloud=counting_cloud)
    counting_cloud.calls.clear()
    ck.Knot(name="reuse-needs", func=square, requirements=[], cloud=counting_cloud)
    assert [call for call in counting_cloud.writes if call != "put_image"] == ["register_job_definition"]
    assert [line.partition(": ")[2].partition(".")[0] for line in knot_warnings()] == ["requirements or base image"]


def test_knot_with_changed_job_choices_registers_revision(counting_cloud, knot_warnings):
    ck.Knot(name="reuse-job", func=square, cloud=counting_cloud)
    counting_cloud.calls.clear()
    knot = ck.Knot(name="reuse-job", func=square, memory=600, retries=2, timeout=90, cloud=counting_cloud)
    assert counting_cloud.writes == ["register_job_definition"]
    assert "memory 1900 -> 600; retries 1 -> 2; timeout 604800 -> 90" in knot_warnings()[0]
    assert ck.Knot(name="reuse-job", cloud=counting_cloud).job_definition.retries == knot.job_definition.retries == 2


def test_knot_with_changed_machine_choices_updates_stack_once(counting_cloud, knot_warnings):
    linked_role(counting_cloud, SPOT)
    ck.Knot(name="reuse-machines", func=square, cloud=counting_cloud)
    counting_cloud.calls.clear()
    knot = ck.Knot(name="reuse-machines", func=square, max_vcpus=3, bid_percentage=50, cloud=counting_cloud)
    assert counting_cloud.writes == ["update_stack"]
    assert "max_vcpus 256 -> 3; bid_percentage none -> 50" in knot_warnings()[0]
    resources = environment_of(counting_cloud, knot)
    assert (int(resources["maxvCpus"]), resources["type"], int(resources["bidPercentage"])) == (3, "SPOT", 50)
    counting_cloud.calls.clear()
    ck.Knot(name="reuse-machines", func=square, max_vcpus=3, bid_percentage=50, cloud=counting_cloud)
    assert counting_cloud.writes == []
    assert len(knot_warnings()) == 1


def test_update_leaves_desired_vcpus_to_batch(counting_cloud, knot_warnings):
    """Batch manages the number itself by now, and refuses a lower one."""
    ck.Knot(name="reuse-desired", func=square, desired_vcpus=8, cloud=counting_cloud)
    knot = ck.Knot(name="reuse-desired", func=square, desired_vcpus=0, priority=3, cloud=counting_cloud)
    assert [line.partition(": ")[2].partition(".")[0] for line in knot_warnings()] == ["priority 1 -> 3"]
    assert int(environment_of(counting_cloud, knot)["desiredvCpus"]) == 8


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"job_queue_name": "other"}, "AWS cannot rename it"),
        ({"job_definition_name": "other"}, "AWS cannot rename it"),
        ({"compute_environment_name": "other"}, "AWS cannot rename it"),
        ({"instance_types": "fargate"}, "AWS cannot turn EC2 instances into Fargate"),
    ],
)
def test_change_of_fixed_choice_is_refused_before_any_write(counting_cloud, choice, message):
    ck.Knot(name="reuse-fixed", func=square, cloud=counting_cloud)
    counting_cloud.calls.clear()
    with pytest.raises(ck.CloudknotInputError, match=rf"{message}.*another name.*clobber\(\)"):
        ck.Knot(name="reuse-fixed", func=cube, cloud=counting_cloud, **choice)
    assert counting_cloud.writes == []


def test_warning_names_tags_that_existing_knot_does_not_get(counting_cloud, knot_warnings):
    ck.Knot(name="reuse-tags", func=square, aws_resource_tags={"Project": "a"}, cloud=counting_cloud)
    knot = ck.Knot(name="reuse-tags", func=square, aws_resource_tags={"Project": "b"}, cloud=counting_cloud)
    assert knot.tags["Project"] == "a"
    assert len(knot_warnings()) == 1
    assert "keeps its tags. These tags are not set: Project=b." in knot_warnings()[0]


def test_existing_pars_refuses_another_network(counting_cloud):
    pars = ck.Pars("reuse-pars", cloud=counting_cloud)
    counting_cloud.calls.clear()
    with pytest.raises(ck.CloudknotInputError, match=r"use_default_vpc=False.*another name"):
        ck.Pars("reuse-pars", use_default_vpc=False, cloud=counting_cloud)
    assert counting_cloud.writes == []
    pars.clobber()
    own = ck.Pars("reuse-pars", use_default_vpc=False, ipv4_cidr="10.9.0.0/16", cloud=counting_cloud)
    with pytest.raises(ck.CloudknotInputError, match=r"^ipv4_cidr='10\.8\.0\.0/16' cannot be set: .*'10\.9\.0\.0/16'"):
        ck.Pars("reuse-pars", use_default_vpc=False, ipv4_cidr="10.8.0.0/16", cloud=counting_cloud)
    assert ck.Pars("reuse-pars", cloud=counting_cloud).vpc == own.vpc
    own.clobber()


def test_instance_types_missing_in_region_are_refused(counting_cloud):
    counting_cloud.calls.clear()
    with pytest.raises(
        ck.CloudknotInputError,
        match=r"^instance_types contains 'c6i\.larg', .*embedded cloud.* Near matches: c6i\.large",
    ) as caught:
        ck.Knot(name="reuse-types", func=square, instance_types=["m5", "c6i.larg"], cloud=counting_cloud)
    assert "instance_types=" in str(caught.value)
    with pytest.raises(ck.CloudknotInputError, match=r"'c66' .*Near matches: c6"):
        ck.Knot(name="reuse-types", func=square, instance_types="c66", cloud=counting_cloud)
    assert counting_cloud.writes == []
    assert Stack(counting_cloud, "reuse-types-cloudknot").state() is None


def test_job_larger_than_its_instance_types_is_refused(counting_cloud):
    with pytest.raises(ck.CloudknotInputError, match=r"^job_def_vcpus=8 .*c5\.large.*=2 or less"):
        ck.Knot(name="reuse-large", func=square, instance_types="c5.large", job_def_vcpus=8, cloud=counting_cloud)
    with pytest.raises(ck.CloudknotInputError, match=r"^n_gpus=1 .*c5.*no GPU\. .*instance_types='g5'"):
        ck.Knot(name="reuse-large", func=square, instance_types="c5", n_gpus=1, cloud=counting_cloud)
    assert counting_cloud.writes == []


def test_instance_types_are_looked_up_once(counting_cloud):
    knot = ck.Knot(name="reuse-asked", func=square, instance_types=["c5.large", "m5"], cloud=counting_cloud)
    assert [call for call in counting_cloud.calls if call in TYPE_LOOKUPS] == TYPE_LOOKUPS
    assert environment_of(counting_cloud, knot)["instanceTypes"] == ["c5.large", "m5"]
    counting_cloud.calls.clear()
    ck.Knot(name="reuse-asked", func=square, instance_types=["c5.large", "m5"], cloud=counting_cloud)
    assert not {*counting_cloud.calls} & {*TYPE_LOOKUPS}
    ck.Knot(name="reuse-asked", func=square, cloud=counting_cloud)
    assert not {*counting_cloud.calls} & {*TYPE_LOOKUPS}


@pytest.mark.parametrize(
    ("types", "kind", "size"),
    [("fargate", "FARGATE", {}), ("fargate-spot", "FARGATE_SPOT", {"job_def_vcpus": 2, "memory": 4096})],
)
def test_fargate_knot_runs_map_and_is_reused(counting_cloud, types, kind, size):
    knot = ck.Knot(
        name=f"reuse-{types}", func=square, instance_types=types, max_vcpus=16, cloud=counting_cloud, **size
    )
    future = knot.map([1, 2, 3])
    assert future.result(LONG) == [1, 4, 9]
    assert environment_of(counting_cloud, knot)["type"] == kind
    (job,) = future.job._view.describe_jobs()
    assert job["platformCapabilities"] == ["FARGATE"]
    assert job["container"]["networkConfiguration"] == {"assignPublicIp": "ENABLED"}
    requirements = {item["type"]: item["value"] for item in job["container"]["resourceRequirements"]}
    assert requirements == {"VCPU": str(size.get("job_def_vcpus", 1)), "MEMORY": str(size.get("memory", 2048))}
    counting_cloud.calls.clear()
    reused = ck.Knot(
        name=f"reuse-{types}", func=square, instance_types=types, max_vcpus=16, cloud=counting_cloud, **size
    )
    assert counting_cloud.writes == []
    reused.clobber()


def test_batchs_default_instance_types_need_no_lookup(counting_cloud):
    knot = ck.Knot(name="reuse-any", func=square, instance_types="default_x86_64", cloud=counting_cloud)
    assert not {*counting_cloud.calls} & {*TYPE_LOOKUPS}
    assert environment_of(counting_cloud, knot)["instanceTypes"] == ["default_x86_64"]
    assert knot.map([4]).result(LONG) == [16]


def shout(x):
    print("shouted", x)


def test_knot_has_its_own_log_group_until_it_is_clobbered(counting_cloud):
    knot = ck.Knot(name="reuse-logs", func=shout, cloud=counting_cloud)
    future = knot.map(["a"])
    future.result(LONG)
    # As on AWS, the log may arrive after the result.
    deadline = time.monotonic() + LONG
    while not (lines := list(future.job.logs(0))) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert lines == ["shouted a"]
    groups = counting_cloud.call("logs", "describe_log_groups", logGroupNamePrefix="/cloudknot/reuse-logs")[
        "logGroups"
    ]
    assert [(group["logGroupName"], group["retentionInDays"]) for group in groups] == [("/cloudknot/reuse-logs", 90)]
    knot.clobber()
    groups = counting_cloud.call("logs", "describe_log_groups", logGroupNamePrefix="/cloudknot/reuse-logs")[
        "logGroups"
    ]
    assert groups == []
    assert list(future.job.logs(0)) == []


def test_threads_that_create_same_knot_share_its_stack(counting_cloud):
    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(ck.Knot, name="reuse-threads", func=square, cloud=counting_cloud) for _ in range(3)]
        knots = [future.result() for future in futures]
    assert len({knot.stack_id for knot in knots}) == 1
    assert knots[0].map([5]).result(LONG) == [25]


class RacingSession(CountingCloud):
    """A session that calls one function of ``meanwhile`` after it reads its stack, before it lists policies."""

    def __init__(self, directory, meanwhile):
        super().__init__(directory)
        self._meanwhile = meanwhile

    def pages(self, service, operation, **arguments):
        if operation == "list_policies" and self._meanwhile:
            self._meanwhile.pop()()
        return super().pages(service, operation, **arguments)


def policies_of(cloud, name):
    arns = Stack(cloud, f"{name}-cloudknot-pars").state().parameters["Policies"].split(",")
    return {arn.rpartition("/")[2] for arn in arns}


def test_pars_keeps_policies_that_other_sessions_add_meanwhile(counting_cloud):
    pars = ck.Pars("reuse-raced", cloud=counting_cloud)
    others = ["AmazonSQSFullAccess", "AmazonSNSFullAccess"]
    meanwhile = [
        lambda policy=policy: ck.Pars("reuse-raced", policies=policy, cloud=counting_cloud) for policy in others
    ]
    session = RacingSession(counting_cloud.directory, meanwhile)
    ck.Pars("reuse-raced", policies="AmazonS3FullAccess", cloud=session)
    assert policies_of(counting_cloud, "reuse-raced") == {"AmazonS3FullAccess", *others}
    pars.clobber()


def test_concurrent_sessions_all_add_their_policies_to_pars(counting_cloud):
    pars = ck.Pars("reuse-crowd", cloud=counting_cloud)
    policies = ["AmazonS3FullAccess", "AmazonSQSFullAccess", "AmazonSNSFullAccess", "AmazonEC2FullAccess"]
    with ThreadPoolExecutor(len(policies)) as pool:
        futures = [pool.submit(ck.Pars, "reuse-crowd", policies=policy, cloud=counting_cloud) for policy in policies]
        assert {future.result(LONG).stack_id for future in futures} == {pars.stack_id}
    assert policies_of(counting_cloud, "reuse-crowd") == {*policies}
    pars.clobber()


SESSION = """
import sys, time
import cloudknot as ck

def function(x):
    return (x, {number})

while time.time() < float(sys.argv[2]):
    time.sleep(0.01)
knot = ck.Knot(name="reuse-processes", func=function, cloud=ck.LocalCloud(sys.argv[1]))
print(knot.stack_id, knot.map([1, 2]).result(120))
"""


def test_concurrent_processes_share_knot_and_run_their_own_functions(cloud, tmp_path):
    start = str(time.time() + 3)
    processes = []  # All wait for `start`, so that they make the knot at once.
    for number in range(3):
        script = tmp_path / f"session{number}.py"
        script.write_text(textwrap.dedent(SESSION.format(number=number)))
        command = [sys.executable, script, cloud.directory, start]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ))
    outputs = [process.communicate(timeout=LONG) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    stacks, results = zip(*(out.decode().strip().split(" ", 1) for out, _ in outputs), strict=True)
    assert len(set(stacks)) == 1
    assert list(results) == [str([(1, number), (2, number)]) for number in range(3)]


@pytest.mark.parametrize(
    ("policies", "message"),
    [
        ("AmazonS3FulAccess", r"^pars_policies='AmazonS3FulAccess' is not .*Near matches: .*AmazonS3FullAccess"),
        (
            "arn:aws:iam::123456789012:policy/no-such-policy",
            r"^pars_policies='arn:.* is not an IAM policy of your account or of AWS\.",
        ),
    ],
)
def test_unknown_policy_is_refused_before_any_write(cloud_without_pars, policies, message):
    before = inventory(cloud_without_pars)
    with pytest.raises(ck.CloudknotInputError, match=message):
        ck.Knot(name="typo", func=square, pars_policies=policies, cloud=cloud_without_pars)
    assert inventory(cloud_without_pars) == before


def test_unknown_policy_in_settings_is_refused_before_any_write(counting_cloud, tmp_path, monkeypatch):
    (tmp_path / "settings").write_text("[aws]\ns3-bucket-policy = AmazonS3FulAccess\n")
    monkeypatch.setenv("CLOUDKNOT_CONFIG_FILE", str(tmp_path / "settings"))
    with pytest.raises(
        ck.CloudknotInputError, match=r"^set_s3_params: policy='AmazonS3FulAccess' is not an IAM policy .*Near"
    ):
        ck.Knot(name="reuse-setting", func=square, cloud=counting_cloud)
    assert counting_cloud.writes == []


def test_warning_names_policies_that_reach_other_knots_once(cloud_without_pars, caplog):
    caplog.set_level(logging.WARNING, logger="cloudknot")
    cloud = cloud_without_pars
    ck.Knot(name="one", func=square, pars_policies="AmazonSQSFullAccess", cloud=cloud)
    assert caplog.messages == []
    other_knot = ck.Knot(name="other", func=square, pars_policies="AmazonS3FullAccess", cloud=cloud)
    (line,) = caplog.messages
    assert line.startswith("The existing Pars 'default' gets more policies: AmazonS3FullAccess.")
    ck.Knot(name="other", func=square, pars_policies="AmazonS3FullAccess", cloud=cloud)
    other_knot.clobber()
    assert caplog.messages == [line]
    assert policies_of(cloud, "default") == {"AmazonS3FullAccess", "AmazonSQSFullAccess"}


def test_knot_refuses_pars_policies_together_with_pars(counting_cloud):
    pars = ck.Pars("reuse-beside", cloud=counting_cloud)
    counting_cloud.calls.clear()
    with pytest.raises(
        ck.CloudknotInputError, match=r"^pars_policies=.*Pass pars=Pars\(policies=\['AmazonS3FullAccess'\]\)"
    ):
        ck.Knot(name="reuse-beside", func=square, pars=pars, pars_policies="AmazonS3FullAccess", cloud=counting_cloud)
    assert counting_cloud.writes == []
    pars.clobber()
