"""The CloudFormation templates are valid in every variant, and the options of a Knot become their parameters.

cfn-lint and botocore's models check them. No request is made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from botocore import validate
from botocore.model import ServiceModel
from botocore.session import Session

from cloudknot.deploy import job_definition, knot_stack
from cloudknot.deploy.cloudformation import template
from cloudknot.deploy.job_definition import BucketName
from cloudknot.deploy.pars import Pars
from cloudknot.options.choices import KnotOptions
from cloudknot.options.template_documents import parse_template

REGIONS = ["us-east-1", "eu-central-1", "ap-southeast-2"]
TAGS = {"Owner": "me", "Environment": "cloudknot", "Name": "pi-calc", "Project: a": "b = c", "Größe": "é"}
ALL_TAGS = {**TAGS, "cloudknot": "pi-calc-cloudknot"}
PARS = SimpleNamespace(
    name="default",
    policies=[],
    permissions_boundary=None,
    execution_role="arn:aws:iam::123456789012:role/cloudknot/execution",
    batch_service_role="arn:aws:iam::123456789012:role/aws-service-role/batch.amazonaws.com/AWSServiceRoleForBatch",
    ecs_instance_profile="arn:aws:iam::123456789012:instance-profile/cloudknot/instances",
    subnets=["subnet-1", "subnet-2"],
    security_group="sg-1",
)
GOLDEN = {
    "Spelling": "pi-calc",
    "ParsName": "default",
    "JobDefinitionName": "pi-calc-cloudknot-job-definition",
    "Image": "registry/cloudknot:1",
    "Vcpus": "1",
    "Memory": "1900",
    "Gpus": "0",
    "Retries": "1",
    "Timeout": "604800",
    "Environment": "none",
    "Packages": "",
    "Bucket": "the-bucket",
    "BucketOwner": "",
    "BucketArns": "arn:aws:s3:::the-bucket",
    "RunArns": "arn:aws:s3:::the-bucket/cloudknot.jobs/pi-calc/*",
    "ResultArns": "arn:aws:s3:::the-bucket/cloudknot.jobs/*/outputs/*",
    "Prefixes": "cloudknot.jobs/pi-calc/*,cloudknot.jobs/*/outputs/*",
    "Policies": "",
    "PermissionsBoundary": "",
    "LogGroupName": "/cloudknot/pi-calc",
    "Compute": "",
    "ExecutionRole": "arn:aws:iam::123456789012:role/cloudknot/execution",
    "JobQueueName": "pi-calc-cloudknot-job-queue",
    "Priority": "1",
    "ComputeEnvironmentName": "pi-calc-cloudknot-compute-environment",
    "ServiceRole": ("arn:aws:iam::123456789012:role/aws-service-role/batch.amazonaws.com/AWSServiceRoleForBatch"),
    "InstanceProfile": "arn:aws:iam::123456789012:instance-profile/cloudknot/instances",
    "Subnets": "subnet-1,subnet-2",
    "SecurityGroup": "sg-1",
    "Fargate": "",
    "Architecture": "X86_64",
    "InstanceTypes": "optimal",
    "MinVcpus": "0",
    "DesiredVcpus": "",
    "MaxVcpus": "256",
    "BidPercentage": "",
    "VolumeSize": "0",
    "DiskTemplate": "yes",
    "ImageId": "",
    "KeyPair": "",
}
pytestmark = pytest.mark.filterwarnings("ignore:bid_percentage=0:UserWarning")

VARIANTS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "plain": ({}, {}),
    "spot": ({"bid_percentage": 100}, {"BidPercentage": "100"}),
    "spot at zero": ({"bid_percentage": 0}, {"BidPercentage": "0"}),
    "gpu": ({"n_gpus": 2}, {"Gpus": "2", "InstanceTypes": "g4dn,g5", "Memory": "7500"}),
    "volume": ({"volume_size": 200}, {"VolumeSize": "200"}),
    "image": ({"image_id": "ami-0123456789abcdef0"}, {"ImageId": "ami-0123456789abcdef0"}),
    "key pair": ({"ec2_key_pair": "lab"}, {"KeyPair": "lab"}),
    "job": (
        {"job_def_vcpus": 4, "memory": 1000, "retries": 3, "timeout": 600},
        {"Vcpus": "4", "Memory": "1000", "Retries": "3", "Timeout": "600"},
    ),
    "names": (
        {"job_definition_name": "a", "job_queue_name": "b", "compute_environment_name": "c", "priority": 7},
        {"JobDefinitionName": "a", "JobQueueName": "b", "ComputeEnvironmentName": "c", "Priority": "7"},
    ),
    "vcpus": ({"desired_vcpus": 2, "max_vcpus": 4}, {"DesiredVcpus": "2", "MaxVcpus": "4"}),
    "types": ({"instance_types": ["c6i.large", "m6i"]}, {"InstanceTypes": "c6i.large,m6i"}),
    "arm64": ({"instance_types": "default_arm64"}, {"InstanceTypes": "default_arm64", "Architecture": "ARM64"}),
    "graviton": ({"instance_types": "c7g"}, {"InstanceTypes": "c7g", "Architecture": "ARM64"}),
    "gpu of chosen types": (
        {"n_gpus": 1, "instance_types": "p4d"},
        {"Gpus": "1", "InstanceTypes": "p4d", "Memory": "7500"},
    ),
    "fargate": (
        {"instance_types": "fargate"},
        {"Fargate": "FARGATE", "InstanceTypes": "fargate", "Memory": "2048", "DiskTemplate": "no"},
    ),
    "fargate spot": (
        {"instance_types": "fargate-spot", "job_def_vcpus": 4, "memory": 30720, "max_vcpus": 64},
        {
            **{"Fargate": "FARGATE_SPOT", "InstanceTypes": "fargate-spot", "DiskTemplate": "no"},
            **{"Vcpus": "4", "Memory": "30720", "MaxVcpus": "64"},
        },
    ),
    "fargate arm64": (
        {"instance_types": "fargate-arm64", "job_def_vcpus": 2},
        {
            **{"Fargate": "FARGATE", "InstanceTypes": "fargate-arm64", "Architecture": "ARM64"},
            "DiskTemplate": "no",
            **{"Vcpus": "2", "Memory": "4096"},
        },
    ),
    "fargate spot arm64": (
        {"instance_types": "fargate-spot-arm64", "timeout": 60},
        {
            **{"Fargate": "FARGATE_SPOT", "InstanceTypes": "fargate-spot-arm64", "Architecture": "ARM64"},
            "DiskTemplate": "no",
            **{"Memory": "2048", "Timeout": "60"},
        },
    ),
}


def parameters_of(choices: Mapping[str, Any]) -> dict[str, str]:
    """Return the stack parameters of a knot with these options."""
    options = KnotOptions.make(name="pi-calc", **choices)
    return knot_stack.wanted_parameters(options, cast(Pars, PARS), "registry/cloudknot:1", BucketName("the-bucket"))


def with_role(parameters: Mapping[str, str]) -> dict[str, str]:
    """Return parameters with the ARN of the job role, which only the created stack knows."""
    return {**parameters, "JobRole.Arn": "1"}


@pytest.mark.parametrize(("choices", "changed"), VARIANTS.values(), ids=VARIANTS)
def test_options_become_template_parameters(choices: dict[str, Any], changed: dict[str, str]) -> None:
    assert parameters_of(choices) == {**GOLDEN, **changed}


@pytest.fixture(scope="module")
def batch_model() -> ServiceModel:
    return Session().get_service_model("batch")


@pytest.mark.parametrize("choices", [choices for choices, _ in VARIANTS.values()], ids=VARIANTS)
def test_botocore_accepts_job_definition(choices: dict[str, Any], batch_model: ServiceModel) -> None:
    request = job_definition.job_definition(with_role(parameters_of(choices)), "eu-west-1")
    shape = batch_model.operation_model("RegisterJobDefinition").input_shape
    report = validate.ParamValidator().validate({**request, "tags": TAGS}, shape)
    assert not report.has_errors(), report.generate_report()


@pytest.mark.parametrize("choices", [choices for choices, _ in VARIANTS.values()], ids=VARIANTS)
def test_template_and_api_create_same_job_definition(choices: dict[str, Any]) -> None:
    """cloudknot reuses CloudFormation's job definition, so it must equal the one for RegisterJobDefinition."""
    parameters = parameters_of(choices)
    resource = resolved(KNOT, parameters)["Resources"]["JobDefinition"]
    from_api = job_definition.job_definition(with_role(parameters), "eu-west-1")
    from_template = {**api_names(resource["Properties"]), "parameters": resource["Properties"]["Parameters"]}
    assert job_definition.facts(from_template) == job_definition.facts(from_api)
    assert from_template["platformCapabilities"] == from_api["platformCapabilities"]
    assert set(from_template["containerProperties"]) == set(from_api["containerProperties"])


