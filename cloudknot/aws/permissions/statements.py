"""The statements of the IAM policies that people need, each with its level and its purpose. Data only.

Resources are limited to cloudknot's own names. ``*`` is used only for actions that AWS cannot limit to a resource
(Service Authorization Reference). EC2 chooses the names of its resources, so these are limited by type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

LEVELS = ("run", "create", "network", "build", "administer")
"""The policies, one for each level. A person needs those of the levels below, too, except `EXTRAS`."""
EXTRAS = ("network", "build")
"""The levels that only some people need, and no other level does."""

Condition = Mapping[str, Mapping[str, Sequence[str]]]
"""IAM's condition: values by key by operator. Names in braces stand for the names of a scope."""


@dataclass(frozen=True)
class Grant:
    """One statement of a policy.

    Parameters
    ----------
    sid : str
    level : str
        The one of `LEVELS` with the statement.
    purpose : str
        The use of cloudknot that needs the statement.
    actions : tuple of str
        IAM actions such as ``"batch:SubmitJob"``.
    resources : tuple of str
        ARNs without ``arn:<partition>:``, or ``"*"``.
    condition : mapping
        IAM's condition: values by key by operator.
    bounded : mapping
        A further condition in policies for people who may only make roles with a certain permissions boundary.
    knot_resources : tuple of str
        The resources in a policy for one knot. Empty if these are the same.
    knot_condition : mapping
        A further condition in such a policy.
    """

    sid: str
    level: str
    purpose: str
    actions: tuple[str, ...]
    resources: tuple[str, ...] = ("*",)
    condition: Condition = field(default_factory=dict)
    bounded: Condition = field(default_factory=dict)
    knot_resources: tuple[str, ...] = ()
    knot_condition: Condition = field(default_factory=dict)


def _of(service: str, operations: str) -> tuple[str, ...]:
    return tuple(f"{service}:{operation}" for operation in operations.split())


# Jobs without a log group of their knot log to Batch's own group.
_ALL_LOGS = ("logs:{here}:log-group:/aws/batch/job:*", "logs:{here}:log-group:/cloudknot/*")
# Another account may have created a bucket of this name first. Its pickles would run code where they are read.
_OWN = {"StringEquals": {"aws:ResourceAccount": ["{owner}"]}}

RUN = (
    Grant(
        "FindKnots",
        "run",
        "finding a knot by its name",
        _of("cloudformation", "DescribeStacks"),
        ("cloudformation:{here}:stack/*-cloudknot*",),
        knot_resources=("cloudformation:{here}:stack/{knot}-cloudknot/*",),
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
        knot_resources=(
            "batch:{here}:job-definition/{knot}-cloudknot-job-definition:*",
            "batch:{here}:job-queue/{queue}-cloudknot-job-queue",
        ),
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
        _OWN,
        knot_resources=("s3:::{bucket}/cloudknot.jobs/{knot}/*",),
    ),
    Grant(
        "ListRuns",
        "run",
        "finding results",
        _of("s3", "ListBucket"),
        # An action on the bucket, not on its objects, so its resource cannot have the prefix of the runs.
        ("s3:::{bucket}",),
        _OWN,
        knot_condition={"StringLike": {"s3:prefix": ["cloudknot.jobs/{knot}/*"]}},
    ),
    Grant(
        "ReadLogs",
        "run",
        "`job.logs`",
        _of("logs", "GetLogEvents"),
        _ALL_LOGS,
        knot_resources=("logs:{here}:log-group:/cloudknot/{knot}:*",),
    ),
)

