"""The IAM policies for people are valid, no wider than needed, and enough to create the templates' resources.

cfn-lint carries the AWS data that they are checked against.
"""

import json
import re
from functools import cache
from pathlib import Path

import cfnlint
import pytest
from click.testing import CliRunner

from cloudknot.aws.permissions.denials import action_of, advice
from cloudknot.aws.permissions.policies import LONGEST_POLICY, Scope, allowing, grants, policy, size, statement
from cloudknot.aws.permissions.statements import BOUNDARY, GRANTS, LEVELS
from cloudknot.aws.sdk.regions import partition_of
from cloudknot.cli.main import main
from cloudknot.deploy.cloudformation import template
from cloudknot.errors import CloudknotInputError
from cloudknot.local.cloudformation.kinds import KINDS
from cloudknot.local.cloudformation.reads import reading_actions
from cloudknot.local.cloudformation.template import load
from tests.helpers.paths import ROOT

DATA = Path(cfnlint.__file__).parent / "data"
SCOPE = Scope("123456789012", "us-east-1")
PAGE = ROOT / "docs" / "permissions.md"

REGIONS = ["ap-southeast-2", "us-gov-west-1", "cn-northwest-1", "us-isob-east-1", "eusc-de-east-1"]
"""A region with a long name in each kind of partition."""
WITHOUT_RESOURCE = {"cloudformation:DescribeStacks"}
"""Actions with a resource level that need ``*`` in a call that names no resource."""


# It reads botocore's list of regions each time.
known_partition = cache(partition_of)


@pytest.fixture(scope="module")
def services():
    """Return AWS's service authorization data from cfn-lint: actions, and the kinds of their resources."""
    return json.loads((DATA / "AdditionalSpecs" / "Policies.json").read_text())


def resource_kinds(services, action):
    service, _, name = action.partition(":")
    return services[service]["Actions"][name.lower()].get("Resources", [])


@pytest.mark.parametrize("grant", GRANTS, ids=lambda grant: grant.sid)
class TestStatement:
    def test_statement_names_existing_actions(self, grant, services):
        for action in grant.actions:
            service, _, name = action.partition(":")
            assert name.lower() in services[service]["Actions"], action

    def test_statement_covers_all_resources_only_without_resource_level(self, grant, services):
        for action in grant.actions:
            if action not in WITHOUT_RESOURCE:
                assert (grant.resources == ("*",)) == (not resource_kinds(services, action)), action

    def test_statement_names_resource_kinds_of_its_actions(self, grant, services):
        if grant.resources == ("*",):
            return
        for arn in (
            statement(grant, SCOPE)["Resource"] if len(grant.resources) > 1 else [statement(grant, SCOPE)["Resource"]]
        ):
            kinds = {kind for action in grant.actions for kind in resource_kinds(services, action)}
            service = arn.split(":")[2]
            formats = [
                arn_format
                for kind in kinds
                for arn_format in services[service]["Resources"].get(kind, {}).get("ARNFormats", [])
            ]
            patterns = [re.sub(r"\$\{\w+\}", "[^:]*", arn_format) for arn_format in formats]
            assert any(re.fullmatch(pattern, arn) for pattern in patterns), arn

    def test_statement_limits_resources_to_one_account_and_cloudknot_names(self, grant):
        for arn in grant.resources:
            # EC2 names its resources itself, and the name of a bucket is unique in all accounts.
            if arn != "*" and not arn.startswith(("ec2:", "s3:::{bucket}")):
                assert "{here}" in arn or "{account}" in arn
                # `clobber --all` looks for cloudknot's images in all repositories, so it only reads them.
                if arn == "ecr:{here}:repository/*":
                    assert all(re.match("ecr:(Describe|List)", action) for action in grant.actions)
                    continue
                # AWS chooses the names of these roles, so a condition limits the services.
                if arn.endswith("aws-service-role/*"):
                    assert grant.condition["StringEquals"]["iam:AWSServiceName"]
                    continue
                assert re.search(r"cloudknot|\{repository\}|batch\.amazonaws|/batch/job|:job/", arn)

    def test_statement_has_purpose_and_level(self, grant):
        assert grant.purpose
        assert grant.level in LEVELS