@pytest.mark.parametrize("choices", [choices for choices, _ in VARIANTS.values()], ids=VARIANTS)
def test_botocore_accepts_compute_environment_and_job_queue(
    choices: dict[str, Any], batch_model: ServiceModel
) -> None:
    resources = resolved(KNOT, parameters_of(choices))["Resources"]
    compute = api_names(resources["ComputeEnvironment"]["Properties"])
    for name in ("replaceComputeEnvironment", "tags"):
        compute.pop(name)
    update = {"computeEnvironment": "arn", "updatePolicy": compute.pop("updatePolicy", {})}
    report = validate.ParamValidator().validate(
        update, batch_model.operation_model("UpdateComputeEnvironment").input_shape
    )
    assert not report.has_errors(), report.generate_report()
    for name in ("minvCpus", "maxvCpus", "desiredvCpus", "bidPercentage"):
        if name in compute["computeResources"]:
            compute["computeResources"][name] = int(compute["computeResources"][name])
    compute["computeResources"].pop("tags", None)
    shape = batch_model.operation_model("CreateComputeEnvironment").input_shape
    report = validate.ParamValidator().validate(compute, shape)
    assert not report.has_errors(), report.generate_report()
    queue = api_names(resources["JobQueue"]["Properties"])
    queue.pop("tags")
    queue["priority"] = int(queue["priority"])
    shape = batch_model.operation_model("CreateJobQueue").input_shape
    report = validate.ParamValidator().validate(queue, shape)
    assert not report.has_errors(), report.generate_report()


