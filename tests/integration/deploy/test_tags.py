"""The user's tags are on everything that a knot, its Pars and its maps make, wherever AWS can tag it."""

import re

import pytest

import cloudknot as ck
from cloudknot.aws.tags import with_own
from cloudknot.deploy import knot_stack
from cloudknot.deploy.cloudformation import template
from cloudknot.deploy.cloudformation.stack import Stack
from cloudknot.deploy.inventory import stack_name
from cloudknot.options.choices import KnotOptions
from tests.helpers.functions import nap, square
from tests.helpers.inventory import inventory

TAGS = {"Project": "squares", "Cost Center": "A-7"}


def as_dict(pairs):
    return {one.get("Key", one.get("key")): one.get("Value", one.get("value")) for one in pairs}


def of_ec2(cloud, kind, name):
    """Tags of what EC2 has, by id."""
    found = cloud.call("ec2", "describe_tags", Filters=[{"Name": "resource-id", "Values": [name]}])["Tags"]
    return as_dict(found)


def of_batch(noun, key):
    """Tags of what Batch has, by name or ARN."""
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
WITHOUT = {"policies of roles", "routes", "images", "objects"}
"""What AWS has no tags for, and objects, which are the user's data: those of a bucket are its own."""
BATCHS_OWN = {"clusters", "policies"}
"""Batch makes a cluster for each environment, and tags it itself."""


@pytest.fixture(scope="module")
def empty_cloud(tmp_path_factory):
    with ck.LocalCloud(tmp_path_factory.mktemp("tags"), vcpus=2) as cloud:
        yield cloud


def made_with(cloud, vpc):
    """What AWS makes by itself along with a VPC, by kind: its main route table and its default security group."""
    inside = [{"Name": "vpc-id", "Values": [vpc]}]
    tables = cloud.call("ec2", "describe_route_tables", Filters=inside)["RouteTables"]
    groups = cloud.call("ec2", "describe_security_groups", Filters=inside)["SecurityGroups"]
    main = {one["RouteTableId"] for one in tables if any(each.get("Main") for each in one["Associations"])}
    return {
        "route tables": main,
        "security groups": {one["GroupId"] for one in groups if one["GroupName"] == "default"},
    }


def assert_tagged(cloud, before, apart):
    """Everything that is there now and was not before has the tags; gives the kinds that were looked at."""
    seen = set()
    for kind, names in inventory(cloud).items():
        new = set(names) - set(before[kind]) - apart.get(kind, set())
        if not new or kind in WITHOUT | BATCHS_OWN:
            continue
        for name in new:
            tags = TAGS_OF[kind](cloud, kind, name)
            assert {**tags, **TAGS} == tags, f"{kind}: {name} has {tags}"
        seen.add(kind)
    return seen


def test_everything_that_is_made_has_the_tags(empty_cloud):
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
    maps = [knot.map([600, 600]), knot.map([600]), knot.map([600, 600], job_type="independent")]
    later = ck.Knot(name="tagged", cloud=cloud).map([600])
    gathered = maps[0].reduce(sum)
    seen = assert_tagged(cloud, before, made_with(cloud, pars.vpc))
    assert seen == set(TAGS_OF) - {"instances", "network interfaces"}
    for future in (*maps, later, gathered):
        future.cancel()


def flaky(path):
    with open(path) as stream:
        return stream.read()


def test_jobs_that_are_submitted_again_or_by_a_later_session_have_them(cloud, tmp_path):
    knot = ck.Knot(name="tagged-again", func=flaky, aws_resource_tags=TAGS, cloud=cloud)
    future = knot.map([str(tmp_path / "missing"), str(tmp_path / "too")])
    assert isinstance(future[0].exception(120), FileNotFoundError)
    assert isinstance(future[1].exception(120), FileNotFoundError)
    job = ck.BatchJob(future.job.job_id, cloud=cloud)
    job.retry_failed()
    gathered = job.reduce(len, requirements=[])
    for submitted in (job.job_id, gathered.job.job_id):
        tags = TAGS_OF["live jobs"](cloud, "live jobs", submitted)
        assert {**tags, **TAGS} == tags
    assert tags["cloudknot"] == "tagged-again-cloudknot"


def test_what_a_knot_makes_for_all_has_its_tags_and_no_other_ones(tmp_path, caplog):
    with ck.LocalCloud(tmp_path, vcpus=2) as cloud:
        ck.Knot(name="first", func=square, aws_resource_tags=TAGS, cloud=cloud)
        caplog.clear()
        second = ck.Knot(name="second", func=square, aws_resource_tags={"Project": "cubes"}, cloud=cloud)
        assert {**TAGS, "Name": "default"}.items() <= second.pars.tags.items()
        assert caplog.messages == []


def launch_data(cloud, knot):
    """What the newest version of the launch template says, or None without one."""
    (found,) = cloud.call("batch", "describe_compute_environments", computeEnvironments=[knot.compute_environment])[
        "computeEnvironments"
    ]
    launch = found["computeResources"].get("launchTemplate")
    if launch is None:
        return None
    wanted = {"LaunchTemplateId": launch["launchTemplateId"], "Versions": [launch["version"]]}
    (version,) = cloud.call("ec2", "describe_launch_template_versions", **wanted)["LaunchTemplateVersions"]
    return version["LaunchTemplateData"]


def test_disks_get_the_tags_from_a_launch_template(cloud):
    choices = {"func": square, "aws_resource_tags": TAGS, "cloud": cloud}
    for size in (None, 80, None):
        data = launch_data(cloud, ck.Knot(name="tagged-disk", volume_size=size, **choices))
        (tagged,) = (one for one in data["TagSpecifications"] if one["ResourceType"] == "volume")
        assert TAGS.items() <= as_dict(tagged["Tags"]).items()
        assert [disk["Ebs"]["VolumeSize"] for disk in data.get("BlockDeviceMappings", ())] == [size] * bool(size)


def test_the_machines_of_a_knot_without_a_launch_template_are_not_exchanged_for_one(cloud):
    """As another version of cloudknot made it: without the parameter, and without the launch template."""
    text = re.sub(r"(?ms)^  DiskTemplate:\n.*?\n(?=  ImageId:)", "", template.load("knot"))
    text = text.replace('!Equals [!Ref DiskTemplate, "yes"]', '!Equals [!Ref ImageId, "none"]')
    options = KnotOptions.make(name="tagged-older")
    older = knot_stack.wanted_parameters(options, ck.Pars(cloud=cloud), "registry/cloudknot:1", cloud.bucket)
    older.pop("DiskTemplate")
    name = stack_name("tagged-older")
    Stack(cloud, name).deploy(template.Template.of(text, with_own(options.aws_resource_tags, name)), older)
    knot = ck.Knot(name="tagged-older", func=square, cloud=cloud)
    assert launch_data(cloud, knot) is None
    updated = Stack(cloud, name).state()
    assert ck.Knot(name="tagged-older", func=square, cloud=cloud).map([3]).result(120) == [9]
    assert Stack(cloud, name).state() == updated
    knot = ck.Knot(name="tagged-older", func=square, volume_size=60, cloud=cloud)
    assert launch_data(cloud, knot)["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] == 60