@pytest.mark.parametrize("level", [*LEVELS, "boundary"])
class TestPolicy:
    def test_command_prints_policy_as_json(self, level):
        result = CliRunner().invoke(main, ["permissions", level, "--account", "123456789012", "--region", "us-east-1"])
        assert result.exit_code == 0
        assert json.loads(result.stdout) == policy(level, SCOPE)

    @pytest.mark.parametrize("boundary", ["", "arn:{}:iam::123456789012:policy/" + "p" * 128])
    @pytest.mark.parametrize("region", REGIONS)
    def test_policy_fits_into_managed_policy_with_room_to_spare(self, level, region, boundary):
        """The bucket and the boundary have names of the greatest length, and the repository a long one."""
        partition = known_partition(region)
        others = tuple(f"arn:{partition}:iam::123456789012:policy/{name * 40}" for name in "xy") if boundary else ()
        scope = Scope(
            "123456789012", region, "b" * 63, "r" * 60, partition, boundary.format(partition), policies=others
        )
        assert size(policy(level, scope)) <= 0.9 * LONGEST_POLICY

    def test_policy_size_excludes_white_space_as_in_iam(self, level):
        document = policy(level, SCOPE)
        assert size(document) == len(re.sub(r"\s", "", json.dumps(document)))

    def test_policy_has_unique_alphanumeric_sids(self, level):
        sids = [statement["Sid"] for statement in policy(level, SCOPE)["Statement"]]
        assert len(set(sids)) == len(sids)
        assert all(re.fullmatch(r"[A-Za-z0-9]+", sid) for sid in sids)

    def test_permissions_page_contains_policy_and_purposes(self, level):
        text = PAGE.read_text()
        blocks = [json.loads(body) for body in re.findall(r"^```json\n(.*?)^```$", text, re.M | re.S)]
        assert policy(level, Scope()) in blocks
        for grant in grants(level):
            assert f"| `{grant.sid}` | {grant.level} | {grant.purpose} |" in text


class TestScope:
    def test_command_prints_placeholder_and_hint_for_unknown_account(self):
        result = CliRunner().invoke(main, ["permissions", "run"])
        assert "ACCOUNT_ID" in json.dumps(json.loads(result.stdout))
        assert "--account" in result.stderr
        assert result.output.index("--account") < result.output.index("Statement")

    def test_command_prints_policy_despite_unusable_credentials(self, monkeypatch):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "x" * 20)
        # Nothing listens on this port, so no request leaves the machine.
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9")
        result = CliRunner().invoke(main, ["permissions", "run"])
        assert result.exit_code == 0
        assert "ACCOUNT_ID" in result.stdout

    def test_policy_has_given_bucket_repository_and_region(self):
        arguments = ["--account", "1" * 12, "--region", "cn-north-1", "--bucket", "mine", "--repository", "lab/images"]
        text = CliRunner().invoke(main, ["permissions", "run", *arguments]).stdout
        assert "arn:aws-cn:s3:::mine/cloudknot.jobs/*" in text
        text = CliRunner().invoke(main, ["permissions", "create", *arguments]).stdout
        assert "arn:aws-cn:ecr:cn-north-1:111111111111:repository/lab/images" in text
        assert "ec2.amazonaws.com.cn" in text
        assert "arn:aws:" not in text

    @pytest.mark.parametrize(
        ("region", "partition"),
        [
            ("eu-west-1", "aws"),
            ("cn-north-1", "aws-cn"),
            ("us-gov-west-1", "aws-us-gov"),
            ("eusc-de-east-1", "aws-eusc"),
            ("us-iso-east-1", "aws-iso"),
            ("us-isob-east-1", "aws-iso-b"),
            ("us-isof-south-1", "aws-iso-f"),
            ("eu-isoe-west-1", "aws-iso-e"),
            ("eu-north-9", "aws"),
        ],
    )
    def test_region_determines_partition_of_arns(self, region, partition):
        assert partition_of(region) == partition
        text = CliRunner().invoke(main, ["permissions", "create", "--account", "1" * 12, "--region", region]).stdout
        assert set(re.findall(r"arn:([^:]+):", text)) == {partition}

    def test_command_suggests_near_match_of_unknown_region(self):
        result = CliRunner().invoke(main, ["permissions", "run", "--account", "1" * 12, "--region", "uswest-2"])
        assert result.exit_code == 1
        assert "'uswest-2' is not an AWS region. Near matches: us-west-2" in result.output

    def test_command_lists_regions_if_none_is_near_match(self):
        result = CliRunner().invoke(main, ["permissions", "run", "--account", "1" * 12, "--region", "moon"])
        assert "'moon' is not an AWS region. Every account has: ap-northeast-1, " in result.output

    def test_command_refuses_invalid_account_number(self):
        for account in ("12", "1234-5678-9012", "12345678901x"):
            result = CliRunner().invoke(main, ["permissions", "run", "--account", account])
            assert result.exit_code == 2
            assert "12 digits" in result.output

    def test_policy_refuses_unknown_level(self):
        with pytest.raises(
            CloudknotInputError,
            match=r"^level='.*' is not 'run', 'create', 'network', 'build', 'administer' or 'boundary'\.",
        ):
            policy("everything", SCOPE)