def test_fargate_environment_has_no_instance_properties() -> None:
    resources = resolved(KNOT, parameters_of({"instance_types": "fargate"}))["Resources"]
    environment = resources["ComputeEnvironment"]["Properties"]
    assert set(environment["ComputeResources"]) == {"Type", "MaxvCpus", "Subnets", "SecurityGroupIds"}
    assert "UpdatePolicy" not in environment


@pytest.mark.parametrize("choices", [{}, {"volume_size": 200}, {"image_id": "ami-0123456789abcdef0"}])
def test_launch_template_tags_disks_of_every_size(choices: dict[str, Any]) -> None:
    loaded = parse_template(template.fill_in(template.load("knot"), TAGS))
    resources = resolved(loaded, parameters_of(choices))["Resources"]
    data = resources["LaunchTemplate"]["Properties"]["LaunchTemplateData"]
    (tagged,) = data["TagSpecifications"]
    assert tagged["ResourceType"] == "volume"
    assert data["MetadataOptions"] == {"HttpTokens": "required"}
    assert {item["Key"]: item["Value"] for item in tagged["Tags"]} == ALL_TAGS
    assert ("BlockDeviceMappings" in data) == ("volume_size" in choices)
    assert resources["ComputeEnvironment"]["Properties"]["ComputeResources"]["LaunchTemplate"] == {
        "LaunchTemplateId": "lt-1",
        "Version": "1",
    }


def test_running_jobs_survive_update_of_compute_environment() -> None:
    """Batch waits at most 7,200 minutes for them (Batch API reference, UpdatePolicy)."""
    environment = resolved(KNOT, parameters_of({}))["Resources"]["ComputeEnvironment"]["Properties"]
    assert environment["UpdatePolicy"] == {"TerminateJobsOnUpdate": False, "JobExecutionTimeoutMinutes": 7200}


@pytest.mark.parametrize("fargate", ["", "FARGATE", "FARGATE_SPOT"])
def test_retry_rules_follow_batch_syntax(fargate: str) -> None:
    rules = job_definition._filled(job_definition.RETRY_RULES, {"Fargate": fargate})
    assert isinstance(rules, list)
    assert len(rules) <= 5
    assert len(job_definition.RULES_FOR_SEVERAL) <= 5
    # The end of the function is the end of the job, and no rule ends jobs that lost their machine.
    assert {"onStatusReason": "Essential container*", "action": "EXIT"} in rules
    rules += job_definition.RULES_FOR_SEVERAL
    patterns = [value for rule in rules for name, value in rule.items() if name != "action"]
    assert all(re.fullmatch(r"[A-Za-z0-9.: ]*\*?", pattern) for pattern in patterns)


def test_job_queue_cancels_only_jobs_that_cannot_start() -> None:
    """Batch accepts 600 to 86,400 s. Only a lack of machines can pass, so its limit is the longest."""
    queue = KNOT["Resources"]["JobQueue"]["Properties"]
    limits = {item["Reason"]: item["MaxTimeSeconds"] for item in queue["JobStateTimeLimitActions"]}
    assert limits == {
        "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE": 600,
        "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT": 600,
        "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY": 86400,
    }


ABSENT = object()
"""The value of AWS::NoValue, by which a template leaves out a property."""
KNOT = parse_template(template.load("knot"))


