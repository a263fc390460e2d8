"""The statements of the IAM policies that people need, each with its level and its purpose. Data only.

Resources are limited to cloudknot's own names. ``*`` is used only for actions that AWS cannot limit to a resource
(Service Authorization Reference). EC2 chooses the names of its resources, so these are limited by type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

LEVELS = ("run", "create", "administer")
"""Each level includes the levels before it."""


@dataclass(frozen=True)
class Grant:
    """One statement of a policy.

    Parameters
    ----------
    sid : str
    level : str
        The lowest of `LEVELS` that includes the statement.
    purpose : str
        The use of cloudknot that needs the statement.
    actions : tuple of str
        IAM actions such as ``"batch:SubmitJob"``.
    resources : tuple of str
        ARNs without ``arn:<partition>:``, or ``"*"``.
    condition : mapping
        IAM's condition: values by key by operator.
    replaces : tuple of str
        Sids of earlier statements that this one includes. A policy leaves them out, to fit into a managed policy.
    """

    sid: str
    level: str
    purpose: str
    actions: tuple[str, ...]
    resources: tuple[str, ...] = ("*",)
    condition: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    replaces: tuple[str, ...] = ()


def _of(service: str, operations: str) -> tuple[str, ...]:
    return tuple(f"{service}:{operation}" for operation in operations.split())


_SUBMIT = _of("batch", "SubmitJob")
_LIST_RUNS = _of("s3", "ListBucket")

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
        _SUBMIT,
        ("batch:{here}:job-definition/*-cloudknot*", "batch:{here}:job-queue/*-cloudknot*"),
    ),
    Grant(
        "TagAndEndJobs",
        "run",
        "`map` (its jobs get the knot's tags), `cancel` and `terminate`",
        _of("batch", "TagResource TerminateJob"),
        # Batch gives jobs random ids, so a policy cannot name those of a knot.
        ("batch:{here}:job/*",),
    ),
    Grant(
        "UseRuns",
        "run",
        "inputs and results of maps",
        _of("s3", "GetObject PutObject DeleteObject AbortMultipartUpload"),
        ("s3:::{bucket}/cloudknot.jobs/*",),
    ),
    # ListBucket is an action on the bucket, not on its objects, so its resource cannot have the prefix of the runs.
    Grant("ListRuns", "run", "finding results", _LIST_RUNS, ("s3:::{bucket}",)),
    Grant(
        "ReadLogs",
        "run",
        "`job.logs`",
        _of("logs", "GetLogEvents"),
        # Jobs without a log group of their knot log to Batch's own group.
        ("logs:{here}:log-group:/aws/batch/job:*", "logs:{here}:log-group:/cloudknot/*"),
    ),
)

_BUCKET = _of(
    "s3",
    "CreateBucket PutBucketPublicAccessBlock PutEncryptionConfiguration PutBucketPolicy "
    "PutLifecycleConfiguration PutBucketTagging GetBucketTagging",
)
_IMAGES = _of(
    "ecr",
    "DescribeRepositories CreateRepository TagResource ListTagsForResource GetLifecyclePolicy PutLifecyclePolicy "
    "DescribeImages BatchGetImage BatchCheckLayerAvailability GetDownloadUrlForLayer InitiateLayerUpload "
    "UploadLayerPart CompleteLayerUpload PutImage",
)

CREATE = (
    # DescribeStacks without a name concerns every stack of the account (CloudFormation API reference).
    Grant(
        "ListKnots",
        "create",
        "finding all knots, and a knot by its name",
        _of("cloudformation", "DescribeStacks ListStacks"),
        replaces=("FindKnots",),
    ),
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
        "the roles of jobs and instances and the instance profile, in the stack of a Pars",
        _of(
            "iam",
            "CreateRole GetRole DeleteRole TagRole UpdateRole UpdateAssumeRolePolicy AttachRolePolicy "
            "DetachRolePolicy ListAttachedRolePolicies PutRolePolicy GetRolePolicy DeleteRolePolicy ListRolePolicies "
            "CreateInstanceProfile GetInstanceProfile DeleteInstanceProfile TagInstanceProfile "
            "AddRoleToInstanceProfile RemoveRoleFromInstanceProfile",
        ),
        # The template of a Pars makes them with this path, so a user cannot change other roles of the account.
        ("iam::{account}:role/cloudknot/*", "iam::{account}:instance-profile/cloudknot/*"),
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
        # Without this condition, a user could give the roles to any other service.
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
        "MakeServicesOwnRoles",
        "create",
        "the first use of Batch, and of Spot instances, in an account",
        _of("iam", "CreateServiceLinkedRole"),
        ("iam::{account}:role/aws-service-role/*",),
        # Without this condition, a user could create the role of any AWS service.
        {"StringEquals": {"iam:AWSServiceName": ["batch.amazonaws.com", "spot.amazonaws.com"]}},
    ),
    Grant(
        "MakeBatchResources",
        "create",
        "job definition, queue and compute environment, in the stack of a knot",
        _SUBMIT
        + _of(
            "batch",
            "CreateComputeEnvironment UpdateComputeEnvironment DeleteComputeEnvironment SetCapacityTags "
            "CreateJobQueue UpdateJobQueue DeleteJobQueue RegisterJobDefinition DeregisterJobDefinition TagResource",
        ),
        ("batch:{here}:*/*-cloudknot*",),
        replaces=("SubmitJobs",),
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
        "finding roles, policies, networks, machine images and key pairs, waiting for stacks, and pushing images",
        _of("iam", "ListRoles ListPolicies")
        + _of("ecr", "GetAuthorizationToken")
        + _of("batch", "DescribeComputeEnvironments DescribeJobQueues")
        + _of("logs", "DescribeLogGroups")
        + _of(
            "ec2",
            "DescribeAvailabilityZones DescribeImages DescribeInstanceTypeOfferings DescribeInstanceTypes "
            "DescribeInstances DescribeInternetGateways DescribeKeyPairs DescribeLaunchTemplates "
            "DescribeLaunchTemplateVersions DescribeNetworkInterfaces DescribeRouteTables DescribeSecurityGroups "
            "DescribeSubnets DescribeVpcEndpoints DescribeVpcs",
        ),
    ),
    Grant(
        "MakeGroupsAndTemplates",
        "create",
        "security group and launch template, in the stacks",
        _of(
            "ec2",
            "CreateSecurityGroup DeleteSecurityGroup CreateLaunchTemplate CreateLaunchTemplateVersion "
            "DeleteLaunchTemplate CreateTags",
        ),
        ("ec2:{here}:security-group/*", "ec2:{here}:launch-template/*", "ec2:{here}:vpc/*"),
    ),
    Grant(
        "MakeNetworks",
        "create",
        "a network for cloudknot alone: `use_default_vpc=False`, or a region without a default VPC",
        _of(
            "ec2",
            "CreateVpc DeleteVpc ModifyVpcAttribute DescribeVpcAttribute "
            "CreateSubnet DeleteSubnet ModifySubnetAttribute CreateInternetGateway DeleteInternetGateway "
            "AttachInternetGateway DetachInternetGateway CreateRouteTable DeleteRouteTable CreateRoute DeleteRoute "
            "AssociateRouteTable DisassociateRouteTable CreateVpcEndpoint DeleteVpcEndpoints CreateTags",
        ),
        (
            "ec2:{here}:vpc/*",
            "ec2:{here}:vpc-endpoint/*",
            "ec2:{here}:subnet/*",
            "ec2:{here}:internet-gateway/*",
            "ec2:{here}:route-table/*",
        ),
    ),
    Grant(
        "MakeBucket",
        "create",
        "the bucket of inputs and results",
        _LIST_RUNS + _BUCKET,
        ("s3:::{bucket}",),
        replaces=("ListRuns",),
    ),
    Grant(
        "MakeImages",
        "create",
        "the image repository and the images in it",
        _IMAGES,
        ("ecr:{here}:repository/{repository}",),
    ),
)

ADMINISTER = (
    Grant(
        "DeleteImages",
        "administer",
        "`clobber(clobber_image=True)`, `clobber(clobber_repo=True)`",
        _IMAGES + _of("ecr", "BatchDeleteImage DeleteRepository"),
        ("ecr:{here}:repository/{repository}",),
        replaces=("MakeImages",),
    ),
    Grant(
        "DeleteBucket",
        "administer",
        "`cloudknot clobber --all --results`",
        _LIST_RUNS + _BUCKET + _of("s3", "DeleteBucket"),
        ("s3:::{bucket}",),
        replaces=("MakeBucket", "ListRuns"),
    ),
    # DescribeRepositories without a name concerns every repository of the account.
    Grant(
        "FindRepositories",
        "administer",
        "`cloudknot clobber --all`",
        _of("ecr", "DescribeRepositories ListTagsForResource DescribeImages"),
        ("ecr:{here}:repository/*",),
    ),
)

GRANTS = (*RUN, *CREATE, *ADMINISTER)
