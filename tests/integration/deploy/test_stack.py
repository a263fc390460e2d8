"""The templates deploy a Pars and the resources of a knot to a moto server over HTTP."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from moto.backends import get_backend
from moto.server import ThreadedMotoServer

from cloudknot.aws import Cloud
from cloudknot.aws.tags import with_own
from cloudknot.deploy.account.clobber import Extras, clobber_knot
from cloudknot.deploy.cloudformation.stack import Stack
from cloudknot.deploy.cloudformation.template import Template, load
from cloudknot.deploy.inventory import stack_name
from cloudknot.deploy.knot_stack import KnotResources, deploy_knot, find_knot
from cloudknot.deploy.pars import Pars
from cloudknot.deploy.plan import FRESH, KnotPlan
from cloudknot.deploy.prerequisites import Prerequisites
from cloudknot.errors import CloudknotInputError, ResourceClobberedException, ResourceDoesNotExistException
from cloudknot.image.docker_image import DockerImage, image_in
from cloudknot.options.choices import NO_TIMEOUT, KnotOptions
from tests.helpers.counting import Counting

REGION = "eu-central-1"
CREATION_LOCK = threading.Lock()
SERVICES = ("batch", "cloudformation", "ec2", "ecs", "logs", "s3")
POLICY = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": "*"}]}'


class CountingCloud(Counting, Cloud):
    """A session on the server that records its calls."""

    def __init__(self, endpoint_url: str, bucket: str | None = None) -> None:
        super().__init__(REGION, endpoint_url=endpoint_url, bucket=bucket)


class RacingSession(CountingCloud):
    """A session that creates a stack only when all other sessions are about to do so."""

    def __init__(self, barrier: threading.Barrier, endpoint_url: str, bucket: str | None = None) -> None:
        super().__init__(endpoint_url, bucket)
        self.barrier = barrier

    def call(self, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
        if operation != "create_stack":
            return super().call(service, operation, **arguments)
        self.barrier.wait(timeout=120)
        with CREATION_LOCK:  # moto checks the name and makes the stack in two steps, AWS in one.
            return super().call(service, operation, **arguments)


def empty_account() -> None:
    """Empty the account, except the thousand policies that AWS manages: moto needs seconds to load them."""
    for service in SERVICES:
        for account in get_backend(service).values():
            account.reset()
    for partition in [partition for account in get_backend("iam").values() for partition in account.values()]:
        partition.roles.clear()
        partition.instance_profiles.clear()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")
    # moto reads the variable once for each account. An earlier test of this process may have used the account.
    get_backend("iam").clear()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()
    monkeypatch.undo()


@pytest.fixture
def cloud(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> CountingCloud:
    """Return a session on a new account."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    empty_account()
    return CountingCloud(endpoint)


@pytest.fixture
def pars(cloud: CountingCloud) -> Pars:
    return Pars(cloud=cloud)


def deploy(pars: Pars, image_uri: str = "cloudknot:1", **choices: Any) -> KnotResources:
    """Deploy a plan of these choices, without looking them up in the region."""
    return deploy_knot(plan_for(pars, **choices), Prerequisites(pars, image_uri))


def plan_for(pars: Pars, **choices: Any) -> KnotPlan:
    # moto drops the timeout of a template, and each knot would get a second revision.
    options = KnotOptions.make(name="pi-calc", **{"timeout": NO_TIMEOUT, **choices})
    cloud = pars._cloud
    name = stack_name(options.name)
    return KnotPlan(
        cloud=cloud,
        options=options,
        image=image_in(DockerImage(func=abs)),
        builder=None,
        repository="cloudknot",
        template=Template.of(load("knot"), with_own(options.aws_resource_tags, name)),
        state=Stack(cloud, name).state(),
        pars=pars,
        read_at=time.time(),
    )


def compute_environment(cloud: Cloud, name: str = "pi-calc-cloudknot-compute-environment") -> dict[str, Any]:
    answer = cloud.call("batch", "describe_compute_environments", computeEnvironments=[name])
    environment: dict[str, Any] = answer["computeEnvironments"][0]
    return environment


def launch_data(cloud: Cloud) -> dict[str, Any]:
    """Return the newest version of the compute environment's launch template."""
    launch = compute_environment(cloud)["computeResources"]["launchTemplate"]
    answer = cloud.call(
        "ec2",
        "describe_launch_template_versions",
        LaunchTemplateId=launch["launchTemplateId"],
        Versions=[launch["version"]],
    )
    data: dict[str, Any] = answer["LaunchTemplateVersions"][0]["LaunchTemplateData"]
    return data


