"""A knot that exists is adopted: what that costs in calls, what is said of it, and what is refused."""

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
TYPES = ["describe_instance_type_offerings", "describe_instance_types"]


@pytest.fixture
def counting(cloud):
    return CountingCloud(cloud.directory)


@pytest.fixture
def said(caplog):
    """The lines that cloudknot has said of knots so far; another map's collector may have something to say, too."""
    caplog.set_level(logging.WARNING, logger="cloudknot")
    return lambda: [line for line in caplog.messages if line.startswith("The knot ")]


def slow_square(x):
    time.sleep(2)
    return x * x


def environment_of(cloud, knot):
    answer = cloud.call("batch", "describe_compute_environments", computeEnvironments=[knot.compute_environment])
    return answer["computeEnvironments"][0]["computeResources"]


def test_an_unchanged_knot_is_only_read_and_nothing_is_said(counting, said):
    first = ck.Knot(name="reuse-same", func=square, memory=500, cloud=counting)
    counting.calls.clear()
    second = ck.Knot(name="reuse-same", func=square, memory=500, cloud=counting)
    assert counting.writes == []
    assert len(counting.calls) <= 10
    assert said() == []
    assert second.job_definition == first.job_definition


def test_a_new_function_is_one_call_and_one_line(counting, said):
    ck.Knot(name="reuse-function", func=square, cloud=counting)
    counting.calls.clear()
    knot = ck.Knot(name="reuse-function", func=cube, cloud=counting)
    assert [call for call in counting.writes if call != "put_image"] == ["register_job_definition"]
    (line,) = said()
    assert line == (
        "The knot 'reuse-function' is updated: function. Running maps keep the version that they started with."
    )
    assert knot.map([2]).result(LONG) == [8]


def test_running_maps_keep_their_function(counting):
    running = ck.Knot(name="reuse-running", func=slow_square, cloud=counting).map([2, 3])
    newer = ck.Knot(name="reuse-running", func=cube, cloud=counting)
    assert newer.map([2, 3]).result(LONG) == [8, 27]
    assert running.result(LONG) == [4, 9]
    assert running.job.job_definition != newer.job_definition.arn


def test_by_its_name_a_knot_has_the_function_that_it_was_made_with_last(counting):
    for func in (square, cube, square):
        ck.Knot(name="reuse-last", func=func, cloud=counting)
    found = ck.Knot(name="reuse-last", cloud=CountingCloud(counting.directory))
    assert found.map([3]).result(LONG) == [9]


def test_new_requirements_are_told_from_a_new_function(counting, said):
    ck.Knot(name="reuse-needs", func=square, requirements=["six==1.16.0"], cloud=counting)
    counting.calls.clear()
    ck.Knot(name="reuse-needs", func=square, requirements=[], cloud=counting)
    assert [call for call in counting.writes if call != "put_image"] == ["register_job_definition"]
    assert [line.partition(": ")[2].partition(".")[0] for line in said()] == ["requirements or base image"]


def test_choices_of_a_job_are_a_revision(counting, said):
    ck.Knot(name="reuse-job", func=square, cloud=counting)
    counting.calls.clear()
    knot = ck.Knot(name="reuse-job", func=square, memory=600, retries=2, timeout=90, cloud=counting)
    assert counting.writes == ["register_job_definition"]
    assert "memory 7500 -> 600; retries 1 -> 2; timeout none -> 90" in said()[0]
    assert ck.Knot(name="reuse-job", cloud=counting).job_definition.retries == knot.job_definition.retries == 2


def test_choices_of_the_machines_are_an_update(counting, said):
    linked_role(counting, SPOT)
    ck.Knot(name="reuse-machines", func=square, cloud=counting)
    counting.calls.clear()
    knot = ck.Knot(name="reuse-machines", func=square, max_vcpus=3, bid_percentage=50, cloud=counting)
    assert counting.writes == ["update_stack"]
    assert "max_vcpus 256 -> 3; bid_percentage none -> 50" in said()[0]
    resources = environment_of(counting, knot)
    assert (int(resources["maxvCpus"]), resources["type"], int(resources["bidPercentage"])) == (3, "SPOT", 50)
    counting.calls.clear()
    ck.Knot(name="reuse-machines", func=square, max_vcpus=3, bid_percentage=50, cloud=counting)
    assert counting.writes == []
    assert len(said()) == 1


