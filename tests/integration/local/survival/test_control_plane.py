"""Users, networks, repositories, stacks and knots of a cloud survive its server, whatever ended it."""

import json

import pytest

import cloudknot as ck
from cloudknot.errors import PermissionDeniedError
from cloudknot.local.cloudformation.calls import InProcessServices
from cloudknot.local.directory.documents import Documents, cloud_database
from cloudknot.local.iam.accesses import Names
from cloudknot.local.iam.gate import Gate
from cloudknot.local.iam.keys import Keys
from cloudknot.local.iam.policy_reader import Policies
from cloudknot.local.iam.signing import AccessKey
from cloudknot.local.server.services.ec2.api import Ec2
from cloudknot.local.server.services.service import ControlPlane
from cloudknot.local.wsgi import ServiceError
from tests.helpers.inventory import inventory
from tests.helpers.waiting import until
from tests.integration.local.stacks import TEMPLATE, Stack
from tests.integration.local.survival.conftest import end

READ = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "ec2:Describe*", "Resource": "*"}}
NETWORK = """
Resources:
  Vpc: {Type: AWS::EC2::VPC, Properties: {CidrBlock: 10.0.0.0/16}}
  Subnet: {Type: AWS::EC2::Subnet, Properties: {VpcId: !Ref Vpc, CidrBlock: 10.0.0.0/17}}
  Gateway: {Type: AWS::EC2::InternetGateway}
  Attachment: {Type: AWS::EC2::VPCGatewayAttachment, Properties: {VpcId: !Ref Vpc, InternetGatewayId: !Ref Gateway}}
  Table: {Type: AWS::EC2::RouteTable, Properties: {VpcId: !Ref Vpc}}
  Link: {Type: AWS::EC2::SubnetRouteTableAssociation, Properties: {SubnetId: !Ref Subnet, RouteTableId: !Ref Table}}
  Log: {Type: AWS::Logs::LogGroup, DependsOn: Link, Properties: {RetentionInDays: 7}}
"""
"""Most of these resources have no name, so that only their ids tell whether they are left."""


LIFECYCLE = "{" + 100 * " " + "}"


def square(x):
    return x * x


@pytest.fixture
def iam_cloud(tmp_path):
    """Yield a cloud that enforces the policies of its users."""
    with ck.LocalCloud(tmp_path / "iam", vcpus=2, iam=True) as cloud:
        yield cloud


def fill(cloud):
    """Create a resource of each kind that a stack or a session makes, and return the keys of a user."""
    cloud.call("ecr", "create_repository", repositoryName="kept/images", tags=[{"Key": "lab", "Value": "7"}])
    cloud.call("ecr", "put_lifecycle_policy", repositoryName="kept/images", lifecyclePolicyText=LIFECYCLE)
    data = {"InstanceType": "c5.large"}
    cloud.call("ec2", "create_launch_template", LaunchTemplateName="kept", LaunchTemplateData=data)
    cloud.call("ec2", "create_security_group", GroupName="kept", Description="kept")
    cloud.call("iam", "create_user", UserName="ann")
    cloud.call("iam", "put_user_policy", UserName="ann", PolicyName="reads", PolicyDocument=json.dumps(READ))
    return cloud.call("iam", "create_access_key", UserName="ann")["AccessKey"]


def described(cloud):
    """Return descriptions that hold times and ids, besides the inventory."""
    answers = [
        cloud.call("iam", "get_user", UserName="ann")["User"],
        cloud.call("iam", "list_access_keys", UserName="ann")["AccessKeyMetadata"],
        cloud.call("ec2", "describe_launch_template_versions", LaunchTemplateName="kept")["LaunchTemplateVersions"],
        cloud.call("ec2", "describe_security_groups")["SecurityGroups"],
        cloud.call("ecr", "describe_repositories")["repositories"],
        cloud.call("ecr", "get_lifecycle_policy", repositoryName="kept/images")["lifecyclePolicyText"],
    ]
    return inventory(cloud), answers


def test_resources_and_keys_survive_server(iam_cloud, interrupted):
    key = fill(iam_cloud)
    before, login = described(iam_cloud), iam_cloud.environment()
    interrupted(iam_cloud)
    assert described(iam_cloud) == before
    assert iam_cloud.environment() == login
    ann = ck.LocalCloud(
        iam_cloud.directory, aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"]
    )
    assert ann.call("ec2", "describe_vpcs")["Vpcs"]
    with pytest.raises(PermissionDeniedError):
        ann.call("iam", "list_users")


def test_sessions_of_roles_and_deleted_keys_survive_server(iam_cloud, interrupted):
    key = fill(iam_cloud)
    statement = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    role = iam_cloud.call(
        "iam", "create_role", RoleName="reader", AssumeRolePolicyDocument=json.dumps({"Statement": [statement]})
    )["Role"]
    iam_cloud.call("iam", "put_role_policy", RoleName="reader", PolicyName="reads", PolicyDocument=json.dumps(READ))
    keys = iam_cloud.call("sts", "assume_role", RoleArn=role["Arn"], RoleSessionName="me")["Credentials"]
    iam_cloud.call("iam", "delete_access_key", UserName="ann", AccessKeyId=key["AccessKeyId"])
    interrupted(iam_cloud)
    session = ck.LocalCloud(
        iam_cloud.directory,
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["SessionToken"],
    )
    assert session.call("ec2", "describe_vpcs")["Vpcs"]
    ann = ck.LocalCloud(
        iam_cloud.directory, aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"]
    )
    with pytest.raises(ck.CredentialsError, match="InvalidClientTokenId"):
        ann.call("ec2", "describe_vpcs")


