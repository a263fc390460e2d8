"""The policies that people are given: valid, no wider than they must be, and enough for what the templates make."""

import json
import re
from pathlib import Path

import cfnlint
import pytest
from click.testing import CliRunner

from cloudknot.aws.permissions.denials import action_of, advice
from cloudknot.aws.permissions.policies import LONGEST_POLICY, Scope, allowing, grants, policy, size, statement
from cloudknot.aws.permissions.statements import GRANTS, LEVELS
from cloudknot.aws.regions import partition_of
from cloudknot.cli.main import main
from cloudknot.deploy.cloudformation import template
from cloudknot.errors import CloudknotInputError
from tests.helpers.paths import ROOT

DATA = Path(cfnlint.__file__).parent / "data"
SCOPE = Scope("123456789012", "us-east-1")
PAGE = ROOT / "docs" / "permissions.md"

NAMELESS = {"cloudformation:DescribeStacks"}
"""Have a resource level, but not when they are asked about everything."""


@pytest.fixture(scope="module")
def services():
    """AWS's service authorization data, as cfn-lint carries it: actions, and the kinds of resources that they have."""
    return json.loads((DATA / "AdditionalSpecs" / "Policies.json").read_text())


@pytest.fixture(scope="module")
def handlers():
    """The permissions that CloudFormation's resource handlers need, by type and operation (its registry's schemas)."""
    found = {}
    for path in (DATA / "schemas" / "resources").glob("*.json"):
        schema = json.loads(path.read_text())
        if schema.get("typeName") in types_used() and "handlers" in schema:
            found[schema["typeName"]] = schema["handlers"]
    return found


def types_used():
    return set(re.findall(r"Type: (AWS::\w+::\w+)", template.load("knot") + template.load("pars")))


def resource_kinds(services, action):
    service, _, name = action.partition(":")
    return services[service]["Actions"][name.lower()].get("Resources", [])


@pytest.mark.parametrize("grant", GRANTS, ids=lambda grant: grant.sid)
class TestStatement:
    def test_its_actions_exist(self, grant, services):
        for action in grant.actions:
            service, _, name = action.partition(":")
            assert name.lower() in services[service]["Actions"], action

    def test_it_is_about_everything_only_where_aws_has_no_resource_level(self, grant, services):
        for action in grant.actions:
            if action not in NAMELESS:
                assert (grant.resources == ("*",)) == (not resource_kinds(services, action)), action

    def test_its_resources_are_of_kinds_that_its_actions_have(self, grant, services):
        if grant.resources == ("*",):
            return
        for arn in (
            statement(grant, SCOPE)["Resource"] if len(grant.resources) > 1 else [statement(grant, SCOPE)["Resource"]]
        ):
            kinds = {kind for action in grant.actions for kind in resource_kinds(services, action)}
            service = arn.split(":")[2]
            formats = [
                one for kind in kinds for one in services[service]["Resources"].get(kind, {}).get("ARNFormats", [])
            ]
            patterns = [re.sub(r"\$\{\w+\}", "[^:]*", one) for one in formats]
            assert any(re.fullmatch(pattern, arn) for pattern in patterns), arn

    def test_its_resources_are_of_one_account_and_have_cloudknots_names(self, grant):
        for arn in grant.resources:
            if arn != "*" and not arn.startswith(("ec2:", "s3:::{bucket}")):
                assert "{here}" in arn or "{account}" in arn
                if arn == "ecr:{here}:repository/*":
                    assert all(re.match("ecr:(Describe|List)", action) for action in grant.actions)
                    continue
                if arn.endswith("aws-service-role/*"):
                    assert grant.condition["StringEquals"]["iam:AWSServiceName"]
                    continue
                assert re.search(r"cloudknot|\{repository\}|batch\.amazonaws|/batch/job|:job/", arn)

    def test_it_says_what_it_is_for(self, grant):
        assert grant.purpose
        assert grant.level in LEVELS


@pytest.mark.parametrize("level", LEVELS)
class TestPolicy:
    def test_the_command_prints_it_as_json(self, level):
        result = CliRunner().invoke(main, ["permissions", level, "--account", "123456789012", "--region", "us-east-1"])
        assert result.exit_code == 0
        assert json.loads(result.stdout) == policy(level, SCOPE)

    @pytest.mark.parametrize("region", ["ap-southeast-2", "us-gov-west-1", "cn-northwest-1", "us-isob-east-1"])
    def test_it_fits_into_a_managed_policy(self, level, region):
        """With the longest names of buckets, long ones of repositories, and in each partition."""
        scope = Scope("123456789012", region, "b" * 63, "r" * 60, partition_of(region))
        assert size(policy(level, scope)) <= LONGEST_POLICY

    def test_it_is_measured_without_white_space_as_iam_does(self, level):
        document = policy(level, SCOPE)
        assert size(document) == len(re.sub(r"\s", "", json.dumps(document)))

    def test_a_statement_that_is_lacking_gives_back_what_it_stands_in_for(self, level):
        every = {grant.sid: set(grant.actions) for grant in GRANTS}
        for grant in grants(level):
            held = grants(level, grant.sid)
            assert grant not in held
            actions = {action for one in held for action in one.actions}
            assert all(every[sid] <= actions for sid in grant.replaces)

    def test_a_statement_holds_what_it_stands_in_for(self, level):
        every = {grant.sid: grant for grant in GRANTS}
        for grant in grants(level):
            for sid in grant.replaces:
                assert set(every[sid].actions) <= set(grant.actions), sid

    def test_its_statements_have_names_of_their_own(self, level):
        sids = [statement["Sid"] for statement in policy(level, SCOPE)["Statement"]]
        assert len(set(sids)) == len(sids)
        assert all(re.fullmatch(r"[A-Za-z0-9]+", sid) for sid in sids)

    def test_the_page_holds_it(self, level):
        text = PAGE.read_text()
        blocks = [json.loads(body) for body in re.findall(r"^```json\n(.*?)^```$", text, re.M | re.S)]
        assert policy(level, Scope()) in blocks
        for grant in grants(level):
            assert f"| `{grant.sid}` | {grant.level} | {grant.purpose} |" in text