def job_definition(cloud: Cloud, arn: str) -> dict[str, Any]:
    answer = cloud.call("batch", "describe_job_definitions", jobDefinitions=[arn])
    revision: dict[str, Any] = answer["jobDefinitions"][0]
    return revision


def test_pars_uses_default_vpc_and_service_linked_roles(pars: Pars, cloud: CountingCloud) -> None:
    vpc = cloud.call("ec2", "describe_vpcs", VpcIds=[pars.vpc])["Vpcs"][0]
    assert vpc["IsDefault"]
    subnets = cloud.call("ec2", "describe_subnets", SubnetIds=pars.subnets)["Subnets"]
    assert {subnet["VpcId"] for subnet in subnets} == {pars.vpc}
    group = cloud.call("ec2", "describe_security_groups", GroupIds=[pars.security_group])["SecurityGroups"][0]
    assert (group["VpcId"], group["IpPermissions"]) == (pars.vpc, [])
    assert "/aws-service-role/batch.amazonaws.com/" in pars.batch_service_role
    assert "/aws-service-role/spotfleet.amazonaws.com/" in pars.spot_fleet_role
    assert pars.tags["Name"] == "default"


def test_pars_creates_named_roles(cloud: CountingCloud) -> None:
    pars = Pars("lab", "batchy", "instancy", "spotty", policies="AmazonS3FullAccess", cloud=cloud)
    account = cloud.account
    assert pars.batch_service_role == f"arn:aws:iam::{account}:role/cloudknot/batchy"
    assert pars.ecs_instance_role == f"arn:aws:iam::{account}:role/cloudknot/instancy"
    assert pars.spot_fleet_role == f"arn:aws:iam::{account}:role/cloudknot/spotty"
    assert f"arn:aws:iam::{account}:instance-profile/cloudknot/" in pars.ecs_instance_profile
    assert pars.policies == ["arn:aws:iam::aws:policy/AmazonS3FullAccess"]
    assert pars.job_role == "", "each knot has a job role of its own"
    tags = cloud.call("iam", "list_role_tags", RoleName="instancy")["Tags"]
    assert {"Key": "Name", "Value": "lab"} in tags


def test_job_role_is_limited_to_runs_of_knot_and_results_in_bucket(pars: Pars, cloud: CountingCloud) -> None:
    name = deploy(pars).job_role.rpartition("/")[2]
    policy = cloud.call("iam", "get_role_policy", RoleName=name, PolicyName="cloudknot-runs")["PolicyDocument"]
    assert set(re.findall(r"arn:[^'\"]+", str(policy))) == {
        f"arn:aws:s3:::{cloud.bucket}/cloudknot.jobs/pi-calc/*",
        f"arn:aws:s3:::{cloud.bucket}/cloudknot.jobs/*/outputs/*",
        f"arn:aws:s3:::{cloud.bucket}",
    }


def test_pars_creates_its_own_vpc(cloud: CountingCloud) -> None:
    pars = Pars("own", use_default_vpc=False, ipv4_cidr="10.7.0.0/20", cloud=cloud)
    vpc = cloud.call("ec2", "describe_vpcs", VpcIds=[pars.vpc])["Vpcs"][0]
    assert (vpc["CidrBlock"], vpc["IsDefault"]) == ("10.7.0.0/20", False)
    subnets = cloud.call("ec2", "describe_subnets", SubnetIds=pars.subnets)["Subnets"]
    assert sorted(subnet["CidrBlock"] for subnet in subnets) == ["10.7.0.0/21", "10.7.8.0/21"]
    assert sorted(subnet["AvailabilityZone"] for subnet in subnets) == ["eu-central-1a", "eu-central-1b"]
    inside = [{"Name": "vpc-id", "Values": [pars.vpc]}]
    endpoints = cloud.call("ec2", "describe_vpc_endpoints", Filters=inside)["VpcEndpoints"]
    assert [item["ServiceName"] for item in endpoints] == ["com.amazonaws.eu-central-1.s3"]
    tables = cloud.call("ec2", "describe_route_tables", Filters=inside)["RouteTables"]
    routes = [route for table in tables for route in table["Routes"]]
    assert any(route.get("GatewayId", "").startswith("igw-") for route in routes)