class TestOneKnot:
    def test_command_limits_policy_to_one_knot(self):
        arguments = ["permissions", "run", "--account", "1" * 12, "--region", "us-east-1", "--knot", "pi-calc"]
        document = json.loads(CliRunner().invoke(main, arguments).stdout)
        names = {statement["Sid"]: statement["Resource"] for statement in document["Statement"]}
        assert names == {
            "FindKnots": "arn:aws:cloudformation:us-east-1:111111111111:stack/pi-calc-cloudknot/*",
            "FindJobs": "*",
            "SubmitJobs": [
                "arn:aws:batch:us-east-1:111111111111:job-definition/pi-calc-cloudknot-job-definition:*",
                "arn:aws:batch:us-east-1:111111111111:job-queue/pi-calc-cloudknot-job-queue",
            ],
            "TagAndEndJobs": "arn:aws:batch:us-east-1:111111111111:job/*",
            "UseRuns": "arn:aws:s3:::cloudknot-111111111111-us-east-1/cloudknot.jobs/pi-calc/*",
            "ListRuns": "arn:aws:s3:::cloudknot-111111111111-us-east-1",
            "ReadLogs": "arn:aws:logs:us-east-1:111111111111:log-group:/cloudknot/pi-calc:*",
        }
        (listing,) = (statement for statement in document["Statement"] if statement["Sid"] == "ListRuns")
        assert listing["Condition"] == {
            "StringEquals": {"aws:ResourceAccount": ["111111111111"]},
            "StringLike": {"s3:prefix": ["cloudknot.jobs/pi-calc/*"]},
        }

    @pytest.mark.parametrize("name", ["*", "pi-*", "a/b", "pi.calc", "x" * 56])
    def test_policy_refuses_invalid_name_of_knot(self, name):
        with pytest.raises(CloudknotInputError, match=r"^knot="):
            policy("run", Scope(knot=name))

    @pytest.mark.parametrize("level", ["create", "administer"])
    def test_policy_of_higher_level_cannot_be_limited(self, level):
        with pytest.raises(CloudknotInputError, match="cannot be limited to the knot 'pi-calc'"):
            policy(level, Scope(knot="pi-calc"))

    def test_runs_are_limited_to_account_of_bucket(self):
        for scope, owner in ((SCOPE, "123456789012"), (Scope("1" * 12, owner="2" * 12), "2" * 12)):
            for sid in ("UseRuns", "ListRuns"):
                (found,) = (item for item in policy("run", scope)["Statement"] if item["Sid"] == sid)
                assert found["Condition"] == {"StringEquals": {"aws:ResourceAccount": [owner]}}


