"""A knot, its Pars and its runs put the user's tags on every resource that AWS can tag, on the embedded cloud."""

import re

import pytest

import cloudknot as ck
from cloudknot.aws.tags import with_own
from cloudknot.deploy import knot_stack
from cloudknot.deploy.cloudformation import template
from cloudknot.deploy.cloudformation.stack import Stack
from cloudknot.deploy.inventory import stack_name
from cloudknot.deploy.job_definition import BucketName
from cloudknot.options.choices import KnotOptions
from tests.helpers.functions import nap, square
from tests.helpers.inventory import inventory
from tests.helpers.waiting import until

TAGS = {"Project": "squares", "Cost Center": "A-7"}


def as_dict(pairs):
    return {pair.get("Key", pair.get("key")): pair.get("Value", pair.get("value")) for pair in pairs}


def of_ec2(cloud, kind, name):
    """Return the tags of an EC2 resource by its id."""
    answer = cloud.call("ec2", "describe_tags", Filters=[{"Name": "resource-id", "Values": [name]}])
    return as_dict(answer["Tags"])


def of_batch(noun, key):
    """Return a reader of the tags of Batch resources by name or ARN."""
    return lambda cloud, kind, name: cloud.call("batch", f"describe_{noun}", **{key: [name]})[key][0]["tags"]


TAGS_OF = {
    "stacks": lambda cloud, kind, name: Stack(cloud, name).state().tags,
    "roles": lambda cloud, kind, name: as_dict(cloud.call("iam", "list_role_tags", RoleName=name)["Tags"]),
    "instance profiles": lambda cloud, kind, name: as_dict(
        cloud.call("iam", "get_instance_profile", InstanceProfileName=name)["InstanceProfile"]["Tags"]
    ),
    **dict.fromkeys(
        (
            *("vpcs", "subnets", "security groups", "route tables", "internet gateways", "endpoints"),
            *("launch templates", "instances", "network interfaces"),
        ),
        of_ec2,
    ),
    "repositories": lambda cloud, kind, name: as_dict(
        cloud.call("ecr", "list_tags_for_resource", resourceArn=ck.DockerRepo(name, cloud=cloud).arn)["tags"]
    ),
    "compute environments": of_batch("compute_environments", "computeEnvironments"),
    "job queues": of_batch("job_queues", "jobQueues"),
    "job definitions": of_batch("job_definitions", "jobDefinitions"),
    "live jobs": of_batch("jobs", "jobs"),
    "log groups": lambda cloud, kind, name: cloud.call("logs", "list_tags_log_group", logGroupName=name)["tags"],
    "buckets": lambda cloud, kind, name: as_dict(cloud.call("s3", "get_bucket_tagging", Bucket=name)["TagSet"]),
}
UNTAGGED = {"policies of roles", "routes", "images", "objects"}
"""Kinds that AWS cannot tag, and objects: they are the user's data, and only their bucket has tags."""
TAGGED_BY_BATCH = {"clusters", "policies"}
"""Batch makes a cluster for each environment, and tags it itself."""


@pytest.fixture(scope="module")
def empty_cloud(tmp_path_factory):
    with ck.LocalCloud(tmp_path_factory.mktemp("tags"), vcpus=2) as cloud:
        yield cloud


def made_by_aws_with(cloud, vpc):
    """Return the main route table and the default security group that AWS adds to each VPC, by kind."""
    inside = [{"Name": "vpc-id", "Values": [vpc]}]
    tables = cloud.call("ec2", "describe_route_tables", Filters=inside)["RouteTables"]
    groups = cloud.call("ec2", "describe_security_groups", Filters=inside)["SecurityGroups"]
    main = {
        table["RouteTableId"]
        for table in tables
        if any(association.get("Main") for association in table["Associations"])
    }
    return {
        "route tables": main,
        "security groups": {group["GroupId"] for group in groups if group["GroupName"] == "default"},
    }


def assert_tagged(cloud, before, excluded):
    """Check that each resource made since `before` has the tags. Return the kinds of these resources."""
    kinds = set()
    for kind, names in inventory(cloud).items():
        new = set(names) - set(before[kind]) - excluded.get(kind, set())
        if not new or kind in UNTAGGED | TAGGED_BY_BATCH:
            continue
        for name in new:
            tags = TAGS_OF[kind](cloud, kind, name)
            assert {**tags, **TAGS} == tags, f"{kind}: {name} has {tags}"
        kinds.add(kind)
    return kinds