def test_pars_creates_vpc_in_account_without_default_vpc(cloud: CountingCloud) -> None:
    default = [{"Name": "is-default", "Values": ["true"]}]
    (vpc,) = cloud.call("ec2", "describe_vpcs", Filters=default)["Vpcs"]
    inside = [{"Name": "vpc-id", "Values": [vpc["VpcId"]]}]
    for subnet in cloud.call("ec2", "describe_subnets", Filters=inside)["Subnets"]:
        cloud.call("ec2", "delete_subnet", SubnetId=subnet["SubnetId"])
    cloud.call("ec2", "delete_vpc", VpcId=vpc["VpcId"])
    pars = Pars(cloud=cloud)
    assert pars.vpc not in ("", vpc["VpcId"])
    assert len(pars.subnets) == 2


def test_existing_pars_is_reused_with_two_reads(cloud: CountingCloud) -> None:
    first = Pars("own", use_default_vpc=False, ipv4_cidr="10.7.0.0/20", policies="AmazonS3FullAccess", cloud=cloud)
    cloud.calls.clear()
    again = Pars("own", policies="AmazonS3FullAccess", cloud=cloud)
    plain = Pars("own", cloud=cloud)
    assert cloud.calls == ["describe_stacks", "get_instance_profile"] * 2
    assert first.stack_id == again.stack_id == plain.stack_id
    assert first.vpc == plain.vpc


def test_pars_adds_new_policies_to_its_earlier_ones(cloud: CountingCloud) -> None:
    own = cloud.call("iam", "create_policy", PolicyName="mine", PolicyDocument=POLICY)["Policy"]["Arn"]
    Pars(policies="AmazonS3FullAccess", cloud=cloud)
    Pars(policies=["mine", "arn:aws:iam::aws:policy/AmazonSQSFullAccess"], cloud=cloud)
    state = Stack(cloud, "default-cloudknot-pars").state()
    assert state is not None
    assert state.parameters["Policies"].split(",") == [
        "arn:aws:iam::aws:policy/AmazonS3FullAccess",
        own,
        "arn:aws:iam::aws:policy/AmazonSQSFullAccess",
    ]


def test_unknown_policy_is_refused_before_any_write(cloud: CountingCloud) -> None:
    with pytest.raises(CloudknotInputError, match=r"'AmazonS3FulAccess' is not .*Near matches: AmazonS3FullAccess"):
        Pars(policies="AmazonS3FulAccess", cloud=cloud)
    assert Stack(cloud, "default-cloudknot-pars").state() is None


def test_tags_beyond_size_limit_of_template_are_refused(cloud: CountingCloud) -> None:
    with pytest.raises(CloudknotInputError, match=r"aws_resource_tags= is too long.*51,200"):
        Pars(aws_resource_tags={f"{number:0>100}": "v" * 256 for number in range(20)}, cloud=cloud)
    assert Stack(cloud, "default-cloudknot-pars").state() is None


def test_warning_names_tags_that_existing_pars_does_not_get(
    pars: Pars, cloud: CountingCloud, caplog: pytest.LogCaptureFixture
) -> None:
    Pars(cloud=cloud)
    assert not caplog.messages
    assert "Project" not in Pars(aws_resource_tags={"Project": "pi"}, cloud=cloud).tags
    assert [message.partition(" These tags are not set: ")[2].partition(".")[0] for message in caplog.messages] == [
        "Project=pi"
    ]


def test_clobbered_pars_refuses_use(pars: Pars, cloud: CountingCloud) -> None:
    pars.clobber()
    assert Stack(cloud, "default-cloudknot-pars").state() is None
    with pytest.raises(ResourceClobberedException, match="default"):
        _ = pars.execution_role


def test_knot_with_defaults_has_queue_environment_and_launch_template(pars: Pars, cloud: CountingCloud) -> None:
    knot = deploy(pars)
    assert knot.job_definition_name == "pi-calc-cloudknot-job-definition"
    assert knot.job_definition_arn.endswith(":job-definition/pi-calc-cloudknot-job-definition:1")
    queue = cloud.call("batch", "describe_job_queues", jobQueues=[knot.job_queue_name])["jobQueues"][0]
    assert queue["jobQueueArn"] == knot.job_queue_arn
    assert queue["computeEnvironmentOrder"][0]["computeEnvironment"] == knot.compute_environment_arn
    computing = compute_environment(cloud)["computeResources"]
    assert computing["type"] == "EC2"
    assert computing["allocationStrategy"] == "BEST_FIT_PROGRESSIVE"
    assert (computing["minvCpus"], computing.get("desiredvCpus", 0), computing["maxvCpus"]) == (0, 0, 256)
    assert computing["instanceTypes"] == ["optimal"]
    assert computing["subnets"] == pars.subnets
    assert "bidPercentage" not in computing
    assert launch_data(cloud)["TagSpecifications"][0]["ResourceType"] == "volume"
    assert launch_data(cloud)["MetadataOptions"] == {"HttpTokens": "required"}
    assert "BlockDeviceMappings" not in launch_data(cloud)