def test_the_number_of_vcpus_to_begin_with_is_not_given_again(counting, said):
    """Batch has its own by now, and refuses to be told a lower one."""
    ck.Knot(name="reuse-desired", func=square, desired_vcpus=8, cloud=counting)
    knot = ck.Knot(name="reuse-desired", func=square, desired_vcpus=0, priority=3, cloud=counting)
    assert [line.partition(": ")[2].partition(".")[0] for line in said()] == ["priority 1 -> 3"]
    assert int(environment_of(counting, knot)["desiredvCpus"]) == 8


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"job_queue_name": "other"}, "AWS cannot rename it"),
        ({"job_definition_name": "other"}, "AWS cannot rename it"),
        ({"compute_environment_name": "other"}, "AWS cannot rename it"),
        ({"instance_types": "fargate"}, "AWS cannot turn EC2 instances into Fargate"),
    ],
)
def test_what_cannot_change_is_refused_before_anything_is_made(counting, choice, words):
    ck.Knot(name="reuse-fixed", func=square, cloud=counting)
    counting.calls.clear()
    with pytest.raises(ck.CloudknotInputError, match=rf"{words}.*another name.*clobber\(\)"):
        ck.Knot(name="reuse-fixed", func=cube, cloud=counting, **choice)
    assert counting.writes == []


def test_tags_that_are_not_set_are_said(counting, said):
    ck.Knot(name="reuse-tags", func=square, aws_resource_tags={"Project": "a"}, cloud=counting)
    knot = ck.Knot(name="reuse-tags", func=square, aws_resource_tags={"Project": "b"}, cloud=counting)
    assert knot.tags["Project"] == "a"
    assert len(said()) == 1
    assert "keeps its tags. Not set: Project=b." in said()[0]


def test_the_network_of_pars_is_not_exchanged(counting):
    pars = ck.Pars("reuse-pars", cloud=counting)
    counting.calls.clear()
    with pytest.raises(ck.CloudknotInputError, match=r"use_default_vpc=False.*another name"):
        ck.Pars("reuse-pars", use_default_vpc=False, cloud=counting)
    assert counting.writes == []
    pars.clobber()
    own = ck.Pars("reuse-pars", use_default_vpc=False, ipv4_cidr="10.9.0.0/16", cloud=counting)
    with pytest.raises(ck.CloudknotInputError, match=r"^ipv4_cidr='10\.8\.0\.0/16' cannot be set: .*'10\.9\.0\.0/16'"):
        ck.Pars("reuse-pars", use_default_vpc=False, ipv4_cidr="10.8.0.0/16", cloud=counting)
    assert ck.Pars("reuse-pars", cloud=counting).vpc == own.vpc
    own.clobber()


def test_instance_types_are_looked_for_in_the_region(counting):
    counting.calls.clear()
    with pytest.raises(ck.CloudknotInputError, match=r"'c6i\.larg' .*us-east-1\. Near matches: c6i\.large") as caught:
        ck.Knot(name="reuse-types", func=square, instance_types=["m5", "c6i.larg"], cloud=counting)
    assert "instance_types=" in str(caught.value)
    with pytest.raises(ck.CloudknotInputError, match=r"'c66' .*Near matches: c6"):
        ck.Knot(name="reuse-types", func=square, instance_types="c66", cloud=counting)
    assert counting.writes == []
    assert Stack(counting, "reuse-types-cloudknot").state() is None


def test_a_job_larger_than_the_machines_named_is_refused(counting):
    with pytest.raises(ck.CloudknotInputError, match=r"^job_def_vcpus=8 .*c5\.large.*=2 or less"):
        ck.Knot(name="reuse-large", func=square, instance_types="c5.large", job_def_vcpus=8, cloud=counting)
    with pytest.raises(ck.CloudknotInputError, match=r"^n_gpus=1 .*c5.*no GPU\. .*instance_types='g5'"):
        ck.Knot(name="reuse-large", func=square, instance_types="c5", n_gpus=1, cloud=counting)
    assert counting.writes == []


