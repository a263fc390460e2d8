"""The IAM policies for people are valid, no wider than needed, and enough to create the templates' resources.

cfn-lint carries the AWS data that they are checked against.
"""

import json
import re
from pathlib import Path

import cfnlint
import pytest
from click.testing import CliRunner

from cloudknot.aws.permissions.denials import action_of, advice
from cloudknot.aws.permissions.policies import LONGEST_POLICY, Scope, allowing, grants, policy, size, statement
from cloudknot.aws.permissions.statements import GRANTS, LEVELS
from cloudknot.aws.sdk.regions import partition_of
from cloudknot.cli.main import main
from cloudknot.deploy.cloudformation import template
from cloudknot.errors import CloudknotInputError
from tests.helpers.paths import ROOT

DATA = Path(cfnlint.__file__).parent / "data"
SCOPE = Scope("123456789012", "us-east-1")
PAGE = ROOT / "docs" / "permissions.md"

WITHOUT_RESOURCE = {"cloudformation:DescribeStacks"}
"""Actions with a resource level that need ``*`` in a call that names no resource."""


@pytest.fixture(scope="module")
def services():
    """Return AWS's service authorization data from cfn-lint: actions, and the kinds of their resources."""
    return json.loads((DATA / "AdditionalSpecs" / "Policies.json").read_text())


@pytest.fixture(scope="module")
def handlers():
    """Return the permissions that CloudFormation's resource handlers need, by type (from its registry's schemas)."""
    permissions = {}
    for path in (DATA / "schemas" / "resources").glob("*.json"):
        schema = json.loads(path.read_text())
        if schema.get("typeName") in template_types() and "handlers" in schema:
            permissions[schema["typeName"]] = schema["handlers"]
    return permissions


def template_types():
    """Return the types of all resources in the templates."""
    return set(re.findall(r"Type: (AWS::\w+::\w+)", template.load("knot") + template.load("pars")))


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


@pytest.mark.parametrize("level", LEVELS)
class TestPolicy:
    def test_command_prints_policy_as_json(self, level):
        result = CliRunner().invoke(main, ["permissions", level, "--account", "123456789012", "--region", "us-east-1"])
        assert result.exit_code == 0
        assert json.loads(result.stdout) == policy(level, SCOPE)

    @pytest.mark.parametrize("region", ["ap-southeast-2", "us-gov-west-1", "cn-northwest-1", "us-isob-east-1"])
    def test_policy_fits_into_managed_policy(self, level, region):
        """The bucket has a name of the greatest length, and the repository a long one."""
        scope = Scope("123456789012", region, "b" * 63, "r" * 60, partition_of(region))
        assert size(policy(level, scope)) <= LONGEST_POLICY

    def test_policy_size_excludes_white_space_as_in_iam(self, level):
        document = policy(level, SCOPE)
        assert size(document) == len(re.sub(r"\s", "", json.dumps(document)))

    def test_policy_without_statement_restores_those_it_replaces(self, level):
        every = {grant.sid: set(grant.actions) for grant in GRANTS}
        for grant in grants(level):
            remaining = grants(level, grant.sid)
            assert grant not in remaining
            actions = {action for statement in remaining for action in statement.actions}
            assert all(every[sid] <= actions for sid in grant.replaces)

    def test_statement_includes_actions_of_those_it_replaces(self, level):
        every = {grant.sid: grant for grant in GRANTS}
        for grant in grants(level):
            for sid in grant.replaces:
                assert set(every[sid].actions) <= set(grant.actions), sid

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
        text = CliRunner().invoke(main, ["permissions", "create", *arguments]).stdout
        assert "arn:aws-cn:s3:::mine/cloudknot.jobs/*" in text
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
        with pytest.raises(CloudknotInputError, match=r"^level='.*' is not 'run', 'create' or 'administer'\."):
            policy("everything", SCOPE)


UNUSED_PERMISSIONS = {
    "AWS::Batch::ComputeEnvironment": r"eks:.*",
    "AWS::EC2::VPC": "ec2:CreateVpcEncryptionControl|ec2:ModifyVpcTenancy",
    "AWS::EC2::VPCGatewayAttachment": r"ec2:.*VpnGateways?",
    "AWS::EC2::Subnet": r"ec2:.*SubnetCidrBlock",
    "AWS::EC2::SubnetRouteTableAssociation": "ec2:ReplaceRouteTableAssociation",
    "AWS::EC2::VPCEndpoint": r"vpc-lattice:.*|vpce:.*|ec2:ModifyVpcEndpoint",
    "AWS::EC2::Route": "ec2:ReplaceRoute",
    "AWS::EC2::SecurityGroup": r"ec2:(Revoke|Authorize|UpdateSecurityGroupRule).*",
    "AWS::IAM::Role": r"iam:.*PermissionsBoundary|iam:UpdateRoleDescription",
    "AWS::Logs::LogGroup": r"s3:.*|firehose:.*|logs:.*(KmsKey|DataProtection|Delivery|Index|BearerToken).*"
    r"|logs:(.*ResourcePolic.*|DeleteRetentionPolicy|ListTagsForResource|PutLogGroupDeletionProtection)",
}
"""Patterns of permissions that a handler needs only for properties that the templates do not have, by type."""
TAG_REMOVAL = r"\w+:(Untag|UnTag|DeleteTags).*"
"""Pattern of permissions that no operation needs, since an update keeps the tags."""


class TestStacks:
    def test_cfn_lint_has_handlers_of_every_template_type(self, handlers):
        assert set(handlers) == template_types()

    @pytest.mark.parametrize("operation", ["create", "update", "delete"])
    def test_create_level_allows_actions_of_resource_handlers(self, handlers, operation):
        allowed = {action.lower() for grant in grants("create") for action in grant.actions}
        for kind, operations in handlers.items():
            needed = operations.get(operation, {}).get("permissions", [])
            unused = f"{UNUSED_PERMISSIONS.get(kind, 'none')}|{TAG_REMOVAL}"
            missing = [
                action for action in needed if action.lower() not in allowed and not re.fullmatch(unused, action, re.I)
            ]
            assert missing == [], kind


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