def test_job_definition_has_default_container_properties(pars: Pars, cloud: CountingCloud) -> None:
    knot = deploy(pars)
    container = job_definition(cloud, knot.job_definition_arn)["containerProperties"]
    assert container["image"] == "cloudknot:1"
    assert container["jobRoleArn"] == knot.job_role
    assert ":role/cloudknot/pi-calc-cloudknot-JobRole" in knot.job_role
    assert {item["type"]: item["value"] for item in container["resourceRequirements"]} == {
        "VCPU": "1",
        "MEMORY": "1900",
    }
    assert container["environment"] == [{"name": "AWS_DEFAULT_REGION", "value": REGION}]
    assert container["linuxParameters"] == {"initProcessEnabled": True}


def test_compute_environment_has_chosen_machine_options(pars: Pars, cloud: CountingCloud) -> None:
    deploy(pars, bid_percentage=60, volume_size=100, n_gpus=1, ec2_key_pair="lab", desired_vcpus=0, max_vcpus=16)
    computing = compute_environment(cloud)["computeResources"]
    assert computing["type"] == "SPOT"
    assert computing["allocationStrategy"] == "SPOT_PRICE_CAPACITY_OPTIMIZED"
    assert int(computing["bidPercentage"]) == 60
    assert computing["instanceTypes"] == ["g4dn", "g5"]
    assert computing["ec2KeyPair"] == "lab"
    assert computing["ec2Configuration"] == [{"imageType": "ECS_AL2023_NVIDIA"}]
    (disk,) = launch_data(cloud)["BlockDeviceMappings"]
    assert (disk["DeviceName"], disk["Ebs"]["VolumeSize"]) == ("/dev/xvda", 100)


def test_compute_environment_has_users_machine_image(pars: Pars, cloud: CountingCloud) -> None:
    deploy(pars, image_id="ami-0123456789abcdef0")
    (configured,) = compute_environment(cloud)["computeResources"]["ec2Configuration"]
    assert configured == {"imageType": "ECS_AL2023", "imageIdOverride": "ami-0123456789abcdef0"}


def test_unchanged_knot_causes_only_read_calls(pars: Pars, cloud: CountingCloud) -> None:
    knot = deploy(pars, timeout=600, retries=3)
    deploy(pars, timeout=600, retries=3)
    cloud.calls.clear()
    again = deploy(Pars(cloud=cloud), timeout=600, retries=3)
    reads_of_pars = ["describe_stacks", "get_instance_profile"]
    assert cloud.calls == [*reads_of_pars, "describe_stacks", "describe_job_definitions"]
    assert (again.stack_id, again.job_queue_arn, again.retries) == (knot.stack_id, knot.job_queue_arn, 3)


def test_deploy_with_outdated_plan_reads_stack_again(pars: Pars, cloud: CountingCloud) -> None:
    """Building an image can take so long that another session changes the stack meanwhile."""
    first = deploy(pars)
    plan = plan_for(pars)
    outdated = replace(plan, read_at=plan.read_at - FRESH)
    deploy(pars, max_vcpus=100)
    cloud.calls.clear()
    again = deploy_knot(outdated, Prerequisites(pars, first.image_uri))
    assert "update_stack" in cloud.calls
    assert again.max_vcpus == 256


def test_deploy_reuses_knot_created_after_its_plan(pars: Pars, cloud: CountingCloud) -> None:
    plan = plan_for(pars)
    first = deploy(pars)
    assert deploy_knot(plan, Prerequisites(pars, first.image_uri)) == first


def test_deploy_with_new_image_registers_revision(pars: Pars, cloud: CountingCloud) -> None:
    deploy(pars, "cloudknot:1")
    cloud.calls.clear()
    second = deploy(pars, "cloudknot:2")
    assert cloud.calls == ["describe_stacks", "describe_job_definitions", "register_job_definition"]
    assert second.job_definition_arn.endswith(":2")
    assert job_definition(cloud, second.job_definition_arn)["containerProperties"]["image"] == "cloudknot:2"
    assert job_definition(cloud, second.job_definition_arn)["tags"] == {
        **second.tags,
        "cloudknot": "pi-calc-cloudknot",
    }