UNUSED_PERMISSIONS = {
    "AWS::Batch::ComputeEnvironment": r"eks:.*",
    "AWS::EC2::VPC": "ec2:CreateVpcEncryptionControl|ec2:ModifyVpcTenancy",
    "AWS::EC2::VPCGatewayAttachment": r"ec2:(At|De)tachVpnGateway",
    "AWS::EC2::Subnet": r"ec2:.*SubnetCidrBlock",
    "AWS::EC2::SubnetRouteTableAssociation": "ec2:ReplaceRouteTableAssociation",
    "AWS::EC2::VPCEndpoint": r"vpc-lattice:.*|vpce:.*|ec2:ModifyVpcEndpoint",
    "AWS::EC2::Route": "ec2:ReplaceRoute",
    "AWS::EC2::SecurityGroup": r"ec2:(Revoke|Authorize|UpdateSecurityGroupRule).*",
    # Without the first, a user cannot remove a boundary. Without the second, a user cannot open a role to others.
    "AWS::IAM::Role": "iam:DeleteRolePermissionsBoundary|iam:UpdateAssumeRolePolicy|iam:UpdateRoleDescription",
    "AWS::Logs::LogGroup": r"s3:.*|firehose:.*"
    r"|logs:(Put|Delete|Create|Associate|Disassociate).*(Key|DataProtection|Delivery|Index|Token|Resource).*"
    r"|logs:(DeleteRetentionPolicy|PutLogGroupDeletionProtection)",
}
"""Patterns of permissions that a handler needs only for properties that the templates do not have, by type.

A handler may read more than the templates have. So no permission for a read is among these, except of other services.
"""
TAG_REMOVAL = r"\w+:(Untag|UnTag|DeleteTags).*"
"""Pattern of permissions that no operation needs, since an update keeps the tags."""
WITHOUT_HANDLERS = {"AWS::CloudFormation::WaitConditionHandle", "AWS::CodeBuild::Project"}
"""Types of the embedded cloud that are not in the templates of knots and Pars, or publish no handlers."""
READ = r"(?i:batch|ec2|ecr|iam|logs):(Describe|Get|List)\w+"


class TestStacks:
    def test_cfn_lint_has_handlers_of_every_template_type(self, handlers, template_types):
        assert set(handlers) == template_types

    @pytest.mark.parametrize("operation", ["create", "read", "update", "delete"])
    def test_levels_allow_actions_of_resource_handlers(self, handlers, operation):
        levels = ("run", "create", "network")
        allowed = {action.lower() for level in levels for grant in grants(level) for action in grant.actions}
        for kind, operations in handlers.items():
            needed = operations.get(operation, {}).get("permissions", [])
            unused = f"{UNUSED_PERMISSIONS.get(kind, 'none')}|{TAG_REMOVAL}"
            missing = [
                action for action in needed if action.lower() not in allowed and not re.fullmatch(unused, action, re.I)
            ]
            assert missing == [], kind

    @pytest.mark.parametrize(("kind", "unused"), UNUSED_PERMISSIONS.items())
    def test_no_read_counts_as_unused(self, handlers, kind, unused):
        needed = {action for operation in handlers[kind].values() for action in operation["permissions"]}
        assert [action for action in needed if re.fullmatch(unused, action, re.I) and re.fullmatch(READ, action)] == []
        assert any(re.fullmatch(unused, action, re.I) for action in needed)

    def test_embedded_cloud_makes_reads_of_handlers(self, handlers):
        """The embedded CloudFormation makes the reads of the real one, so that a gap in the policies shows there."""
        around = {"create": ("create", "read"), "update": ("update", "read"), "delete": ("delete",)}
        for kind, operations in handlers.items():
            for operation in around.keys() & operations.keys():
                needed = {action for name in around[operation] for action in operations[name]["permissions"]}
                of_handler = {action.lower() for action in needed if re.fullmatch(READ, action)}
                made = {action.lower() for action in reading_actions(operation, kind)}
                assert made == of_handler, (kind, operation)
        assert set(KINDS) - set(handlers) == WITHOUT_HANDLERS


