"""The resources of an account, by name or id, in every service that cloudknot uses."""

import contextlib

from cloudknot.aws import batch
from cloudknot.errors import ResourceDoesNotExistException
from tests.helpers.waiting import until


def inventory(cloud):
    """Return the present names of each kind of resource."""
    return {kind: sorted(names(cloud)) for kind, names in KINDS.items()}


def lasting(cloud):
    """Return the inventory of a shared cloud without jobs and objects: jobs of earlier tests may still be ending."""
    return {kind: names for kind, names in inventory(cloud).items() if kind not in ("live jobs", "objects")}


def idle_inventory(cloud):
    """Return the inventory to compare a later one with, once no job runs and no stack changes.

    A result is there before its job has ended, and earlier tests may have left jobs. One that never ends does no harm.
    """
    with contextlib.suppress(AssertionError):
        until(lambda: not any(_live_jobs(cloud)) and not any(_changing_stacks(cloud)), 30, pause=0.1)
    return inventory(cloud)


def _changing_stacks(cloud):
    for page in cloud.pages("cloudformation", "describe_stacks"):
        yield from (stack["StackName"] for stack in page["Stacks"] if stack["StackStatus"].endswith("_IN_PROGRESS"))


def _names(service, operation, rows, name, **arguments):
    """Return a function that lists the ``name`` of every row in a paginated answer."""
    return lambda cloud: [row[name] for page in cloud.pages(service, operation, **arguments) for row in page[rows]]


def _policies_of_roles(cloud):
    for role in _names("iam", "list_roles", "Roles", "RoleName")(cloud):
        # A stack that is being deleted may have deleted the role since.
        with contextlib.suppress(ResourceDoesNotExistException):
            attached = cloud.call("iam", "list_attached_role_policies", RoleName=role)["AttachedPolicies"]
            inline = cloud.call("iam", "list_role_policies", RoleName=role)["PolicyNames"]
            yield from (f"{role}: {name}" for name in [*(policy["PolicyName"] for policy in attached), *inline])


def _routes(cloud):
    for table in cloud.call("ec2", "describe_route_tables")["RouteTables"]:
        yield from (f"{table['RouteTableId']}: {route.get('DestinationCidrBlock')}" for route in table["Routes"])
        yield from (f"{table['RouteTableId']}: {link.get('SubnetId')}" for link in table["Associations"])


def _instances(cloud):
    for page in cloud.pages("ec2", "describe_instances"):
        for reservation in page["Reservations"]:
            for instance in reservation["Instances"]:
                if instance["State"]["Name"] not in ("terminated", "shutting-down"):
                    yield instance["InstanceId"]


def _endpoints(cloud):
    for endpoint in cloud.call("ec2", "describe_vpc_endpoints")["VpcEndpoints"]:
        if endpoint["State"].lower() != "deleted":
            yield endpoint["VpcEndpointId"]


def _images(cloud):
    for repository in _names("ecr", "describe_repositories", "repositories", "repositoryName")(cloud):
        for page in cloud.pages("ecr", "list_images", repositoryName=repository):
            yield from (f"{repository}:{image.get('imageTag')}" for image in page["imageIds"])


def _live_jobs(cloud):
    for queue in _names("batch", "describe_job_queues", "jobQueues", "jobQueueArn")(cloud):
        # None for a queue that was deleted since. A job that changes its state meanwhile may be listed twice.
        yield from {job["jobId"] for job in batch.live_jobs(cloud, queue)}


def _buckets(cloud):
    return [bucket["Name"] for bucket in cloud.call("s3", "list_buckets")["Buckets"]]


def _objects(cloud):
    for bucket in _buckets(cloud):
        for page in cloud.pages("s3", "list_objects_v2", Bucket=bucket):
            yield from (f"{bucket}/{item['Key']}" for item in page.get("Contents", ()))


KINDS = {
    "stacks": _names("cloudformation", "describe_stacks", "Stacks", "StackName"),
    "roles": _names("iam", "list_roles", "Roles", "RoleName"),
    "policies of roles": _policies_of_roles,
    "instance profiles": _names("iam", "list_instance_profiles", "InstanceProfiles", "InstanceProfileName"),
    "policies": _names("iam", "list_policies", "Policies", "PolicyName", Scope="Local"),
    "vpcs": _names("ec2", "describe_vpcs", "Vpcs", "VpcId"),
    "subnets": _names("ec2", "describe_subnets", "Subnets", "SubnetId"),
    "security groups": _names("ec2", "describe_security_groups", "SecurityGroups", "GroupId"),
    "route tables": _names("ec2", "describe_route_tables", "RouteTables", "RouteTableId"),
    "routes": _routes,
    "internet gateways": _names("ec2", "describe_internet_gateways", "InternetGateways", "InternetGatewayId"),
    "endpoints": _endpoints,
    "launch templates": _names("ec2", "describe_launch_templates", "LaunchTemplates", "LaunchTemplateId"),
    "instances": _instances,
    "network interfaces": _names("ec2", "describe_network_interfaces", "NetworkInterfaces", "NetworkInterfaceId"),
    "repositories": _names("ecr", "describe_repositories", "repositories", "repositoryName"),
    "images": _images,
    "compute environments": _names(
        "batch", "describe_compute_environments", "computeEnvironments", "computeEnvironmentName"
    ),
    "job queues": _names("batch", "describe_job_queues", "jobQueues", "jobQueueName"),
    "job definitions": _names(
        "batch", "describe_job_definitions", "jobDefinitions", "jobDefinitionArn", status="ACTIVE"
    ),
    "live jobs": _live_jobs,
    "build projects": lambda cloud: cloud.call("codebuild", "list_projects")["projects"],
    "log groups": _names("logs", "describe_log_groups", "logGroups", "logGroupName"),
    "buckets": _buckets,
    "objects": _objects,
}