_BOUNDED = {
    "StringEquals": {"iam:PermissionsBoundary": ["{boundary}"]},
    # "IfExists", because only AttachRolePolicy has a policy's ARN. The policies are those of AWS's that the template
    # of a Pars attaches, and those that the administrator allows for jobs.
    "ArnLikeIfExists": {
        "iam:PolicyARN": [
            "arn:{partition}:iam::aws:policy/service-role/AWSBatchServiceRole",
            "arn:{partition}:iam::aws:policy/service-role/AmazonEC2ContainerServiceforEC2Role",
            "arn:{partition}:iam::aws:policy/service-role/AmazonEC2SpotFleetTaggingRole",
            "arn:{partition}:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy",
            "{policies}",
        ]
    },
}
# Without this condition, a user could give the roles to any other service.
_SERVICES = {
    "StringEquals": {
        "iam:PassedToService": [
            "batch.amazonaws.com",
            "ec2.amazonaws.com",
            # In China, EC2 has both names.
            "ec2.{suffix}",
            "ecs-tasks.amazonaws.com",
            "spotfleet.amazonaws.com",
        ]
    }
}

CREATE = (
    # DescribeStacks without a name concerns every stack of the account (CloudFormation API reference).
    Grant(
        "ListKnots",
        "create",
        "finding all knots, and a knot by its name; a check of a template of your own",
        _of("cloudformation", "DescribeStacks ListStacks ValidateTemplate"),
    ),
    Grant(
        "MakeStacks",
        "create",
        "making, changing and removing the stacks of knots and Pars",
        _of(
            "cloudformation",
            "CreateStack UpdateStack ContinueUpdateRollback DeleteStack DescribeStackEvents TagResource",
        ),
        ("cloudformation:{here}:stack/*-cloudknot*",),
    ),
    # The template of a Pars makes roles with this path, so a user cannot change other roles of the account. None of
    # the statements has UpdateAssumeRolePolicy: a new trust policy opens a role, and cloudknot never changes one.
    Grant(
        "MakeRoles",
        "create",
        "the roles of jobs and instances with their policies, in the stacks",
        # With DeleteRolePermissionsBoundary, a user could remove the boundary that the condition demands.
        _of("iam", "CreateRole PutRolePermissionsBoundary PutRolePolicy AttachRolePolicy"),
        ("iam::{account}:role/cloudknot/*",),
        bounded=_BOUNDED,
    ),
    Grant(
        "ManageRoles",
        "create",
        "the instance profile, and reading, tagging and removing these roles, in the stacks",
        _of(
            "iam",
            "GetRole DeleteRole TagRole UpdateRole ListRoleTags DetachRolePolicy ListAttachedRolePolicies "
            "GetRolePolicy DeleteRolePolicy ListRolePolicies CreateInstanceProfile GetInstanceProfile "
            "DeleteInstanceProfile TagInstanceProfile AddRoleToInstanceProfile RemoveRoleFromInstanceProfile",
        ),
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
        _SERVICES,
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
        _of(
            "logs",
            "CreateLogGroup DeleteLogGroup PutRetentionPolicy TagResource ListTagsForResource GetDataProtectionPolicy",
        ),
        ("logs:{here}:log-group:/cloudknot/*",),
    ),
    Grant(
        "FindResources",
        "create",
        "finding roles, policies, networks, machine images and key pairs, waiting for stacks, and pushing images",
        _of("iam", "ListRoles ListPolicies")
        + _of("ecr", "GetAuthorizationToken")
        + _of("batch", "DescribeComputeEnvironments DescribeJobQueues")
        + _of("logs", "DescribeLogGroups DescribeIndexPolicies DescribeResourcePolicies")
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
            "DescribeRepositories CreateRepository TagResource ListTagsForResource GetLifecyclePolicy "
            "PutLifecyclePolicy DescribeImages BatchGetImage BatchCheckLayerAvailability GetDownloadUrlForLayer "
            "InitiateLayerUpload UploadLayerPart CompleteLayerUpload PutImage",
        ),
        ("ecr:{here}:repository/{repository}",),
    ),
)