class TestBoundary:
    ARN = "arn:aws:iam::123456789012:policy/lab-boundary"

    def test_command_limits_roles_to_boundary_and_policies(self):
        other = "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"
        arguments = ["--account", "1" * 12, "--region", "us-east-1", "--boundary", self.ARN, "--policy", other]
        result = CliRunner().invoke(main, ["permissions", "create", *arguments])
        made = {part["Sid"]: part for part in json.loads(result.stdout)["Statement"]}["MakeRoles"]
        assert made["Condition"]["StringEquals"] == {"iam:PermissionsBoundary": [self.ARN]}
        attachable = made["Condition"]["ArnLikeIfExists"]["iam:PolicyARN"]
        assert attachable[-1] == other
        # The templates attach all others.
        text = template.load("pars")
        assert all(f'policy/{arn.partition(":policy/")[2]}"' in text for arn in attachable[:-1])
        assert len(attachable) == text.count("iam::aws:policy/") + 1

    def test_every_action_that_widens_a_role_has_the_condition(self):
        bounded = policy("create", Scope("1" * 12, "us-east-1", boundary=self.ARN))
        widening = r"iam:(Create|Put|Attach|Update)\w*(Role|Boundary|Polic)\w*"
        for part in bounded["Statement"]:
            for action in part["Action"]:
                if re.fullmatch(widening, action) and action not in ("iam:UpdateRole", "iam:CreateServiceLinkedRole"):
                    assert part["Condition"]["StringEquals"]["iam:PermissionsBoundary"] == [self.ARN], action

    def test_smallest_boundary_has_actions_of_policies_that_a_pars_attaches(self):
        from moto.iam.aws_managed_policies import aws_managed_policies_data

        allowed = {action for grant in BOUNDARY for action in grant.actions}
        documents = json.loads(aws_managed_policies_data)
        for name in ("AmazonECSTaskExecutionRolePolicy", "AmazonEC2ContainerServiceforEC2Role"):
            for part in documents[name]["Document"]["Statement"]:
                actions = {part["Action"]} if isinstance(part["Action"], str) else set(part["Action"])
                assert actions <= allowed

    def test_no_level_opens_a_role_or_removes_its_boundary(self):
        actions = {action for grant in GRANTS for action in grant.actions}
        assert not actions & {"iam:UpdateAssumeRolePolicy", "iam:DeleteRolePermissionsBoundary"}
        assert not any(re.match(r"iam:\w*(User|Group|AccessKey|LoginProfile|PolicyVersion)", name) for name in actions)
        assert not any("*" in action for action in actions)

    @pytest.mark.parametrize("name", ["pars", "knot"])
    def test_every_role_of_a_template_has_the_boundary(self, name):
        resources = load(template.load(name))["Resources"].values()
        for resource in resources:
            if resource["Type"] == "AWS::IAM::Role":
                condition, boundary, none = resource["Properties"]["PermissionsBoundary"]["Fn::If"]
                assert (condition, boundary) == ("HasBoundary", {"Ref": "PermissionsBoundary"})
                assert none == {"Ref": "AWS::NoValue"}

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            (["create", "--boundary", "lab"], "'lab' is not the ARN of an IAM policy"),
            (["create", "--policy", "arn:aws:iam::aws:policy/X"], "needs --boundary"),
            (["create", "--boundary", ARN, "--policy", "X"], "'X' is not the ARN of an IAM policy"),
            (["run", "--boundary", ARN], "only for the policy create"),
        ],
    )
    def test_command_refuses_unusable_boundary(self, arguments, error):
        result = CliRunner().invoke(main, ["permissions", *arguments])
        assert result.exit_code == 2
        assert error in result.output

    def test_command_refuses_policy_that_is_too_long(self):
        others = [part for n in range(30) for part in ("--policy", f"arn:aws:iam::123456789012:policy/{n:0100}")]
        result = CliRunner().invoke(main, ["permissions", "create", "--boundary", self.ARN, *others])
        assert result.exit_code == 1
        assert re.search(r"has \d,\d{3} characters", result.output)