def resolved(loaded: Any, parameters: Mapping[str, str]) -> Any:
    """Return a template's resources as CloudFormation reads them, with conditions and parameters resolved."""
    values = {name: declared.get("Default") for name, declared in loaded["Parameters"].items()} | dict(parameters)

    def condition(item: Any) -> bool:
        if "Condition" in item:
            return condition(loaded["Conditions"][item["Condition"]])
        (name, arguments), *_ = item.items()
        if name == "Fn::Equals":
            first, second = (value(argument) for argument in arguments)
            return str(first) == str(second)
        operands = [condition(argument) for argument in arguments]
        return not operands[0] if name == "Fn::Not" else all(operands)

    def value(item: Any) -> Any:
        if isinstance(item, list):
            return [entry for entry in map(value, item) if entry is not ABSENT]
        if not isinstance(item, dict):
            return item
        if set(item) == {"Ref"}:
            return ABSENT if item["Ref"] == "AWS::NoValue" else values.get(item["Ref"], REFERENCES.get(item["Ref"]))
        if set(item) == {"Fn::If"}:
            name, yes, no = item["Fn::If"]
            return value(yes if condition(loaded["Conditions"][name]) else no)
        if set(item) == {"Fn::Split"}:
            separator, joined = item["Fn::Split"]
            return str(value(joined)).split(separator)
        if set(item) == {"Fn::GetAtt"}:
            return "1"
        values_of = {name: value(inner) for name, inner in item.items()}
        return {name: inner for name, inner in values_of.items() if inner is not ABSENT}

    return value({"Resources": loaded["Resources"]})


REFERENCES = {
    "AWS::Region": "eu-west-1",
    "AWS::StackName": "pi-calc-cloudknot",
    "LogGroup": "/cloudknot/pi-calc",
    "LaunchTemplate": "lt-1",
    "ComputeEnvironment": "arn",
}


def api_names(item: Any) -> Any:
    """Return an item with names as in Batch's API: their first letters are lower case."""
    if isinstance(item, list):
        return [api_names(entry) for entry in item]
    if isinstance(item, dict):
        return {name[0].lower() + name[1:]: api_names(inner) for name, inner in item.items()}
    return item


def test_options_give_every_template_parameter() -> None:
    declared = set(re.findall(r"^  (\w+):$", template.load("knot").split("\nConditions:")[0], re.MULTILINE))
    assert declared == {*GOLDEN, template.DIGEST}


def findings(text: str, regions: Sequence[str] = ("us-east-1",)) -> list[str]:
    """Return the warnings and errors of cfn-lint for a template."""
    # Here, because other modules import this one, and cfn-lint's own imports take a second.
    from cfnlint.api import lint
    from cfnlint.config import ManualArgs

    arguments = ManualArgs(regions=list(regions), include_checks=["W", "E"])
    return [f"{match.rule.id} {match.message}" for match in lint(text, config=arguments)]


@pytest.mark.parametrize("tags", [{}, TAGS], ids=["file", "request"])
@pytest.mark.parametrize("name", ["pars", "knot", "build"])
def test_template_passes_cfn_lint(name: str, tags: Mapping[str, str]) -> None:
    """A template is valid as it is, and as cloudknot sends it.

    cfn-lint follows both sides of every condition, so one run covers all variants.
    """
    text = template.load(name)
    assert (template.fill_in(text, tags) == text) == (not tags)
    assert findings(template.fill_in(text, tags), REGIONS) == []


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("knot", "SPOT_PRICE_CAPACITY_OPTIMIZED", "SPOT_PRICE_OPTIMIZED"),
        ("knot", "LatestVersionNumber", "LatestVersion"),
        ("knot", "AttemptDurationSeconds", "Seconds"),
        ("pars", "s3:AbortMultipartUpload", "s3:AbortUpload"),
        ("pars", "MapPublicIpOnLaunch", "PublicIp"),
        ("build", "PrivilegedMode", "Privileged"),
        ("build", "ecr:PutImage", "ecr:PushImage"),
    ],
)
def test_cfn_lint_finds_injected_mistake(name: str, right: str, wrong: str) -> None:
    text = template.fill_in(template.load(name), TAGS)
    assert right in text
    assert findings(text.replace(right, wrong))