def test_types_are_asked_about_once(counting):
    knot = ck.Knot(name="reuse-asked", func=square, instance_types=["c5.large", "m5"], cloud=counting)
    assert [call for call in counting.calls if call in TYPES] == TYPES
    assert environment_of(counting, knot)["instanceTypes"] == ["c5.large", "m5"]
    counting.calls.clear()
    ck.Knot(name="reuse-asked", func=square, instance_types=["c5.large", "m5"], cloud=counting)
    assert not {*counting.calls} & {*TYPES}
    ck.Knot(name="reuse-asked", func=square, cloud=counting)
    assert not {*counting.calls} & {*TYPES}


@pytest.mark.parametrize(
    ("types", "kind", "size"),
    [("fargate", "FARGATE", {}), ("fargate-spot", "FARGATE_SPOT", {"job_def_vcpus": 2, "memory": 4096})],
)
def test_fargate(counting, types, kind, size):
    knot = ck.Knot(name=f"reuse-{types}", func=square, instance_types=types, max_vcpus=16, cloud=counting, **size)
    future = knot.map([1, 2, 3])
    assert future.result(LONG) == [1, 4, 9]
    assert environment_of(counting, knot)["type"] == kind
    (job,) = future.job._view.describe_jobs()
    assert job["platformCapabilities"] == ["FARGATE"]
    assert job["container"]["networkConfiguration"] == {"assignPublicIp": "ENABLED"}
    given = {item["type"]: item["value"] for item in job["container"]["resourceRequirements"]}
    assert given == {"VCPU": str(size.get("job_def_vcpus", 1)), "MEMORY": str(size.get("memory", 8192))}
    counting.calls.clear()
    again = ck.Knot(name=f"reuse-{types}", func=square, instance_types=types, max_vcpus=16, cloud=counting, **size)
    assert counting.writes == []
    again.clobber()


def test_batchs_own_words_for_the_types(counting):
    knot = ck.Knot(name="reuse-any", func=square, instance_types="default_x86_64", cloud=counting)
    assert not {*counting.calls} & {*TYPES}
    assert environment_of(counting, knot)["instanceTypes"] == ["default_x86_64"]
    assert knot.map([4]).result(LONG) == [16]


def shout(x):
    print("shouted", x)


def test_each_knot_has_a_log_group_that_goes_with_it(counting):
    knot = ck.Knot(name="reuse-logs", func=shout, cloud=counting)
    future = knot.map(["a"])
    future.result(LONG)
    deadline = time.monotonic() + LONG
    while not (lines := list(future.job.logs(0))) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert lines == ["shouted a"]
    groups = counting.call("logs", "describe_log_groups", logGroupNamePrefix="/cloudknot/reuse-logs")["logGroups"]
    assert [(group["logGroupName"], group["retentionInDays"]) for group in groups] == [("/cloudknot/reuse-logs", 90)]
    knot.clobber()
    groups = counting.call("logs", "describe_log_groups", logGroupNamePrefix="/cloudknot/reuse-logs")["logGroups"]
    assert groups == []
    assert list(future.job.logs(0)) == []


def test_threads_that_make_the_same_knot_at_once(counting):
    with ThreadPoolExecutor(3) as pool:
        making = [pool.submit(ck.Knot, name="reuse-threads", func=square, cloud=counting) for _ in range(3)]
        knots = [each.result() for each in making]
    assert len({knot.stack_id for knot in knots}) == 1
    assert knots[0].map([5]).result(LONG) == [25]


class Interrupted(CountingCloud):
    """A session that does something else when it has seen its stack, and is about to find out the policies for it."""

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


