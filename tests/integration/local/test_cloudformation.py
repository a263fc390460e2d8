"""The embedded cloud's stacks fail, roll back, refuse requests and are deleted as stacks on AWS are."""

import json

import pytest

import cloudknot as ck
from cloudknot.deploy.pars import Pars
from cloudknot.errors import CloudError, ResourceExistsException
from tests.helpers.inventory import idle_inventory, inventory
from tests.integration.local.stacks import TEMPLATE, TRUST, Stack


@pytest.fixture
def stack(cloud, request):
    """Yield a stack named after the test. Check afterwards that its deletion left no resource."""
    stack = Stack(cloud, "stack-" + request.node.name.split("[")[0].replace("_", "-")[:40])
    before = idle_inventory(cloud)
    yield stack
    if stack.id is not None:
        stack.delete()
    assert inventory(cloud) == before


def test_stack_is_created_updated_and_deleted(stack):
    assert stack.make(LogGroup="/log") == "CREATE_COMPLETE"
    outputs = {item["OutputKey"]: item["OutputValue"] for item in stack.state()["Outputs"]}
    assert outputs["Arn"].endswith(f":role/{stack.role()}")
    assert outputs["Short"] == "b-7"
    assert stack.make("update_stack", LogGroup="/log", Days=30) == "UPDATE_COMPLETE"
    (group,) = stack.cloud.call("logs", "describe_log_groups", logGroupNamePrefix="/log")["logGroups"]
    assert group["retentionInDays"] == 30
    assert stack.delete() == "DELETE_COMPLETE"
    with pytest.raises(CloudError, match="does not exist"):
        stack.call("describe_stacks")


def test_failed_creation_is_rolled_back(stack):
    stack.cloud.call("logs", "create_log_group", logGroupName="/taken")
    try:
        before = inventory(stack.cloud)
        assert stack.make(LogGroup="/taken") == "ROLLBACK_COMPLETE"
        assert {**inventory(stack.cloud), "stacks": before["stacks"]} == before
    finally:
        stack.cloud.call("logs", "delete_log_group", logGroupName="/taken")
    failed = [(name, reason) for name, status, reason in stack.events() if status == "CREATE_FAILED"]
    assert [name for name, _ in failed] == ["Log"]
    assert "already exists" in failed[0][1]
    assert "HandlerErrorCode: AlreadyExists" in failed[0][1]
    with pytest.raises(CloudError, match="ROLLBACK_COMPLETE state and can not be updated"):
        stack.begin("update_stack", LogGroup="/other")
    with pytest.raises(ResourceExistsException):
        stack.begin(LogGroup="/other")


def test_failed_update_restores_previous_resources(stack):
    stack.make(LogGroup="/log")
    taken = {"logGroupName": "/taken"}
    stack.cloud.call("logs", "create_log_group", **taken)
    try:
        policy = "arn:aws:iam::aws:policy/AmazonS3FullAccess"
        assert stack.make("update_stack", LogGroup="/taken", Policy=policy) == "UPDATE_ROLLBACK_COMPLETE"
    finally:
        stack.cloud.call("logs", "delete_log_group", **taken)
    attached = stack.cloud.call("iam", "list_attached_role_policies", RoleName=stack.role())
    assert attached["AttachedPolicies"] == []
    assert "/log" in inventory(stack.cloud)["log groups"]
    assert {item["ParameterKey"]: item["ParameterValue"] for item in stack.state()["Parameters"]}["LogGroup"] == "/log"


def test_deletion_fails_for_role_in_use_and_can_be_repeated(stack):
    stack.make(LogGroup="/log")
    # IAM deletes no role with an attached policy that the stack does not know.
    foreign = {"RoleName": stack.role(), "PolicyArn": "arn:aws:iam::aws:policy/AmazonSQSFullAccess"}
    stack.cloud.call("iam", "attach_role_policy", **foreign)
    assert stack.delete() == "DELETE_FAILED"
    reasons = [reason for name, status, reason in stack.events() if (name, status) == ("Role", "DELETE_FAILED")]
    assert "must detach all policies first" in reasons[0]
    stack.cloud.call("iam", "detach_role_policy", **foreign)
    assert stack.delete() == "DELETE_COMPLETE"