def test_deploy_with_earlier_image_registers_revision_again(pars: Pars, cloud: CountingCloud) -> None:
    """A session that connects to the knot by name gets its latest function."""
    deploy(pars, "cloudknot:1")
    deploy(pars, "cloudknot:2")
    first = deploy(pars, "cloudknot:1")
    assert first.job_definition_arn.endswith(":3")
    assert find_knot(cloud, "pi-calc") == first
    cloud.calls.clear()
    assert deploy(pars, "cloudknot:1") == first
    assert cloud.calls == ["describe_stacks", "describe_job_definitions"]


@pytest.mark.parametrize("retries", [1, 3])
def test_deploy_with_changed_job_choices_registers_revision(pars: Pars, cloud: CountingCloud, retries: int) -> None:
    deploy(pars)
    cloud.calls.clear()
    knot = deploy(pars, memory=500, timeout=90, retries=retries)
    assert "update_stack" not in cloud.calls
    revision = job_definition(cloud, knot.job_definition_arn)
    assert revision["timeout"] == {"attemptDurationSeconds": 90}
    assert revision["retryStrategy"]["attempts"] == 10
    assert {"onStatusReason": "Essential container*", "action": "exit"} in revision["retryStrategy"]["evaluateOnExit"]
    assert find_knot(cloud, "pi-calc").retries == retries
    assert {"type": "MEMORY", "value": "500"} in revision["containerProperties"]["resourceRequirements"]


def test_deploy_with_changed_compute_choice_updates_stack(pars: Pars, cloud: CountingCloud) -> None:
    first = deploy(pars)
    cloud.calls.clear()
    second = deploy(pars, max_vcpus=100)
    assert "update_stack" in cloud.calls
    assert (second.stack_id, second.job_queue_arn) == (first.stack_id, first.job_queue_arn)
    cloud.calls.clear()
    deploy(pars, max_vcpus=100)
    assert cloud.calls == ["describe_stacks", "describe_job_definitions"]


def test_find_knot_returns_deployed_resources(pars: Pars, cloud: CountingCloud) -> None:
    deploy(pars, "cloudknot:1")
    knot = deploy(pars, "cloudknot:2", retries=4)
    assert find_knot(CountingCloud(str(cloud.endpoint_url)), "pi-calc") == knot
    with pytest.raises(ResourceDoesNotExistException, match="nobody"):
        find_knot(cloud, "nobody")


def test_clobber_knot_leaves_no_stack_and_no_revision(pars: Pars, cloud: CountingCloud) -> None:
    deploy(pars, "cloudknot:1")
    knot = deploy(pars, "cloudknot:2")
    clobber_knot(cloud, "pi-calc", Extras())
    assert Stack(cloud, "pi-calc-cloudknot").state() is None
    active = cloud.call(
        "batch", "describe_job_definitions", jobDefinitionName=knot.job_definition_name, status="ACTIVE"
    )
    assert active["jobDefinitions"] == []
    clobber_knot(cloud, "pi-calc", Extras())


def test_concurrent_sessions_share_one_pars(cloud: CountingCloud) -> None:
    barrier = threading.Barrier(4)
    sessions = [RacingSession(barrier, str(cloud.endpoint_url)) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        all_pars = list(pool.map(lambda session: Pars(cloud=session), sessions))
    assert len({item.stack_id for item in all_pars}) == 1


def test_racing_sessions_keep_all_policies_of_pars(cloud: CountingCloud) -> None:
    policies, barrier = ["AmazonS3FullAccess", "AmazonSQSFullAccess"], threading.Barrier(2)
    sessions = [RacingSession(barrier, str(cloud.endpoint_url), f"race-{number}-bucket") for number in range(2)]
    with ThreadPoolExecutor(2) as pool:
        all_pars = list(
            pool.map(lambda policy, session: Pars("race", policies=policy, cloud=session), policies, sessions)
        )
    assert len({pars.stack_id for pars in all_pars}) == 1
    state = Stack(cloud, "race-cloudknot-pars").state()
    assert state is not None
    assert set(state.parameters["Policies"].split(",")) == {f"arn:aws:iam::aws:policy/{name}" for name in policies}
