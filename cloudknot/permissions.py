"""The IAM policies that a person needs: to run, to create, to administer. No I/O.

Each statement is here once, with its level and what it is for. Resources are cloudknot's own names; ``*`` is there
only where AWS has no resource level (Service Authorization Reference). EC2 names its resources itself, so those are
given by their type.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from cloudknot.rules import refuse

LEVELS = ("run", "create", "administer")
"""Each level holds those before it."""
ACCOUNT, REGION = "ACCOUNT_ID", "REGION"
"""Stand for what is not known."""
LONGEST_POLICY = 6144
"""Characters without white space that a managed policy may have (IAM user guide, "IAM and AWS STS quotas")."""


@dataclass(frozen=True)
class Scope:
    """Whose resources a policy is about."""

    account: str = ACCOUNT
    region: str = REGION
    bucket: str = ""
    repository: str = "cloudknot"
    partition: str = "aws"

    @property
    def names(self) -> dict[str, str]:
        """What the words in braces of a statement stand for."""
        return {
            "here": f"{self.region}:{self.account}",
            "account": self.account,
            "bucket": self.bucket or f"cloudknot-{self.account}-{self.region}",
            "repository": self.repository,
            "partition": self.partition,
            "suffix": "amazonaws.com.cn" if self.partition == "aws-cn" else "amazonaws.com",
        }


@dataclass(frozen=True)
class Grant:
    """One statement of a policy.

    Parameters
    ----------
    sid : str
    level : str
        The first of `LEVELS` that has it.
    purpose : str
        What does not work without it.
    actions : str
        Of one service, or each with its service, separated by blanks.
    resources : tuple of str
        ARNs without ``arn:<partition>:``, or ``"*"``.
    condition : mapping
    """

    sid: str
    level: str
    purpose: str
    actions: tuple[str, ...]
    resources: tuple[str, ...] = ("*",)
    condition: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def statement(self, scope: Scope) -> dict[str, Any]:
        """As it stands in a policy document."""
        arns = [one if one == "*" else f"arn:{{partition}}:{one}" for one in self.resources]
        filled = _filled([*arns], scope.names)
        whole = {
            "Sid": self.sid,
            "Effect": "Allow",
            "Action": list(self.actions),
            "Resource": filled[0] if len(filled) == 1 else filled,
            "Condition": _filled(self.condition, scope.names),
        }
        return {name: value for name, value in whole.items() if value}


def _filled(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _filled(item, names) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(item, names) for item in value]
    return value.format_map(names)


def _of(service: str, operations: str) -> tuple[str, ...]:
    return tuple(f"{service}:{operation}" for operation in operations.split())


RUN = (
    Grant(
        "FindKnots",
        "run",
        "finding a knot by its name",
        _of("cloudformation", "DescribeStacks"),
        ("cloudformation:{here}:stack/*-cloudknot*",),
    ),
    Grant(
        "FindJobs",
        "run",
        "finding a knot's jobs and their states",
        _of("batch", "DescribeJobDefinitions DescribeJobs ListJobs"),
    ),
    Grant(
        "SubmitJobs",
        "run",
        "`map`",
        _of("batch", "SubmitJob"),
        ("batch:{here}:job-definition/*-cloudknot*", "batch:{here}:job-queue/*-cloudknot*"),
    ),
    Grant("EndJobs", "run", "`cancel`, `terminate`", _of("batch", "TerminateJob"), ("batch:{here}:job/*",)),
    Grant(
        "UseRuns",
        "run",
        "inputs and results of maps",
        _of("s3", "GetObject PutObject DeleteObject AbortMultipartUpload"),
        ("s3:::{bucket}/cloudknot.jobs/*",),
    ),
    Grant("ListRuns", "run", "finding results", _of("s3", "ListBucket"), ("s3:::{bucket}",)),
    Grant(
        "ReadLogs",
        "run",
        "`job.logs`",
        _of("logs", "GetLogEvents"),
        ("logs:{here}:log-group:/aws/batch/job:*", "logs:{here}:log-group:/cloudknot/*"),
    ),
)

CREATE = (
    # Without a name, DescribeStacks is about every stack of the account (CloudFormation API reference).
    Grant("ListKnots", "create", "`list_knots`", _of("cloudformation", "DescribeStacks ListStacks")),
    Grant(
        "MakeStacks",
        "create",
        "making, changing and removing the stacks of knots and Pars",
        _of("cloudformation", "CreateStack UpdateStack DeleteStack DescribeStackEvents TagResource"),
        ("cloudformation:{here}:stack/*-cloudknot*",),
    ),
    Grant(
        "MakeRoles",
        "create",
        "the roles of jobs and instances, in the stack of a Pars",
        _of(
            "iam",
            "CreateRole GetRole DeleteRole TagRole UpdateRole UpdateAssumeRolePolicy AttachRolePolicy "
            "DetachRolePolicy ListAttachedRolePolicies PutRolePolicy GetRolePolicy DeleteRolePolicy ListRolePolicies",
        ),
        ("iam::{account}:role/cloudknot/*",),
    ),
    Grant(
        "MakeInstanceProfiles",
        "create",
        "the instance profile, in the stack of a Pars",
        _of(
            "iam",
            "CreateInstanceProfile GetInstanceProfile DeleteInstanceProfile AddRoleToInstanceProfile "
            "RemoveRoleFromInstanceProfile",
        ),
        ("iam::{account}:instance-profile/cloudknot/*",),
    ),
    Grant(
        "GiveRoles",
        "create",
        "giving these roles to jobs and instances",
        _of("iam", "PassRole"),
        (
            "iam::{account}:role/cloudknot/*",
            "iam::{account}:role/aws-service-role/batch.amazonaws.com/AWSServiceRoleFor*",
        ),
        {
            "StringEquals": {
                "iam:PassedToService": [
                    "batch.amazonaws.com",
                    "ec2.{suffix}",
                    "ecs-tasks.amazonaws.com",
                    "spotfleet.amazonaws.com",
                ]
            }
        },
    ),
    Grant(
        "MakeBatchsOwnRole",
        "create",
        "the first use of Batch in an account",
        _of("iam", "CreateServiceLinkedRole"),
        ("iam::{account}:role/aws-service-role/batch.amazonaws.com/*",),
        {"StringEquals": {"iam:AWSServiceName": "batch.amazonaws.com"}},
    ),
    Grant(
        "MakeBatchResources",
        "create",
        "job definition, queue and compute environment, in the stack of a knot",
        _of(
            "batch",
            "CreateComputeEnvironment UpdateComputeEnvironment DeleteComputeEnvironment SetCapacityTags "
            "CreateJobQueue UpdateJobQueue DeleteJobQueue RegisterJobDefinition DeregisterJobDefinition TagResource",
        ),
        ("batch:{here}:*/*-cloudknot*",),
    ),
    Grant(
        "MakeLogGroups",
        "create",
        "the log group, in the stack of a knot",
        _of("logs", "CreateLogGroup DeleteLogGroup PutRetentionPolicy TagResource"),
        ("logs:{here}:log-group:/cloudknot/*",),
    ),
    Grant(
        "FindResources",
        "create",
        "finding roles, policies, the default VPC and instance types, and waiting for what a stack makes",
        _of("iam", "ListRoles ListPolicies")
        + _of("batch", "DescribeComputeEnvironments DescribeJobQueues")
        + _of("logs", "DescribeLogGroups")
        + _of(
            "ec2",
            "DescribeAvailabilityZones DescribeInstanceTypeOfferings DescribeInstanceTypes DescribeInstances "
            "DescribeInternetGateways DescribeLaunchTemplates DescribeLaunchTemplateVersions "
            "DescribeNetworkInterfaces DescribeRouteTables DescribeSecurityGroups DescribeSubnets "
            "DescribeVpcEndpoints DescribeVpcs",
        ),
    ),
    Grant(
        "MakeNetworks",
        "create",
        "security group, VPC (`use_default_vpc=False`) and launch template (`volume_size`), in the stacks",
        _of(
            "ec2",
            "CreateSecurityGroup DeleteSecurityGroup CreateVpc DeleteVpc ModifyVpcAttribute DescribeVpcAttribute "
            "CreateSubnet DeleteSubnet ModifySubnetAttribute CreateInternetGateway DeleteInternetGateway "
            "AttachInternetGateway DetachInternetGateway CreateRouteTable DeleteRouteTable CreateRoute DeleteRoute "
            "AssociateRouteTable DisassociateRouteTable CreateVpcEndpoint DeleteVpcEndpoints CreateLaunchTemplate "
            "CreateLaunchTemplateVersion DeleteLaunchTemplate CreateTags",
        ),
        (
            "ec2:{here}:security-group/*",
            "ec2:{here}:vpc/*",
            "ec2:{here}:vpc-endpoint/*",
            "ec2:{here}:subnet/*",
            "ec2:{here}:internet-gateway/*",
            "ec2:{here}:route-table/*",
            "ec2:{here}:launch-template/*",
        ),
    ),
    Grant(
        "MakeBucket",
        "create",
        "the bucket of inputs and results",
        _of(
            "s3",
            "CreateBucket PutBucketPublicAccessBlock PutEncryptionConfiguration PutBucketPolicy "
            "PutLifecycleConfiguration PutBucketTagging GetBucketTagging",
        ),
        ("s3:::{bucket}",),
    ),
    Grant(
        "MakeImages",
        "create",
        "the image repository and the images in it",
        _of(
            "ecr",
            "DescribeRepositories CreateRepository TagResource PutLifecyclePolicy DescribeImages BatchGetImage "
            "BatchCheckLayerAvailability GetDownloadUrlForLayer InitiateLayerUpload UploadLayerPart "
            "CompleteLayerUpload PutImage",
        ),
        ("ecr:{here}:repository/{repository}",),
    ),
    Grant("LogInToRegistry", "create", "pushing an image", _of("ecr", "GetAuthorizationToken")),
)

ADMINISTER = (
    Grant(
        "DeleteImages",
        "administer",
        "`clobber(clobber_image=True)`, `clobber(clobber_repo=True)`",
        _of("ecr", "BatchDeleteImage DeleteRepository"),
        ("ecr:{here}:repository/{repository}",),
    ),
)

GRANTS = (*RUN, *CREATE, *ADMINISTER)


def policy(level: str, scope: Scope) -> dict[str, Any]:
    """The policy document of a level. Raises `CloudknotInputError` for an unknown one."""
    if level not in LEVELS:
        refuse("level", level, "run, create or administer")
    return {"Version": "2012-10-17", "Statement": [grant.statement(scope) for grant in grants(level)]}


def grants(level: str) -> list[Grant]:
    """The statements of a level, those of the levels below it first."""
    return [grant for grant in GRANTS if LEVELS.index(grant.level) <= LEVELS.index(level)]


def allowing(action: str, resource: str = "") -> Iterator[Grant]:
    """The statements that allow an action (``"batch:SubmitJob"``), those about such a resource first."""
    found = [grant for grant in GRANTS if any(action.lower() == one.lower() for one in grant.actions)]
    kind = ":".join(resource.split(":")[2:3])
    yield from sorted(found, key=lambda grant: not any(one.startswith(f"{kind}:") for one in grant.resources))


def size(document: Mapping[str, Any]) -> int:
    """Characters of a policy as IAM counts them."""
    return len(json.dumps(document, separators=(",", ":")))


def partition_of(region: str) -> str:
    """The partition of a region (AWS General Reference, "Amazon Resource Names")."""
    starts = {"cn-*": "aws-cn", "us-gov-*": "aws-us-gov"}
    return next((name for pattern, name in starts.items() if fnmatchcase(region, pattern)), "aws")