def test_deletion_ignores_resources_deleted_by_hand(stack):
    stack.make(LogGroup="/log")
    stack.cloud.call("iam", "delete_role", RoleName=stack.role())
    stack.cloud.call("logs", "delete_log_group", logGroupName="/log")
    assert stack.delete() == "DELETE_COMPLETE"


def test_deletion_skips_retained_resources(stack):
    retaining = TEMPLATE.replace("Type: AWS::Logs::LogGroup", "Type: AWS::Logs::LogGroup\n    DeletionPolicy: Retain")
    stack.make("create_stack", retaining, LogGroup="/kept")
    assert stack.delete() == "DELETE_COMPLETE"
    assert ("Log", "DELETE_SKIPPED", "") in stack.events()
    stack.cloud.call("logs", "delete_log_group", logGroupName="/kept")


def test_stack_can_be_deleted_during_its_creation(stack):
    stack.begin(LogGroup="/log")
    assert stack.delete() == "DELETE_COMPLETE"


@pytest.mark.parametrize(
    ("template", "parameters", "message"),
    [
        (TEMPLATE, {"LogGroup": "/log"}, r"Requires capabilities : \[CAPABILITY_NAMED_IAM\]"),
        (TEMPLATE, {}, r"Parameters: \[LogGroup\] must have values"),
        (TEMPLATE, {"LogGroup": "/log", "Other": "1"}, "do not exist in the template"),
        (TEMPLATE, {"LogGroup": "/log", "KeepsLog": "Maybe"}, "AllowedValues"),
        ("Resources: {Bus: {Type: AWS::Vehicle::Bus}}", {}, "Unrecognized resource types"),
        ("Resources: {A: {Type: AWS::Logs::LogGroup, DependsOn: A}}", {}, "Circular dependency"),
        ("Resources: {A: {Type: AWS::Logs::LogGroup, Properties: {LogGroupName: !Ref B}}}", {}, "Unresolved"),
        ("Description: nothing", {}, "At least one Resources member"),
        ("Resources: [", {}, "not well-formed"),
    ],
)
def test_invalid_template_or_parameters_are_refused_at_once(stack, template, parameters, message):
    capable = {} if "capabilities" in message else {"Capabilities": ["CAPABILITY_NAMED_IAM"]}
    pairs = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
    with pytest.raises(CloudError, match=message):
        stack.call("create_stack", TemplateBody=template, Parameters=pairs, **capable)
    with pytest.raises(CloudError, match="does not exist"):
        stack.call("describe_stacks")


def test_update_without_changes_is_refused(stack):
    stack.make(LogGroup="/log")
    with pytest.raises(CloudError, match="No updates are to be performed"):
        stack.begin("update_stack", LogGroup="/log")


def test_update_of_comments_and_outputs_alone_is_refused(stack):
    group = "Resources: {A: {Type: AWS::Logs::LogGroup, Properties: {LogGroupName: /outputs}}}"
    before, after = (f"Outputs: {{Word: {{Value: {word}}}}}\n{group}" for word in ("one", "two"))
    stack.make("create_stack", before)
    with pytest.raises(CloudError, match="No updates are to be performed"):
        stack.begin("update_stack", f"# A comment.\n{after}")
    stack.make("update_stack", after.replace("/outputs", "/others"))
    assert stack.state()["Outputs"] == [{"OutputKey": "Word", "OutputValue": "two"}]