def test_knot_and_its_stacks_survive_server(own_cloud, interrupted):
    knot = ck.Knot(name="kept", func=square, cloud=own_cloud)
    assert knot.map([3]).result(300) == [9]
    gone = Stack(own_cloud, "gone")
    gone.make("create_stack", "Resources: {Nothing: {Type: AWS::CloudFormation::WaitConditionHandle}}")
    gone.delete()
    stacks = own_cloud.call("cloudformation", "describe_stacks")["Stacks"]
    events = gone.events()
    interrupted(own_cloud)
    assert own_cloud.call("cloudformation", "describe_stacks")["Stacks"] == stacks
    assert gone.events() == events
    assert ck.Knot(name="kept", cloud=own_cloud).map([4]).result(300) == [16]
    ck.Knot(name="kept", cloud=own_cloud).clobber(clobber_pars=True)
    assert own_cloud.call("cloudformation", "describe_stacks")["Stacks"] == []


class TestKilledOperation:
    """An operation on a stack that the end of the server interrupts after some number of events."""

    @pytest.mark.parametrize("events", [1, 2, 5, 9, 14])
    @pytest.mark.parametrize("template", [NETWORK, TEMPLATE], ids=["network", "named"])
    def test_creation_goes_on_and_leaves_nothing_half_made(self, own_cloud, killed, template, events):
        before = inventory(own_cloud)
        stack = Stack(own_cloud, "made")
        stack.begin("create_stack", template, **({"LogGroup": "/made"} if template is TEMPLATE else {}))
        self.kill_after(events, stack, killed)
        assert stack.settled() == "CREATE_COMPLETE"
        assert stack.delete() == "DELETE_COMPLETE"
        assert inventory(own_cloud) == before

    @pytest.mark.parametrize("events", [1, 4, 9])
    def test_deletion_ends(self, own_cloud, killed, events):
        before = inventory(own_cloud)
        stack = Stack(own_cloud, "gone")
        assert stack.make("create_stack", NETWORK) == "CREATE_COMPLETE"
        made = len(stack.events())
        stack.call("delete_stack")
        self.kill_after(made + events, stack, killed)
        assert stack.settled() == "DELETE_COMPLETE"
        assert inventory(own_cloud) == before

    @pytest.mark.parametrize("events", [1, 3, 5])
    def test_update_ends_with_all_of_it_or_nothing(self, own_cloud, killed, events):
        before = inventory(own_cloud)
        stack = Stack(own_cloud, "changed")
        assert stack.make(LogGroup="/old") == "CREATE_COMPLETE"
        made = len(stack.events())
        stack.begin("update_stack", LogGroup="/new", Days=30, Policy="arn:aws:iam::aws:policy/AmazonS3FullAccess")
        self.kill_after(made + events, stack, killed)
        group = {"UPDATE_COMPLETE": "/new", "UPDATE_ROLLBACK_COMPLETE": "/old"}[stack.settled()]
        assert [name for name in inventory(own_cloud)["log groups"] if name in ("/old", "/new")] == [group]
        assert stack.delete() == "DELETE_COMPLETE"
        assert inventory(own_cloud) == before

    def kill_after(self, events, stack, killed):
        """End the server when the stack has this number of events, or when its operation has ended."""
        until(lambda: len(found := stack.events()) >= events or is_end(stack, *found[-1]))
        killed(stack.cloud)


def is_end(stack, name, status, _):
    """Return whether an event ends an operation. A description of the stack would wait for that end."""
    return name == stack.name and not status.endswith("_IN_PROGRESS")


def test_call_with_id_is_carried_out_once_also_with_an_empty_answer(tmp_path):
    database, keys = cloud_database(tmp_path), Keys(AccessKey("AKIA", "secret"))
    plane = ControlPlane({"ec2": Ec2(database)}, database, {})
    gate = Gate(keys, lambda principal: Policies(), Names("1", "us-east-1", lambda kind, name: ""), "")
    calls = InProcessServices(plane, gate, keys.find).calls_of("AKIA")
    vpc = calls.call("ec2", "CreateVpc", {"CidrBlock": "10.0.0.0/16"})["Vpc"]["VpcId"]
    gateway = calls.call("ec2", "CreateInternetGateway", {})["InternetGateway"]["InternetGatewayId"]
    place = {"InternetGatewayId": gateway, "VpcId": vpc}
    for _ in range(2):
        calls.call("ec2", "AttachInternetGateway", place, "once")
    with pytest.raises(ServiceError, match="already attached"):
        calls.call("ec2", "AttachInternetGateway", place, "another")
    (found,) = calls.call("ec2", "DescribeInternetGateways", {"InternetGatewayIds": [gateway]})["InternetGateways"]
    assert [attachment["VpcId"] for attachment in found["Attachments"]] == [vpc]
    database.close()


def test_records_of_deleted_knots_do_not_pile_up(own_cloud, killed):
    stacks = Stack(own_cloud, "first"), Stack(own_cloud, "second")
    for stack in stacks:
        stack.make("create_stack", NETWORK)
        stack.delete()
    end(own_cloud)
    database = cloud_database(own_cloud.directory)
    documents = Documents(database, "stack")
    ids = [f"{number:03}" for number in range(150)]
    (one, *_) = documents.all()
    with database.transaction():
        for identifier in ids:
            documents[identifier] = {**one, "id": identifier}
    database.close()
    own_cloud.start()
    database = cloud_database(own_cloud.directory)
    assert list(Documents(database, "stack")) == ids[50:]
    assert len(Documents(database, "call")) == 0
    database.close()