class TestScope:
    def test_what_is_not_known_is_to_be_replaced(self):
        result = CliRunner().invoke(main, ["permissions", "run"])
        assert "ACCOUNT_ID" in json.dumps(json.loads(result.stdout))
        assert "--account" in result.stderr
        assert result.output.index("--account") < result.output.index("Statement")

    def test_credentials_that_are_of_no_use_hinder_nothing(self, monkeypatch):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "x" * 20)
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9")
        result = CliRunner().invoke(main, ["permissions", "run"])
        assert result.exit_code == 0
        assert "ACCOUNT_ID" in result.stdout

    def test_bucket_repository_and_region_are_those_that_are_given(self):
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
    def test_partitions(self, region, partition):
        assert partition_of(region) == partition
        text = CliRunner().invoke(main, ["permissions", "create", "--account", "1" * 12, "--region", region]).stdout
        assert set(re.findall(r"arn:([^:]+):", text)) == {partition}

    def test_a_region_of_no_partition_is_told(self):
        result = CliRunner().invoke(main, ["permissions", "run", "--account", "1" * 12, "--region", "uswest-2"])
        assert result.exit_code == 1
        assert "'uswest-2' is not an AWS region. Near matches: us-west-2" in result.output

    def test_a_region_that_is_like_none_is_told_with_a_few(self):
        result = CliRunner().invoke(main, ["permissions", "run", "--account", "1" * 12, "--region", "moon"])
        assert "'moon' is not an AWS region. Every account has: ap-northeast-1, " in result.output

    def test_what_is_no_account_number_is_refused(self):
        for account in ("12", "1234-5678-9012", "12345678901x"):
            result = CliRunner().invoke(main, ["permissions", "run", "--account", account])
            assert result.exit_code == 2
            assert "12 digits" in result.output

    def test_an_unknown_level_is_refused(self):
        with pytest.raises(CloudknotInputError, match=r"^level='.*' is not 'run', 'create' or 'administer'\."):
            policy("everything", SCOPE)


UNUSED = {
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
"""What a handler needs only for properties that the templates do not have."""
NEVER_CHANGED = r"\w+:(Untag|UnTag|DeleteTags).*"
"""An update keeps the tags."""


class TestStacks:
    def test_every_type_has_its_handlers_here(self, handlers):
        assert set(handlers) == types_used()

    @pytest.mark.parametrize("operation", ["create", "update", "delete"])
    def test_who_may_create_may_do_what_the_resource_handlers_do(self, handlers, operation):
        allowed = {action.lower() for grant in grants("create") for action in grant.actions}
        for kind, operations in handlers.items():
            needed = operations.get(operation, {}).get("permissions", [])
            unused = f"{UNUSED.get(kind, 'none')}|{NEVER_CHANGED}"
            missing = [one for one in needed if one.lower() not in allowed and not re.fullmatch(unused, one, re.I)]
            assert missing == [], kind


class TestAdvice:
    WHO = "User: arn:aws:iam::123456789012:user/ann is not authorized to perform: "

    def test_it_names_the_action_and_the_statement(self):
        said = (
            self.WHO + "batch:SubmitJob on resource: arn:aws:batch:us-east-1:123456789012:job-queue/x because no ..."
        )
        text = advice(said)
        assert "batch:SubmitJob" in text
        assert (
            "the statement SubmitJobs of the policy that `cloudknot permissions run` prints. Its purpose: `map`."
            in text
        )

    def test_the_resource_decides_between_two_statements(self):
        queue = self.WHO + "batch:TagResource on resource: arn:aws:batch:us-east-1:123456789012:job-queue/x because"
        group = self.WHO + "ec2:CreateTags on resource: arn:aws:ec2:us-east-1:123456789012:security-group/* because"
        assert "MakeBatchResources" in advice(queue)
        assert "MakeGroupsAndTemplates" in advice(group)

    def test_a_call_without_words_is_known_by_its_operation(self):
        assert "ListRuns" in advice("", "s3:head_bucket")
        assert "MakeBucket" in advice("Access Denied", "s3:put_bucket_encryption")
        assert action_of("cloudformation:create_stack") == "cloudformation:CreateStack"

    def test_an_explicit_denial_is_told_apart(self):
        said = (
            self.WHO + "s3:CreateBucket on resource: arn:aws:s3:::b with an explicit deny in a service control policy"
        )
        assert "explicitly denies s3:CreateBucket" in advice(said)

    def test_what_no_policy_of_ours_is_about(self):
        assert "pars_policies" in advice(self.WHO + "sqs:SendMessage on resource: arn:aws:sqs:us-east-1:1:q because")
        assert advice("no such thing") == ""

    def test_a_denied_key_is_a_matter_of_whom_it_belongs_to(self):
        text = advice(self.WHO + "kms:GenerateDataKey on resource: arn:aws:kms:us-east-1:1:key/2 because no")
        assert text.startswith(
            "The permission kms:GenerateDataKey is missing for the KMS key that encrypts the bucket."
        )
        assert "set_s3_params(bucket, policy=...)" in text


def test_one_action_can_be_allowed_by_several_statements():
    assert [grant.sid for grant in allowing("cloudformation:describestacks")] == ["ListKnots", "FindKnots"]