TAGGED = f"""
Resources:
  Role:
    Type: AWS::IAM::Role
    Properties:
      RoleName: tagged
      AssumeRolePolicyDocument: {TRUST}
      Tags: TAGS
  Group:
    Type: AWS::EC2::SecurityGroup
    Properties: {{GroupDescription: g, GroupName: tagged, Tags: TAGS}}
  Log:
    Type: AWS::Logs::LogGroup
    Properties: {{LogGroupName: /tagged, Tags: TAGS}}
  Project:
    Type: AWS::CodeBuild::Project
    Properties:
      Name: tagged
      ServiceRole: !GetAtt Role.Arn
      Artifacts: {{Type: NO_ARTIFACTS}}
      Source: {{Type: NO_SOURCE, BuildSpec: x}}
      Environment: {{Type: LINUX_CONTAINER, Image: i, ComputeType: BUILD_GENERAL1_SMALL}}
      Tags: TAGS
  Environment:
    Type: AWS::Batch::ComputeEnvironment
    Properties: {{ComputeEnvironmentName: tagged, Type: UNMANAGED}}
  Queue:
    Type: AWS::Batch::JobQueue
    Properties:
      JobQueueName: tagged
      Priority: 1
      ComputeEnvironmentOrder: [{{Order: 1, ComputeEnvironment: !Ref Environment}}]
      Tags: MAP
  Last:
    Type: AWS::IAM::Role
    DependsOn: [Role, Group, Log, Project, Queue]
    Properties:
      AssumeRolePolicyDocument: {TRUST}
      ManagedPolicyArns: [POLICY]
"""
"""Resources of all kinds with tags that an update changes."""


def tagged(tags, policy="arn:aws:iam::aws:policy/AmazonSQSFullAccess"):
    """Return the template with tags, or without the property for none."""
    listed = [{"Key": key, "Value": value} for key, value in tags.items()] if tags else {"Ref": "AWS::NoValue"}
    template = TAGGED.replace("TAGS", json.dumps(listed)).replace("MAP", json.dumps(tags or listed))
    return template.replace("POLICY", policy)


def found_tags(cloud):
    """Return the tags of each resource."""
    client, group = cloud.door.client, {"Filters": [{"Name": "group-name", "Values": ["tagged"]}]}
    (queue,) = client("batch").describe_job_queues(jobQueues=["tagged"])["jobQueues"]
    (project,) = client("codebuild").batch_get_projects(names=["tagged"])["projects"]
    lists = [
        client("iam").list_role_tags(RoleName="tagged")["Tags"],
        client("ec2").describe_security_groups(**group)["SecurityGroups"][0].get("Tags", []),
        [{"Key": tag["key"], "Value": tag["value"]} for tag in project["tags"]],
    ]
    maps = [{tag["Key"]: tag["Value"] for tag in tags} for tags in lists]
    return [*maps, client("logs").list_tags_log_group(logGroupName="/tagged")["tags"], queue["tags"]]


def test_update_removes_tags(stack):
    assert stack.make(template=tagged({"a": "1", "b": "2"})) == "CREATE_COMPLETE"
    assert stack.make("update_stack", tagged({"b": "3"})) == "UPDATE_COMPLETE"
    assert found_tags(stack.cloud) == [{"b": "3"}] * 5
    # Its rollback brings them back.
    assert stack.make("update_stack", tagged({"c": "4"}, "arn:aws:iam::aws:policy/None")) == "UPDATE_ROLLBACK_COMPLETE"
    assert found_tags(stack.cloud) == [{"b": "3"}] * 5
    assert stack.make("update_stack", tagged({})) == "UPDATE_COMPLETE"
    assert found_tags(stack.cloud) == [{}] * 5


def test_update_keeps_or_replaces_tags_of_stack(stack):
    client = stack.cloud.door.client("cloudformation")
    stack.make(LogGroup="/log")
    update = {"StackName": stack.name, "UsePreviousTemplate": True, "Capabilities": ["CAPABILITY_NAMED_IAM"]}
    parameters = [{"ParameterKey": "LogGroup", "UsePreviousValue": True}]
    for days, tags, expected in ((14, {"Tags": [{"Key": "a", "Value": "1"}]}, 1), (30, {}, 1), (60, {"Tags": []}, 0)):
        days = [{"ParameterKey": "Days", "ParameterValue": str(days)}]
        client.update_stack(**update, Parameters=[*parameters, *days], **tags)
        assert stack.settled() == "UPDATE_COMPLETE"
        assert len(stack.state()["Tags"]) == expected


