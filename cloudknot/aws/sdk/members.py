"""The members of AWS's answers that cloudknot reads and AWS never leaves out, by service and operation.

`cloudknot.worker.s3.answers` checks them, so that no caller meets an answer without them. A test compares the table
with the calls in the package.
"""

from __future__ import annotations

from cloudknot.worker.s3.answers import S3_MEMBERS, Members

# The API reference of each service, "Response Elements" (Batch: "Response Syntax"). These services send an empty list
# for no items.
MEMBERS: Members = {
    **S3_MEMBERS,
    "batch": {
        "DeleteComputeEnvironment": (),
        "DeleteJobQueue": (),
        "DeregisterJobDefinition": (),
        "DescribeComputeEnvironments": ("computeEnvironments",),
        "DescribeJobDefinitions": ("jobDefinitions",),
        "DescribeJobQueues": ("jobQueues",),
        "DescribeJobs": ("jobs",),
        "ListJobs": ("jobSummaryList",),
        "RegisterJobDefinition": ("jobDefinitionArn", "revision"),
        "SubmitJob": ("jobId",),
        "TerminateJob": (),
        "TerminateJobs": ("errors",),
        "UpdateComputeEnvironment": (),
    },
    "cloudformation": {
        "ContinueUpdateRollback": (),
        "CreateStack": ("StackId",),
        "DeleteStack": (),
        "DescribeStackEvents": ("StackEvents",),
        "DescribeStacks": ("Stacks",),
        "UpdateStack": ("StackId",),
        "ValidateTemplate": (),
    },
    "codebuild": {
        # AWS does not document whether it leaves out a list without a build.
        "BatchGetBuilds": (),
        "StartBuild": ("build",),
        "StopBuild": (),
    },
    "ec2": {
        "DeleteLaunchTemplate": (),
        "DescribeAvailabilityZones": ("AvailabilityZones",),
        "DescribeImages": ("Images",),
        "DescribeInstanceTypeOfferings": ("InstanceTypeOfferings",),
        "DescribeInstanceTypes": ("InstanceTypes",),
        "DescribeInstances": ("Reservations",),
        "DescribeKeyPairs": ("KeyPairs",),
        "DescribeLaunchTemplates": ("LaunchTemplates",),
        "DescribeSecurityGroups": ("SecurityGroups",),
        "DescribeSubnets": ("Subnets",),
        "DescribeVolumes": ("Volumes",),
        "DescribeVpcs": ("Vpcs",),
    },
    "ecr": {
        "BatchDeleteImage": ("imageIds", "failures"),
        "BatchGetImage": ("images", "failures"),
        "CreateRepository": ("repository",),
        "DeleteRepository": (),
        "DescribeImages": ("imageDetails",),
        "DescribeRepositories": ("repositories",),
        "GetAuthorizationToken": ("authorizationData",),
        "GetLifecyclePolicy": ("lifecyclePolicyText",),
        "ListTagsForResource": ("tags",),
        "PutImage": ("image",),
        "PutLifecyclePolicy": (),
    },
    "iam": {
        "CreateServiceLinkedRole": ("Role",),
        "GetInstanceProfile": ("InstanceProfile",),
        "ListInstanceProfiles": ("InstanceProfiles",),
        "ListPolicies": ("IsTruncated", "Policies"),
        "ListRoles": ("IsTruncated", "Roles"),
        "TagInstanceProfile": (),
    },
    "logs": {"DescribeLogGroups": ("logGroups",), "GetLogEvents": ("events", "nextForwardToken")},
    "sts": {"GetCallerIdentity": ("Account",)},
}