@pytest.mark.parametrize(("name", "untaggable"), [("pars", 5), ("knot", 0), ("build", 0)])
def test_every_taggable_resource_has_tags(name: str, untaggable: int) -> None:
    """CloudFormation cannot tag instance profiles, gateway attachments, routes and associations."""
    loaded = parse_template(template.fill_in(template.load(name), TAGS))
    own = {"Ref": "AWS::StackName"}
    as_list = [{"Key": key, "Value": value} for key, value in {**TAGS, "cloudknot": own}.items()]
    bare = [
        resource["Type"]
        for resource in loaded["Resources"].values()
        if json.loads(json.dumps(resource["Properties"].get("Tags"))) not in (as_list, {**TAGS, "cloudknot": own})
        and "TagSpecifications" not in resource["Properties"]
    ]
    assert len(bare) == untaggable


def template_parts() -> dict[str, Mapping[str, object]]:
    """Return the properties of the job definition and the conditions, as the template has them."""
    return {
        "properties": {
            _capital(name): _resource(value, name in job_definition.FREE_KEYS)
            for name, value in job_definition.DEFINITION.items()
        },
        "conditions": {
            name: {"Fn::Not": [{"Fn::Equals": [{"Ref": parameter}, empty]}]}
            for name, (parameter, empty) in job_definition.CONDITIONS.items()
        },
    }


def _capital(name: str) -> str:
    return name[0].upper() + name[1:]


def _resource(value: job_definition.Value, free_keys: bool = False) -> object:
    """Return a part of the definition in CloudFormation's form: capitalised keys and intrinsic functions."""
    if isinstance(value, job_definition.Ref):
        return {"Fn::GetAtt": value.name.split(".")} if "." in value.name else {"Ref": value.name}
    if isinstance(value, job_definition.If):
        return {"Fn::If": [value.condition, _resource(value.value), _resource(value.otherwise)]}
    if isinstance(value, Mapping):
        return {
            key if free_keys else _capital(key): _resource(part, key in job_definition.FREE_KEYS)
            for key, part in value.items()
        }
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_resource(part) for part in value]
    return {"Ref": "AWS::NoValue"} if value is None else value


def test_template_has_job_definition_for_api() -> None:
    """Edit both: `DEFINITION` and its conditions in job_definition.py, and the resource JobDefinition in knot.yaml."""
    loaded = parse_template(template.load("knot"))
    properties, parts = loaded["Resources"]["JobDefinition"]["Properties"], template_parts()
    for name in ("ResourceRetentionPolicy", "Tags"):
        properties.pop(name)
    assert properties == json.loads(json.dumps(parts["properties"]))
    assert {name: loaded["Conditions"][name] for name in parts["conditions"]} == parts["conditions"]


def test_digest_depends_on_content_and_not_on_layout() -> None:
    one = template.digest("Resources: {A: !Ref B}")
    assert (
        one == template.digest('# comment\nResources:\n  A:\n    Ref: "B"\n') != template.digest("Resources: {A: B}")
    )
    assert one == template.digest('{"Resources": {"A": {"Ref": "B"}}}')


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Tags:\n- Key: cloudknot\n  Value: x\n- Key: own\n  Value: y", ["Größe", "Owner", "cloudknot", "own"]),
        ("Tags: [{Key: own, Value: y}, {Key: cloudknot, Value: x}]", ["Größe", "Owner", "own", "cloudknot"]),
        ("Tags: [{Key: Owner, Value: mine}, {Key: cloudknot, Value: x}]", ["Größe", "Owner", "cloudknot"]),
        ("Tags: {cloudknot: x, own: y}", ["Größe", "Owner", "cloudknot", "own"]),
        ("Tags:\n    own: y\n    cloudknot: x", ["Größe", "Owner", "own", "cloudknot"]),
        ("Tags: !If [A, {cloudknot: x}, {own: y}]", [["A", ["Größe", "Owner", "cloudknot"], ["own"]]]),
        ("Tags: [{Key: own, Value: y}]", ["own"]),
        ("Options: {cloudknot: x}", []),
        ('{"Tags": [{"Key": "cloudknot", "Value": "x"}]}', ["Größe", "Owner", "cloudknot"]),
    ],
)
def test_tags_go_beside_the_tag_cloudknot(text: str, expected: list[Any]) -> None:
    filled = template.fill_in(f"# Ümlaut 😀\n{text}\n" if text[0] != "{" else text, {"Größe": "😀", "Owner": "me"})
    assert keys_of(parse_template(filled).get("Tags", [])) == expected
    assert "mine" in filled or "Owner" not in filled or '"me"' in filled


def keys_of(tags: Any) -> list[Any]:
    """Return the keys of tags, in the form of a list or of a mapping."""
    if isinstance(tags, list):
        return [item["Key"] for item in tags]
    if "Fn::If" in tags:
        return [[tags["Fn::If"][0], *map(keys_of, tags["Fn::If"][1:])]]
    return list(tags)