def test_describe_stacks_returns_100_stacks_a_page(cloud):
    empty = "Resources: {Nothing: {Type: AWS::CloudFormation::WaitConditionHandle}}"
    stacks = [Stack(cloud, f"many-{number}") for number in range(101)]
    for stack in stacks:
        stack.begin("create_stack", empty)
    try:
        pages = [page["Stacks"] for page in cloud.pages("cloudformation", "describe_stacks")]
        # Knots of other tests may be among them.
        assert [len(page) for page in pages[:-1]] == [100] * ((sum(map(len, pages)) - 1) // 100)
        names = {stack["StackName"] for page in pages for stack in page}
        assert {stack.name for stack in stacks} <= names
    finally:
        for stack in stacks:
            stack.delete()


class TestBatch:
    """Refusals by Batch for queues and compute environments."""

    def test_knot_beyond_quota_is_refused_with_limit(self, tmp_path):
        with ck.LocalCloud(tmp_path, quota=1) as cloud:
            ck.Knot(name="one", func=abs, cloud=cloud)
            with pytest.raises(ck.CannotCreateResourceException, match=r"Maximum number of .* supported is 1\b"):
                ck.Knot(name="two", func=abs, cloud=cloud)
            assert [knot.name for knot in ck.list_knots(cloud)] == ["one"]

    def test_queue_and_compute_environment_are_deleted_only_in_order(self, cloud, pars):
        environment = self.environment(cloud, pars, "ordered")
        order = [{"order": 1, "computeEnvironment": environment}]
        queue = {"jobQueue": "ordered"}
        cloud.call("batch", "create_job_queue", jobQueueName="ordered", priority=1, computeEnvironmentOrder=order)
        with pytest.raises(CloudError, match="must be DISABLED"):
            cloud.call("batch", "delete_job_queue", **queue)
        with pytest.raises(CloudError, match="must be DISABLED"):
            cloud.call("batch", "delete_compute_environment", computeEnvironment=environment)
        cloud.call("batch", "update_compute_environment", computeEnvironment=environment, state="DISABLED")
        with pytest.raises(CloudError, match="found existing JobQueue relationship"):
            cloud.call("batch", "delete_compute_environment", computeEnvironment=environment)
        with pytest.raises(CloudError, match="Object already exists"):
            self.environment(cloud, pars, "ordered")
        cloud.call("batch", "update_job_queue", **queue, state="DISABLED")
        cloud.call("batch", "delete_job_queue", **queue)
        cloud.call("batch", "delete_compute_environment", computeEnvironment=environment)

    def environment(self, cloud, pars, name):
        """Create a compute environment with the roles and network of `pars`, and return its name."""
        resources = {
            "type": "EC2",
            "minvCpus": 0,
            "maxvCpus": 1,
            "desiredvCpus": 0,
            "instanceTypes": ["optimal"],
            "instanceRole": pars.ecs_instance_profile,
            "subnets": pars.subnets,
            "securityGroupIds": [pars.security_group],
        }
        cloud.call(
            "batch",
            "create_compute_environment",
            computeEnvironmentName=name,
            type="MANAGED",
            serviceRole=pars.batch_service_role,
            computeResources=resources,
        )
        return name

    @pytest.fixture
    def pars(self, cloud):
        return Pars(cloud=cloud)


def test_environment_with_missing_profile_fails_its_stack(stack):
    resources = "{Type: EC2, MaxvCpus: 1, InstanceTypes: [optimal], Subnets: [!Ref Subnet], InstanceRole: none}"
    properties = f"{{Type: MANAGED, ComputeResources: {resources}}}"
    template = f"""
Resources:
  Vpc: {{Type: AWS::EC2::VPC, Properties: {{CidrBlock: 10.0.0.0/16}}}}
  Subnet: {{Type: AWS::EC2::Subnet, Properties: {{VpcId: !Ref Vpc, CidrBlock: 10.0.0.0/24}}}}
  Environment: {{Type: AWS::Batch::ComputeEnvironment, Properties: {properties}}}
"""
    assert stack.make(template=template) == "ROLLBACK_COMPLETE"
    (reason,) = (
        reason for name, status, reason in stack.events() if (name, status) == ("Environment", "CREATE_FAILED")
    )
    assert "ComputeEnvironment went INVALID with error: CLIENT_ERROR - Invalid IamInstanceProfile: none" in reason
