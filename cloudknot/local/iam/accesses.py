"""The permissions that a request needs: its action on each resource, and further ones such as ``iam:PassRole``.

An operation without a rule here needs its action on ``*``.

Sources: Service Authorization Reference, "Actions, resources, and condition keys" of each service; Amazon S3 user
guide, "Required permissions for Amazon S3 API operations".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from cloudknot.local.iam.policy import Access, Context
from cloudknot.local.iam.requests.calls import Call
from cloudknot.local.iam.requests.objects import S3Request

FREE = frozenset({"sts:GetCallerIdentity", "sts:GetSessionToken"})
"""Actions without a required permission (STS API reference)."""

_EC2_KINDS = {
    "igw": "internet-gateway",
    "lt": "launch-template",
    "rtb": "route-table",
    "rtbassoc": "route-table",
    "sg": "security-group",
    "sgr": "security-group-rule",
    "subnet": "subnet",
    "vpc": "vpc",
    "vpce": "vpc-endpoint",
}
"""Kinds of resources, by the prefixes of their ids."""
_EC2_CREATED = {
    "CreateInternetGateway": "internet-gateway",
    "CreateLaunchTemplate": "launch-template",
    "CreateRouteTable": "route-table",
    "CreateSecurityGroup": "security-group",
    "CreateSubnet": "subnet",
    "CreateVpc": "vpc",
    "CreateVpcEndpoint": "vpc-endpoint",
}
_EC2_ID_ARGUMENTS = (
    "AssociationId",
    "GroupId",
    "InternetGatewayId",
    "LaunchTemplateId",
    "RouteTableId",
    "SubnetId",
    "VpcEndpointId",
    "VpcId",
    "Resources",
    "RouteTableIds",
    "SubnetIds",
    "VpcEndpointIds",
)
_IAM_TAG_ACTIONS = {"CreateRole": "TagRole", "CreateInstanceProfile": "TagInstanceProfile", "CreateUser": "TagUser"}
_SETS_BOUNDARY = ("CreateRole", "PutRolePermissionsBoundary")
_CHECKS_BOUNDARY = (
    "AttachRolePolicy",
    "DeleteRolePermissionsBoundary",
    "DeleteRolePolicy",
    "DetachRolePolicy",
    "PutRolePolicy",
)
"""Operations whose condition key ``iam:PermissionsBoundary`` is the boundary that the role has."""
_BATCH_KINDS = {
    "jobDefinition": "job-definition",
    "jobDefinitionName": "job-definition",
    "jobQueue": "job-queue",
    "jobQueueName": "job-queue",
    "computeEnvironment": "compute-environment",
    "computeEnvironmentName": "compute-environment",
    "jobId": "job",
}
# Giving a role to a service takes iam:PassRole for that role and that service.
_ROLE_SERVICES = {
    "jobRoleArn": "ecs-tasks.amazonaws.com",
    "executionRoleArn": "ecs-tasks.amazonaws.com",
    "serviceRole": "batch.amazonaws.com",
    "spotIamFleetRole": "spotfleet.amazonaws.com",
}
_S3_CONDITIONS = {"prefix": "s3:prefix", "delimiter": "s3:delimiter", "max-keys": "s3:max-keys"}
_S3_HEADERS = {
    "x-amz-acl": "PutObjectAcl",
    "x-amz-tagging": "PutObjectTagging",
    "x-amz-object-lock-legal-hold": "PutObjectLegalHold",
    "x-amz-object-lock-mode": "PutObjectRetention",
    "x-amz-bypass-governance-retention": "BypassGovernanceRetention",
}
"""Headers that need an action besides that of the operation. All ``x-amz-grant-`` headers need that of the first."""
_S3_STORING = frozenset({"PutObject", "CreateMultipartUpload"})


@dataclass(frozen=True)
class Names:
    """A builder of ARNs.

    Parameters
    ----------
    account, region : str
        Parts of every ARN.
    find : callable
        ``find("role", name)`` and ``find("profile", name)`` return the ARN of a role and of an instance profile,
        ``find("instance-profile", name)`` that of the role in the profile, and ``find("boundary", role)`` that of the
        role's permissions boundary. ``find("bucket", name)`` returns the account that owns a bucket. Empty if the
        resource does not exist.
    """

    account: str
    region: str
    find: Callable[[str, str], str]

    def arn(self, service: str, resource: str) -> str:
        """Return the ARN of a resource of this account."""
        return f"arn:aws:{service}:{'' if service == 'iam' else self.region}:{self.account}:{resource}"

    def arn_for(self, service: str, kind: str, name: str) -> str:
        """Return the ARN for a name, which may be an ARN already."""
        return name if name.startswith("arn:") else self.arn(service, f"{kind}/{name}")


def accesses(call: Call, names: Names, common: Context) -> Iterator[Access]:
    """Yield the permissions that a call needs. ``common`` holds the condition keys of every request."""
    if call.action in FREE:
        return
    tags = call.tags
    request_tags = {f"aws:requesttag/{key.lower()}": (value,) for key, value in tags.items()}
    context = {**common, **request_tags, **({"aws:tagkeys": tuple(tags)} if tags else {})}
    rule = _RULES.get(call.service)
    needed = list(rule(call, names, context)) if rule else []
    yield from needed or [Access(call.action, "*", context)]


def _batch(call: Call, names: Names, context: Context) -> Iterator[Access]:
    # Batch has no permissions for single resources in these operations.
    if call.operation.startswith(("Describe", "List")) and call.operation != "ListTagsForResource":
        return
    arguments = call.arguments
    arns = [names.arn_for("batch", kind, call.text(name)) for name, kind in _BATCH_KINDS.items() if call.text(name)]
    # A submission needs both permissions, even if the request leaves out one of the names.
    if call.operation == "SubmitJob":
        arns = [names.arn_for("batch", _BATCH_KINDS[name], call.text(name)) for name in ("jobDefinition", "jobQueue")]
    arns += [names.arn_for("batch", "job", job) for job in call.texts("jobs")] + list(
        filter(None, [call.text("resourceArn")])
    )
    for order in arguments.get("computeEnvironmentOrder") or ():
        arns.append(names.arn_for("batch", "compute-environment", str(order.get("computeEnvironment"))))
    # The operations for many jobs have no actions of their own.
    action = {"CancelJobs": "batch:CancelJob", "TerminateJobs": "batch:TerminateJob"}.get(call.operation, call.action)
    yield from (Access(action, arn, context) for arn in arns)
    if call.tags and call.operation not in ("TagResource", "UntagResource"):
        tagged = names.arn("batch", "job/*") if call.operation == "SubmitJob" else arns[0]
        yield Access("batch:TagResource", tagged, context)
    for part in (arguments, arguments.get("containerProperties") or {}, arguments.get("computeResources") or {}):
        for name, service in _ROLE_SERVICES.items():
            if isinstance(part, dict) and part.get(name):
                yield _pass_role(names.arn_for("iam", "role", part[name]), service, context)
        if isinstance(part, dict) and part.get("instanceRole"):
            profile = names.find("instance-profile", part["instanceRole"].rpartition("/")[2])
            yield _pass_role(profile, "ec2.amazonaws.com", context)


def _pass_role(role: str, service: str, context: Context) -> Access:
    return Access("iam:PassRole", role, {**context, "iam:passedtoservice": (service,)})


def _iam(call: Call, names: Names, context: Context) -> Iterator[Access]:
    operation, path = call.operation, call.text("Path").strip("/")
    prefix = f"{path}/" if path else ""
    role, profile = call.text("RoleName"), call.text("InstanceProfileName")
    extra = {"iam:policyarn": (call.text("PolicyArn"),)} if call.text("PolicyArn") else {}
    boundary = call.text("PermissionsBoundary") if operation in _SETS_BOUNDARY else ""
    boundary = names.find("boundary", role) if operation in _CHECKS_BOUNDARY else boundary
    extra.update({"iam:permissionsboundary": (boundary,)} if boundary else {})
    # IAM has no permissions for single resources in listings of a whole account.
    if operation.startswith("List") and not (role or call.text("UserName") or call.text("PolicyArn")):
        return
    if operation == "CreateServiceLinkedRole":
        service = call.text("AWSServiceName")
        arn = names.arn("iam", f"role/aws-service-role/{service}/*")
        yield Access(call.action, arn, {**context, "iam:awsservicename": (service,)})
        return
    if profile:
        arn = names.arn("iam", f"instance-profile/{prefix}{profile}")
        # The ARN of an existing resource contains a path that the request does not name. So the ARN is looked up.
        arn = arn if operation.startswith("Create") else names.find("profile", profile) or arn
        if operation == "AddRoleToInstanceProfile":
            yield _pass_role(names.find("role", role), "ec2.amazonaws.com", context)
    elif role:
        arn = names.arn("iam", f"role/{prefix}{role}") if operation == "CreateRole" else names.find("role", role)
    elif call.text("UserName"):
        arn = names.arn("iam", f"user/{prefix}{call.text('UserName')}")
    else:
        arn = call.text("PolicyArn") or "*"
    yield Access(call.action, arn, {**context, **extra})
    if call.tags and operation in _IAM_TAG_ACTIONS:
        yield Access(f"iam:{_IAM_TAG_ACTIONS[operation]}", arn, context)


def _ec2(call: Call, names: Names, context: Context) -> Iterator[Access]:
    operation = call.operation
    # Most of these have no permissions for single resources.
    if operation.startswith(("Describe", "Get")) and operation != "DescribeVpcAttribute":
        return
    created = _EC2_CREATED.get(operation)
    ids = [identifier for name in _EC2_ID_ARGUMENTS for identifier in (call.text(name), *call.texts(name))]
    arns = [_ec2_arn(identifier, names) for identifier in ids if identifier]
    if created:
        yield Access(call.action, names.arn("ec2", f"{created}/*"), context)
        if call.tags:
            # By this condition key, policies can allow tags only at the creation of a resource.
            tagging = {**context, "ec2:createaction": (operation,)}
            yield Access("ec2:CreateTags", names.arn("ec2", f"{created}/*"), tagging)
    yield from (Access(call.action, arn, context) for arn in arns)


def _ec2_arn(identifier: str, names: Names) -> str:
    kind = _EC2_KINDS.get(identifier.partition("-")[0], "*")
    return names.arn("ec2", f"{kind}/{identifier}")


def _ecr(call: Call, names: Names, context: Context) -> Iterator[Access]:
    # A login is for the whole registry.
    if call.operation == "GetAuthorizationToken":
        return
    repositories = call.texts("repositoryNames") or list(filter(None, [call.text("repositoryName")]))
    arns = [names.arn("ecr", f"repository/{name}") for name in repositories or ["*"]]
    arns = [call.text("resourceArn")] if call.text("resourceArn") else arns
    yield from (Access(call.action, arn, context) for arn in arns)
    if call.tags and call.operation == "CreateRepository":
        yield Access("ecr:TagResource", arns[0], context)


def _logs(call: Call, names: Names, context: Context) -> Iterator[Access]:
    """Yield the permissions for a call to CloudWatch Logs."""
    # CloudWatch Logs checks a group under the ARN of the streams in it, as its error messages show.
    # An identifier is the name of a group, or its ARN.
    group = call.text("logGroupName") or call.text("logGroupIdentifier").rpartition(":log-group:")[2]
    if not group and call.text("resourceArn"):
        yield Access(call.action, call.text("resourceArn"), context)
    elif group:
        arn = names.arn("logs", f"log-group:{group}:log-stream:{call.text('logStreamName')}")
        yield Access(call.action, arn, context)
        if call.tags and call.operation == "CreateLogGroup":
            yield Access("logs:TagResource", arn, context)


def _cloudformation(call: Call, names: Names, context: Context) -> Iterable[Access]:
    stack, role = call.text("StackName"), call.text("RoleARN")
    if not stack:
        return []
    arn = stack if stack.startswith("arn:") else names.arn("cloudformation", f"stack/{stack}/*")
    # With this argument, CloudFormation would work with the permissions of that role.
    passed = [_pass_role(role, "cloudformation.amazonaws.com", context)] if role else []
    return [Access(call.action, arn, context), *passed]


def _codebuild(call: Call, names: Names, context: Context) -> Iterator[Access]:
    """Yield the permissions for a call to CodeBuild, which has permissions for projects only."""
    # The id of a build begins with the name of its project.
    builds = [*call.texts("ids"), *filter(None, [call.text("id")])]
    projects = [*(build.partition(":")[0] for build in builds), *call.texts("names")]
    projects += filter(None, [call.text("projectName"), call.text("name")])
    arns = [names.arn_for("codebuild", "project", project) for project in dict.fromkeys(projects)]
    yield from (Access(call.action, arn, context) for arn in arns)
    if role := call.text("serviceRole") or call.text("serviceRoleOverride"):
        yield _pass_role(names.arn_for("iam", "role", role), "codebuild.amazonaws.com", context)


def _sts(call: Call, names: Names, context: Context) -> Iterable[Access]:
    return [Access(call.action, call.text("RoleArn"), context)] if call.text("RoleArn") else []


_RULES: dict[str, Callable[[Call, Names, Context], Iterable[Access]]] = {
    "batch": _batch,
    "cloudformation": _cloudformation,
    "codebuild": _codebuild,
    "ec2": _ec2,
    "ecr": _ecr,
    "iam": _iam,
    "logs": _logs,
    "sts": _sts,
}


def with_owner(access: Access, names: Names) -> Access:
    """Return an access to S3 with the condition key for the account of its bucket."""
    bucket = access.resource.partition(":::")[2].partition("/")[0]
    # S3 reports a missing bucket before it checks permissions, so that any owner will do.
    owner = names.find("bucket", bucket) or names.account
    return replace(access, context={**access.context, "aws:resourceaccount": (owner,)})


def s3_accesses(request: S3Request, common: Context) -> Iterator[Access]:
    """Yield the permissions that a request needs. ``common`` holds the condition keys of every request."""
    bucket, operation = f"arn:aws:s3:::{request.bucket}", request.operation
    action = operation.action_for(request.query)
    if operation.name == "DeleteObjects":
        # On AWS, S3 deletes the allowed keys and reports the others. Here, one denied key refuses the whole request.
        for deletion in request.deletions:
            yield Access("s3:DeleteObjectVersion" if deletion.version else action, f"{bucket}/{deletion.key}", common)
    elif not request.bucket:
        yield Access(action, "*", common)
    elif not request.key:
        listed = request.query if operation.action.startswith("ListBucket") else {}
        conditions = {condition: (listed[name],) for name, condition in _S3_CONDITIONS.items() if name in listed}
        yield Access(action, bucket, {**common, **conditions})
    else:
        yield Access(action, f"{bucket}/{request.key}", common)
        yield from _header_accesses(request, f"{bucket}/{request.key}", common)
    if request.source is not None:
        # A copy reads another object, also one in another bucket.
        source, key, version = request.source
        yield Access("s3:GetObjectVersion" if version else "s3:GetObject", f"arn:aws:s3:::{source}/{key}", common)


def _header_accesses(request: S3Request, arn: str, common: Context) -> Iterator[Access]:
    """Yield the permissions that the headers of a request for an object need."""
    if request.operation.name in _S3_STORING:
        names = {"x-amz-acl" if name.startswith("x-amz-grant-") else name for name in request.headers}
        yield from (Access(f"s3:{_S3_HEADERS[name]}", arn, common) for name in sorted(names & _S3_HEADERS.keys()))
    elif "x-amz-bypass-governance-retention" in request.headers:
        yield Access("s3:BypassGovernanceRetention", arn, common)


def missing_keys_shown(request: S3Request, common: Context) -> Access | None:
    """Return the permission to learn that an object does not exist, or None for a request that reads no object."""
    # The condition key s3:prefix is missing, as in every request for one object (Amazon S3 API reference,
    # "GetObject", Permissions).
    reads_object = request.key and request.method in ("GET", "HEAD")
    return Access("s3:ListBucket", f"arn:aws:s3:::{request.bucket}", common) if reads_object else None