class TestAdvice:
    DENIAL = "User: arn:aws:iam::123456789012:user/ann is not authorized to perform: "

    def test_advice_names_action_and_statement(self):
        message = (
            self.DENIAL
            + "batch:SubmitJob on resource: arn:aws:batch:us-east-1:123456789012:job-queue/x because no ..."
        )
        text = advice(message)
        assert text.startswith(
            "The permission batch:SubmitJob (for `map`) is missing. The statement SubmitJobs of the policy that "
            "`cloudknot permissions run` prints grants it. Ask the administrator"
        )

    def test_resource_decides_between_two_statements(self):
        queue = self.DENIAL + "batch:TagResource on resource: arn:aws:batch:us-east-1:123456789012:job-queue/x because"
        group = self.DENIAL + "ec2:CreateTags on resource: arn:aws:ec2:us-east-1:123456789012:security-group/* because"
        assert "MakeBatchResources" in advice(queue)
        assert "MakeGroupsAndTemplates" in advice(group)

    def test_operation_identifies_denial_without_message(self):
        assert "ListRuns" in advice("", "s3:head_bucket")
        assert "MakeBucket" in advice("Access Denied", "s3:put_bucket_encryption")
        assert action_of("cloudformation:create_stack") == "cloudformation:CreateStack"

    def test_advice_distinguishes_explicit_denial(self):
        message = (
            self.DENIAL
            + "s3:CreateBucket on resource: arn:aws:s3:::b with an explicit deny in a service control policy"
        )
        assert "explicitly denies s3:CreateBucket" in advice(message)

    def test_advice_for_roles_names_the_boundary(self):
        role = self.DENIAL + "iam:CreateRole on resource: arn:aws:iam::123456789012:role/cloudknot/x because no ..."
        assert "Pars(..., permissions_boundary=ARN)" in advice(role)
        assert "CLOUDKNOT_PERMISSIONS_BOUNDARY" not in advice(role.replace("CreateRole", "DeleteRole"))

    def test_advice_for_action_outside_boundary_names_no_statement(self):
        reason = "arn:aws:s3:::b because no permissions boundary allows the s3:CreateBucket action"
        text = advice(f"{self.DENIAL}s3:CreateBucket on resource: {reason}")
        assert text.startswith("The permissions boundary of this user or role does not allow s3:CreateBucket")

    def test_advice_names_pars_policies_for_actions_outside_all_statements(self):
        assert "pars_policies" in advice(
            self.DENIAL + "sqs:SendMessage on resource: arn:aws:sqs:us-east-1:1:q because"
        )
        assert advice("no such thing") == ""

    def test_advice_for_denied_kms_action_names_key_of_bucket(self):
        text = advice(self.DENIAL + "kms:GenerateDataKey on resource: arn:aws:kms:us-east-1:1:key/2 because no")
        assert text.startswith(
            "The permission kms:GenerateDataKey is missing for the KMS key that encrypts the bucket."
        )
        assert "set_s3_params(bucket, policy=...)" in text


def test_several_statements_can_allow_one_action():
    assert [grant.sid for grant in allowing("cloudformation:describestacks")] == ["ListKnots", "FindKnots"]


@pytest.mark.parametrize(
    ("action", "resource", "sid"),
    [
        ("iam:PassRole", "arn:aws:iam::1:role/cloudknot/images-cloudknot-build-Role-1A2B", "GiveBuildRole"),
        ("iam:PassRole", "arn:aws:iam::1:role/cloudknot/default-cloudknot-pars-JobRole-1A2B", "GiveRoles"),
        ("s3:PutObject", "arn:aws:s3:::lab/cloudknot.builds/1.tar.gz", "SendContexts"),
        ("s3:PutObject", "arn:aws:s3:::lab/cloudknot.jobs/pi-calc/1", "UseRuns"),
    ],
)
def test_denial_names_most_specific_statement(action, resource, sid):
    assert next(allowing(action, resource)).sid == sid