def test_every_new_resource_has_users_tags(empty_cloud):
    cloud = empty_cloud
    cloud.call("iam", "create_service_linked_role", AWSServiceName="batch.amazonaws.com")
    before = inventory(cloud)
    pars = ck.Pars(
        "tagged",
        batch_service_role_name="tagged-batch",
        spot_fleet_role_name="tagged-spot",
        use_default_vpc=False,
        aws_resource_tags=TAGS,
        cloud=cloud,
    )
    knot = ck.Knot(name="tagged", func=square, pars=pars, aws_resource_tags=TAGS, cloud=cloud)
    assert knot.map([1, 2]).result(120) == [1, 4]
    knot = ck.Knot(name="tagged", func=nap, pars=pars, aws_resource_tags=TAGS, cloud=cloud)
    futures = [knot.map([600, 600]), knot.map([600]), knot.map([600, 600], job_type="independent")]
    later = ck.Knot(name="tagged", cloud=cloud).map([600])
    gathered = futures[0].reduce(sum)
    kinds = assert_tagged(cloud, before, made_by_aws_with(cloud, pars.vpc))
    assert kinds == set(TAGS_OF) - {"instances", "network interfaces"}
    for future in (*futures, later, gathered):
        future.cancel()


def read_file(path):
    with open(path) as stream:
        return stream.read()


def test_retry_and_reduce_of_later_session_have_knots_tags(cloud, tmp_path):
    knot = ck.Knot(name="tagged-again", func=read_file, aws_resource_tags=TAGS, cloud=cloud)
    future = knot.map([str(tmp_path / "missing"), str(tmp_path / "too")])
    assert isinstance(future[0].exception(120), FileNotFoundError)
    assert isinstance(future[1].exception(120), FileNotFoundError)
    # Another session knows of all failures only when the job has ended, a moment after its last result.
    until(lambda: future.job.status == "FAILED")
    job = ck.BatchJob(future.job.job_id, cloud=cloud)
    job.retry_failed()
    gathered = job.reduce(len, requirements=[])
    for submitted in (job.job_id, gathered.job.job_id):
        tags = TAGS_OF["live jobs"](cloud, "live jobs", submitted)
        assert {**tags, **TAGS} == tags
    assert tags["cloudknot"] == "tagged-again-cloudknot"


def test_shared_resources_keep_tags_of_first_knot(tmp_path, caplog):
    with ck.LocalCloud(tmp_path, vcpus=2) as cloud:
        ck.Knot(name="first", func=square, aws_resource_tags=TAGS, cloud=cloud)
        caplog.clear()
        second = ck.Knot(name="second", func=square, aws_resource_tags={"Project": "cubes"}, cloud=cloud)
        assert {**TAGS, "Name": "default"}.items() <= second.pars.tags.items()
        assert caplog.messages == []


def launch_data(cloud, knot):
    """Return the newest version of the knot's launch template, or None without one."""
    (environment,) = cloud.call(
        "batch", "describe_compute_environments", computeEnvironments=[knot.compute_environment]
    )["computeEnvironments"]
    launch = environment["computeResources"].get("launchTemplate")
    if launch is None:
        return None
    newest = {"LaunchTemplateId": launch["launchTemplateId"], "Versions": [launch["version"]]}
    (version,) = cloud.call("ec2", "describe_launch_template_versions", **newest)["LaunchTemplateVersions"]
    return version["LaunchTemplateData"]


def test_launch_template_gives_tags_to_disks(cloud):
    choices = {"func": square, "aws_resource_tags": TAGS, "cloud": cloud}
    for size in (None, 80, None):
        data = launch_data(cloud, ck.Knot(name="tagged-disk", volume_size=size, **choices))
        (volume,) = (
            specification for specification in data["TagSpecifications"] if specification["ResourceType"] == "volume"
        )
        assert TAGS.items() <= as_dict(volume["Tags"]).items()
        assert [disk["Ebs"]["VolumeSize"] for disk in data.get("BlockDeviceMappings", ())] == [size] * bool(size)


def test_knot_of_earlier_version_keeps_machines_without_launch_template(cloud):
    """An earlier version of cloudknot deployed the knot without the parameter and the launch template."""
    text = re.sub(r"(?ms)^  DiskTemplate:\n.*?\n(?=  ImageId:)", "", template.load("knot"))
    text = text.replace('!Equals [!Ref DiskTemplate, "yes"]', '!Equals [!Ref ImageId, "none"]')
    options = KnotOptions.make(name="tagged-older")
    parameters = knot_stack.wanted_parameters(
        options, ck.Pars(cloud=cloud), "registry/cloudknot:1", BucketName(cloud.bucket)
    )
    parameters.pop("DiskTemplate")
    name = stack_name("tagged-older")
    Stack(cloud, name).deploy(template.Template.of(text, with_own(options.aws_resource_tags, name)), parameters)
    knot = ck.Knot(name="tagged-older", func=square, cloud=cloud)
    assert launch_data(cloud, knot) is None
    state = Stack(cloud, name).state()
    assert ck.Knot(name="tagged-older", func=square, cloud=cloud).map([3]).result(120) == [9]
    assert Stack(cloud, name).state() == state
    knot = ck.Knot(name="tagged-older", func=square, volume_size=60, cloud=cloud)
    assert launch_data(cloud, knot)["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] == 60
