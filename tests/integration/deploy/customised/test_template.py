"""Knots and Pars with a CloudFormation template of the user's own, on the embedded cloud."""

import os

import pytest
from click.testing import CliRunner

import cloudknot as ck
from cloudknot.cli.main import main
from cloudknot.deploy.cloudformation import template
from cloudknot.deploy.cloudformation.stack import Stack
from cloudknot.deploy.inventory import stack_name
from tests.helpers.counting import CountingCloud
from tests.helpers.functions import cube, square
from tests.helpers.inventory import lasting

STATEMENT = """              # A map of maps reads"""
EDITS = (
    ("      RetentionInDays: 90\n", '      RetentionInDays: !FindInMap [Days, !Ref "AWS::Region", Logs]\n'),
    ("        - Key: cloudknot\n", "        - Key: Grant\n          Value: A-7\n        - Key: cloudknot\n"),
    (
        "\nConditions:\n",
        "  Level:\n    Type: Number\n    Default: 3\n\nMappings:\n  Days: {us-east-1: {Logs: 30}}\n\nConditions:\n",
    ),
    (
        "            Value: !Ref AWS::Region\n",
        "            Value: !Ref AWS::Region\n          - Name: LEVEL\n            Value: !Ref Level\n",
    ),
    ("          InitProcessEnabled: true\n", "          InitProcessEnabled: true\n          SharedMemorySize: 512\n"),
    (
        STATEMENT,
        "              - {Sid: Queue, Effect: Allow, Action: 'sqs:SendMessage', Resource: '*'}\n" + STATEMENT,
    ),
    ("          HttpTokens: required\n", "          HttpTokens: required\n        EbsOptimized: true\n"),
    (
        "\nOutputs:\n",
        "\n  Notes:\n    Type: AWS::Logs::LogGroup\n    Properties:\n      RetentionInDays: 1\n\nOutputs:\n",
    ),
)
"""More tags, a mapping, a parameter, a policy statement, a launch template, a job definition, a resource."""


def level(x):
    return x, os.environ.get("LEVEL")


def level_again(x):
    return -x, os.environ.get("LEVEL")


def container(knot):
    arn = knot.job_definition.arn
    answer = knot.cloud.call("batch", "describe_job_definitions", jobDefinitions=[arn])
    return answer["jobDefinitions"][0]["containerProperties"]


def resources(cloud, knot):
    rows = cloud.call("cloudformation", "describe_stack_resources", StackName=stack_name(knot))["StackResources"]
    return {row["LogicalResourceId"]: row["PhysicalResourceId"] for row in rows}


class TestKnot:
    def test_new_knot_has_edits(self, cloud, edited):
        knot = ck.Knot("edited", func=level, template=edited("knot", *EDITS), cloud=cloud)
        try:
            assert knot.map([1, 2]).result(120) == [(1, "3"), (2, "3")]
            assert container(knot)["linuxParameters"]["sharedMemorySize"] == 512
            made = resources(cloud, "edited")
            (group,) = cloud.call("logs", "describe_log_groups", logGroupNamePrefix="/cloudknot/edited")["logGroups"]
            assert group["retentionInDays"] == 30
            tags = cloud.call("logs", "list_tags_for_resource", resourceArn=group["arn"].removesuffix(":*"))["tags"]
            assert (tags["Grant"], tags["cloudknot"], tags["Name"]) == ("A-7", "edited-cloudknot", "edited")
            role = {"RoleName": made["JobRole"], "PolicyName": "cloudknot-runs"}
            document = cloud.call("iam", "get_role_policy", **role)["PolicyDocument"]
            assert "sqs:SendMessage" in str(document)
            assert "Notes" in made
            # A new function gets a new revision, with the parts of the template.
            other = ck.Knot("edited", func=level_again, cloud=cloud)
            assert other.job_definition.arn != knot.job_definition.arn
            assert other.map([1]).result(120) == [(-1, "3")]
            assert container(other)["linuxParameters"]["sharedMemorySize"] == 512
            assert ck.Knot("edited", cloud=cloud).map([5]).result(120) == [(-5, "3")]
        finally:
            knot.clobber()

    def test_existing_knot_takes_keeps_and_returns(self, cloud, edited, caplog):
        before = ck.Knot("turning", func=square, cloud=cloud)
        queue, definition = resources(cloud, "turning")["JobQueue"], before.job_definition.arn
        job = before.map([2]).job
        session = CountingCloud(cloud.directory)
        # Not the tags: AWS cannot change those of an existing compute environment.
        path = edited("knot", *EDITS[2:])
        ck.Knot("turning", func=square, template=path, cloud=session)
        assert "Changed: template." in caplog.text
        assert session.writes.count("update_stack") == 1
        assert resources(cloud, "turning")["JobQueue"] == queue
        # The revision of a running map stays, for its retries.
        revision = cloud.call("batch", "describe_job_definitions", jobDefinitions=[definition])["jobDefinitions"][0]
        assert revision["status"] == "ACTIVE"
        assert job.future().result(120) == [4]
        caplog.clear()
        session.forget()
        # Again with the same file, and then without one: nothing changes, and the second says so.
        ck.Knot("turning", func=square, template=path, cloud=session)
        assert (session.writes, caplog.text) == ([], "")
        ck.Knot("turning", func=square, cloud=session)
        assert session.writes == []
        assert "The knot 'turning' keeps the template of your own." in caplog.text
        # Another choice changes the stack, and the template stays.
        changed = ck.Knot("turning", func=cube, max_vcpus=7, cloud=session)
        assert session.writes.count("update_stack") == 1
        assert "Notes" in resources(cloud, "turning")
        assert {"name": "LEVEL", "value": "3"} in container(changed)["environment"]
        # With cloudknot's own template, it is like any other knot.
        ours = edited("knot")
        returned = ck.Knot("turning", func=cube, max_vcpus=7, template=ours, cloud=session)
        assert "Notes" not in resources(cloud, "turning")
        assert [item["name"] for item in container(returned)["environment"]] == ["AWS_DEFAULT_REGION"]
        assert not template.is_custom(Stack(cloud, stack_name("turning")).state().parameters)
        caplog.clear()
        ck.Knot("turning", func=cube, max_vcpus=7, cloud=session)
        assert caplog.text == ""
        returned.clobber()

    def test_tag_of_existing_compute_environment_is_refused_and_undone(self, cloud, edited):
        knot = ck.Knot("tagging", func=square, cloud=cloud)
        environment = "      Tags:\n        cloudknot: !Ref AWS::StackName\n\n  # Created last"
        more = environment.replace("cloudknot:", "Grant: A-7\n        cloudknot:")
        with pytest.raises(ck.errors.CannotCreateResourceException, match="custom-named resource requires replacing"):
            ck.Knot("tagging", func=square, template=edited("knot", (environment, more)), cloud=cloud)
        assert ck.Knot("tagging", func=square, cloud=cloud).map([3]).result(120) == [9]
        knot.clobber()

    def test_user_without_right_to_check_template_may_use_it(self, cloud, edited):
        class Denied(ck.LocalCloud):
            def call(self, service, operation, **arguments):
                if operation == "validate_template":
                    raise ck.errors.PermissionDeniedError("no", code="AccessDenied", operation="validate_template")
                return super().call(service, operation, **arguments)

        path = edited("knot", ("RetentionInDays: 90", "RetentionInDays: 7"))
        knot = ck.Knot("unchecked", func=square, template=path, cloud=Denied(cloud.directory))
        assert knot.map([3]).result(120) == [9]
        knot.clobber()