NETWORK = (
    Grant(
        "MakeNetworks",
        "network",
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
        "FindNetworks",
        "network",
        "CloudFormation's look at the state of that network",
        _of("ec2", "DescribeNetworkAcls DescribeVpcEncryptionControls DescribeVpnGateways"),
    ),
)

BUILD = (
    Grant(
        "MakeBuilds",
        "build",
        "the project for builds, in a stack of its own, and the builds",
        _of(
            "codebuild",
            "CreateProject UpdateProject DeleteProject BatchGetProjects StartBuild BatchGetBuilds StopBuild",
        ),
        ("codebuild:{here}:project/*-cloudknot*",),
    ),
    Grant(
        "GiveBuildRole",
        "build",
        "giving the project its role",
        _of("iam", "PassRole"),
        # CloudFormation begins the names of a stack's roles with the name of the stack.
        ("iam::{account}:role/cloudknot/images-cloudknot-build-*",),
        {"StringEquals": {"iam:PassedToService": ["codebuild.amazonaws.com"]}},
    ),
    Grant(
        "SendContexts",
        "build",
        "the files that an image is built from, deleted after the build",
        _of("s3", "PutObject DeleteObject AbortMultipartUpload"),
        ("s3:::{bucket}/cloudknot.builds/*",),
        _OWN,
    ),
)

ADMINISTER = (
    Grant(
        "DeleteImages",
        "administer",
        "`clobber(clobber_image=True)`, `clobber(clobber_repo=True)`",
        _of("ecr", "BatchDeleteImage DeleteRepository"),
        ("ecr:{here}:repository/{repository}",),
    ),
    Grant(
        "DeleteBucket",
        "administer",
        "`cloudknot clobber --all --results`",
        _of("s3", "DeleteBucket"),
        ("s3:::{bucket}",),
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

GRANTS = (*RUN, *CREATE, *NETWORK, *BUILD, *ADMINISTER)

BOUNDARY = (
    Grant(
        "StoreRuns",
        "boundary",
        "the role of jobs",
        _of("s3", "GetObject PutObject AbortMultipartUpload"),
        ("s3:::{bucket}/cloudknot.jobs/*",),
        _OWN,
    ),
    Grant("ListStoredRuns", "boundary", "the role of jobs", _of("s3", "ListBucket"), ("s3:::{bucket}",), _OWN),
    Grant(
        "PullImages",
        "boundary",
        "the execution role, the role of instances, and the role of builds",
        _of("ecr", "BatchCheckLayerAvailability GetDownloadUrlForLayer BatchGetImage"),
        ("ecr:{here}:repository/{repository}",),
    ),
    Grant(
        "PushImages",
        "boundary",
        "the role of builds",
        _of("ecr", "InitiateLayerUpload UploadLayerPart CompleteLayerUpload PutImage"),
        ("ecr:{here}:repository/{repository}",),
    ),
    Grant(
        "ReadContexts",
        "boundary",
        "the role of builds",
        _of("s3", "GetObject"),
        ("s3:::{bucket}/cloudknot.builds/*",),
        _OWN,
    ),
    Grant(
        "LogIn",
        "boundary",
        "the execution role, the role of instances, and the role of builds",
        _of("ecr", "GetAuthorizationToken"),
    ),
    Grant(
        "WriteLogs",
        "boundary",
        "the execution role, the role of instances, and the role of builds",
        _of("logs", "CreateLogStream PutLogEvents"),
        _ALL_LOGS,
    ),
    Grant(
        "JoinClusters",
        "boundary",
        "the role of instances",
        # ECS names its clusters for Batch itself.
        _of(
            "ecs",
            "CreateCluster DeregisterContainerInstance DiscoverPollEndpoint Poll RegisterContainerInstance "
            "StartTelemetrySession UpdateContainerInstancesState Submit* TagResource ListTagsForResource",
        )
        + _of("ec2", "DescribeTags"),
    ),
)
"""The statements of the smallest permissions boundary: the permissions that the roles of a Pars need."""