def test_a_pars_that_another_session_changes_meanwhile_loses_nothing(counting):
    pars = ck.Pars("reuse-raced", cloud=counting)
    others = ["AmazonSQSFullAccess", "AmazonSNSFullAccess"]
    meanwhile = [lambda policy=policy: ck.Pars("reuse-raced", policies=policy, cloud=counting) for policy in others]
    session = Interrupted(counting.directory, meanwhile)
    ck.Pars("reuse-raced", policies="AmazonS3FullAccess", cloud=session)
    assert policies_of(counting, "reuse-raced") == {"AmazonS3FullAccess", *others}
    attached = counting.call("iam", "list_attached_role_policies", RoleName=pars.job_role.rpartition("/")[2])
    assert {one["PolicyName"] for one in attached["AttachedPolicies"]} == {"AmazonS3FullAccess", *others}
    pars.clobber()


def test_many_sessions_that_change_one_pars_at_once(counting):
    pars = ck.Pars("reuse-crowd", cloud=counting)
    wanted = ["AmazonS3FullAccess", "AmazonSQSFullAccess", "AmazonSNSFullAccess", "AmazonEC2FullAccess"]
    with ThreadPoolExecutor(len(wanted)) as pool:
        changing = [pool.submit(ck.Pars, "reuse-crowd", policies=one, cloud=counting) for one in wanted]
        assert {each.result(LONG).stack_id for each in changing} == {pars.stack_id}
    assert policies_of(counting, "reuse-crowd") == {*wanted}
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


def test_processes_that_make_the_same_knot_at_once_each_run_their_own_function(cloud, tmp_path):
    start = str(time.time() + 3)
    processes = []
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
    ("policies", "words"),
    [
        ("AmazonS3FulAccess", r"^pars_policies='AmazonS3FulAccess' is not .*Near matches: .*AmazonS3FullAccess"),
        (
            "arn:aws:iam::123456789012:policy/no-such-policy",
            r"^pars_policies='arn:.* is not an IAM policy of your account or of AWS\.",
        ),
    ],
)
def test_policies_that_nobody_has_are_refused_before_anything_is_made(tmp_path, policies, words):
    with ck.LocalCloud(tmp_path, vcpus=2) as cloud:
        before = inventory(cloud)
        with pytest.raises(ck.CloudknotInputError, match=words):
            ck.Knot(name="typo", func=square, pars_policies=policies, cloud=cloud)
        assert inventory(cloud) == before


def test_a_policy_of_the_settings_is_looked_for_too(counting, tmp_path, monkeypatch):
    (tmp_path / "settings").write_text("[aws]\ns3-bucket-policy = AmazonS3FulAccess\n")
    monkeypatch.setenv("CLOUDKNOT_CONFIG_FILE", str(tmp_path / "settings"))
    with pytest.raises(
        ck.CloudknotInputError, match=r"^set_s3_params: policy='AmazonS3FulAccess' is not an IAM policy .*Near"
    ):
        ck.Knot(name="reuse-setting", func=square, cloud=counting)
    assert counting.writes == []


def test_policies_that_reach_other_knots_are_logged_in_one_line(tmp_path, caplog):
    caplog.set_level(logging.WARNING, logger="cloudknot")
    with ck.LocalCloud(tmp_path, vcpus=2) as cloud:
        ck.Knot(name="one", func=square, pars_policies="AmazonSQSFullAccess", cloud=cloud)
        assert caplog.messages == []
        other = ck.Knot(name="other", func=square, pars_policies="AmazonS3FullAccess", cloud=cloud)
        (line,) = caplog.messages
        assert line.startswith("The existing Pars 'default' gets more policies: AmazonS3FullAccess.")
        ck.Knot(name="other", func=square, pars_policies="AmazonS3FullAccess", cloud=cloud)
        other.clobber()
        assert caplog.messages == [line]
        assert policies_of(cloud, "default") == {"AmazonS3FullAccess", "AmazonSQSFullAccess"}


def test_policies_beside_a_pars_are_its_own_to_have(counting):
    pars = ck.Pars("reuse-beside", cloud=counting)
    counting.calls.clear()
    with pytest.raises(
        ck.CloudknotInputError, match=r"^pars_policies=.*Pass pars=Pars\(policies=\['AmazonS3FullAccess'\]\)"
    ):
        ck.Knot(name="reuse-beside", func=square, pars=pars, pars_policies="AmazonS3FullAccess", cloud=counting)
    assert counting.writes == []
    pars.clobber()