class TestPars:
    SSH = (
        "      GroupDescription: cloudknot jobs, nothing comes in\n",
        "      GroupDescription: cloudknot jobs, nothing comes in\n      SecurityGroupIngress:\n"
        "        - {IpProtocol: tcp, FromPort: 22, ToPort: 22, CidrIp: 10.0.0.0/8}\n",
    )

    def rules(self, cloud, pars):
        answer = cloud.call("ec2", "describe_security_groups", GroupIds=[pars.security_group])
        return [rule["FromPort"] for rule in answer["SecurityGroups"][0]["IpPermissions"]]

    def test_new_and_existing_pars_take_and_keep_template(self, cloud, edited, caplog):
        ours = ck.Pars("ssh", cloud=cloud)
        assert self.rules(cloud, ours) == []
        path = edited("pars", self.SSH)
        pars = ck.Pars("ssh", template=path, cloud=cloud)
        assert (self.rules(cloud, pars), pars.security_group) == ([22], ours.security_group)
        assert caplog.text == ""
        session = CountingCloud(cloud.directory)
        kept = ck.Pars("ssh", policies="AmazonSQSFullAccess", cloud=session)
        assert self.rules(cloud, kept) == [22]
        assert "The Pars 'ssh' keeps the template of your own." in caplog.text
        knot = ck.Knot("in-ssh", func=square, pars=kept, cloud=cloud)
        assert knot.map([3]).result(120) == [9]
        returned = ck.Pars("ssh", template=edited("pars"), cloud=cloud)
        assert self.rules(cloud, returned) == []
        knot.clobber(clobber_pars=True)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (("\nOutputs:\n", "\n  Alarm:\n    Type: AWS::CloudWatch::Alarm\n\nOutputs:\n"), "AWS::CloudWatch::Alarm"),
        (("RetentionInDays: 90", "RetentionInDays: !Cidr [a, 1]"), "does not know the functions Fn::Cidr"),
        (("\nOutputs:\n", "\nTransform: AWS::LanguageExtensions\n\nOutputs:\n"), "Transform"),
        (("RetentionInDays: 90", "RetentionInDays: !Ref Nothing"), r"Unresolved resource dependencies \[Nothing\]"),
        (
            ("- LogGroup\n    Properties:\n      JobQueueName", "- JobQueue\n    Properties:\n      JobQueueName"),
            "Circular",
        ),
    ],
)
def test_template_that_cloud_refuses_creates_nothing(cloud, edited, edit, reason):
    before = lasting(cloud)
    with pytest.raises(ck.errors.CloudknotInputError, match=reason):
        ck.Knot("refused", func=square, template=edited("knot", edit), cloud=cloud)
    assert lasting(cloud) == before


class TestCommand:
    @pytest.mark.parametrize("kind", ["knot", "pars", "build"])
    def test_command_prints_template_as_cloudknot_has_it(self, kind, tmp_path):
        assert CliRunner().invoke(main, ["template", kind]).output == template.load(kind)
        path = tmp_path / "mine.yaml"
        assert CliRunner().invoke(main, ["template", kind, "-o", str(path)]).exit_code == 0
        assert path.read_text(encoding="utf-8") == template.load(kind)

    def test_command_overwrites_nothing(self, tmp_path):
        path = tmp_path / "mine.yaml"
        path.write_text("mine")
        result = CliRunner().invoke(main, ["template", "knot", "-o", str(path)])
        assert (result.exit_code, path.read_text()) == (1, "mine")
        assert "cannot be written: File exists" in result.output
