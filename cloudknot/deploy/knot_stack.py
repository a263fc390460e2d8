"""Create, update and find a knot's own resources: log group, job definition, queue, compute environment.

An update of the stack changes the queue and the compute environment. A new revision of the job definition changes what
jobs run: image, vCPUs, memory, retries, timeout and roles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

from cloudknot.aws import batch, clients
from cloudknot.aws.tags import without_own
from cloudknot.deploy import diff
from cloudknot.deploy.cloudformation.shared_compute import MACHINES, largest
from cloudknot.deploy.cloudformation.stack import Stack, StackState
from cloudknot.deploy.cloudformation.template import DIGEST, SPELLING, is_custom
from cloudknot.deploy.iam import SPOT, linked_role
from cloudknot.deploy.inventory import is_of, stack_name
from cloudknot.deploy.job_definition import (
    BucketName,
    active_revisions,
    facts,
    fargate_size,
    job_definition,
    packages_of,
    retries_of,
    timeout_of,
    vcpus_of,
    with_own_parts,
)
from cloudknot.deploy.plan import ARCHITECTURES, KnotPlan
from cloudknot.errors import ResourceDoesNotExistException
from cloudknot.options import streams
from cloudknot.options.choices import KnotOptions
from cloudknot.options.compute import earlier_memory
from cloudknot.program.inputs.needs import ImagePackages
from cloudknot.worker.wire.keys import RUNS

if TYPE_CHECKING:
    from types_boto3_batch.type_defs import JobDefinitionTypeDef, RegisterJobDefinitionRequestTypeDef

    from cloudknot.aws.cloud import Cloud
    from cloudknot.deploy.pars import Pars
    from cloudknot.deploy.prerequisites import Prerequisites

# An update of a stack takes minutes. A new revision takes a second, and running maps keep their revision. DesiredVcpus
# counts at creation only, because Batch scales by itself afterwards.
REVISION_ONLY = ("Image", "Environment", "Packages", "Vcpus", "Memory", "Retries", "Timeout", "DesiredVcpus")
"""Parameters that cause no update of the stack when they alone differ."""


class JobDefinition(NamedTuple):
    """The job definition for a knot's next map. ``arn`` identifies the revision."""

    name: str
    arn: str
    output_bucket: str
    retries: int


@dataclass(frozen=True)
class KnotResources:
    """The resources of a knot in the cloud. ``job_definition_arn`` identifies the revision for the next map."""

    stack_id: str
    job_definition_name: str
    job_definition_arn: str
    job_queue_name: str
    job_queue_arn: str
    compute_environment_name: str
    compute_environment_arn: str
    image_uri: str
    retries: int
    max_vcpus: int
    pars_name: str
    tags: Mapping[str, str]
    bucket: str
    """Bucket for inputs and results."""
    bucket_owner: str = ""
    """Account that owns the bucket. Empty stands for the account of the knot."""
    job_role: str = ""
    """ARN of the role of the user's function."""
    fargate: tuple[int, int] | None = None
    """vCPUs and MiB of a job on Fargate, which accepts certain pairs only. None on EC2."""
    vcpus: float = 1.0
    """vCPUs of a job."""
    timeout: int | None = None
    """Longest duration of an attempt in seconds. None without a limit."""
    packages: str = ""
    """The packages of the image; see `ImagePackages.to_text`."""
    compute: str = ""
    """Name of the knot with the queue and the machines. Empty if the knot has its own."""


def log_group_name(name: str) -> str:
    """Return the name of the log group for a knot's jobs."""
    # One for each knot, because Batch's own group /aws/batch/job keeps logs forever and has no tags of the user's.
    return f"/cloudknot/{name}"


def wanted_parameters(
    options: KnotOptions,
    pars: Pars,
    image_uri: str,
    bucket: BucketName,
    *,
    platform: str | None = None,
    environment: str = "none",
    packages: str = "",
    partition: str = "aws",
) -> dict[str, str]:
    """Return the parameters of a new knot's stack.

    Parameters
    ----------
    options : KnotOptions
    pars : Pars
        The resources that the knot shares with others.
    image_uri : str
    bucket : BucketName
        Bucket for inputs and results.
    platform : str, optional
        Platform of the image, such as ``"linux/amd64"``. Default: the platform of the options.
    environment : str
        Tag of the image's environment. It changes with the requirements, but not with the function.
    packages : str
        The packages of the image; see `ImagePackages.to_text`.
    partition : str
        The second part of ARNs.
    """
    return {
        SPELLING: options.spelling,
        **_pars_parameters(pars),
        "JobDefinitionName": options.job_definition_name,
        "Image": image_uri,
        "Environment": environment,
        "Packages": packages,
        "Vcpus": str(options.job_def_vcpus),
        "Memory": str(options.memory),
        "Gpus": str(options.n_gpus),
        "Retries": str(options.retries),
        "Timeout": str(options.timeout or 0),
        **bucket_parameters(options.name, bucket, partition, {}),
        "LogGroupName": log_group_name(options.name),
        "Compute": options.compute,
        "JobQueueName": options.job_queue_name,
        "Priority": str(options.priority),
        "ComputeEnvironmentName": options.compute_environment_name,
        "Fargate": options.fargate,
        "Architecture": ARCHITECTURES[platform or options.platform],
        "InstanceTypes": ",".join(options.instance_types),
        "MinVcpus": str(options.min_vcpus),
        "DesiredVcpus": str(options.desired_vcpus) if options.desired_given else "",
        "MaxVcpus": str(options.max_vcpus),
        "BidPercentage": "" if options.bid_percentage is None else str(options.bid_percentage),
        "VolumeSize": str(options.volume_size or 0),
        "DiskTemplate": "no" if options.fargate or options.compute else "yes",
        "ImageId": options.image_id or "",
        "KeyPair": options.ec2_key_pair or "",
    }


def _pars_parameters(pars: Pars) -> dict[str, str]:
    """Return the parameters with the resources of a Pars."""
    return {
        "ParsName": pars.name,
        "Policies": ",".join(pars.policies),
        "PermissionsBoundary": pars.permissions_boundary or "",
        "ExecutionRole": pars.execution_role,
        "ServiceRole": pars.batch_service_role,
        "InstanceProfile": pars.ecs_instance_profile,
        "Subnets": ",".join(pars.subnets),
        "SecurityGroup": pars.security_group,
    }


def bucket_parameters(name: str, bucket: BucketName, partition: str, current: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters with a knot's bucket, and with the objects that its jobs may use.

    ``current`` holds the parameters of the existing stack.
    """
    # Earlier buckets stay, because a retry uses the bucket of its map.
    had = [current["Bucket"]] if current.get("Bucket") else []
    new = (f"arn:{partition}:s3:::{each}" for each in (*had, bucket.name))
    arns = list(dict.fromkeys([*filter(None, current.get("BucketArns", "").split(",")), *new]))
    runs, results = f"{RUNS}/{name}/*", f"{RUNS}/*/outputs/*"
    return {
        "Bucket": bucket.name,
        "BucketOwner": bucket.owner,
        "BucketArns": ",".join(arns),
        "RunArns": ",".join(f"{arn}/{runs}" for arn in arns),
        "ResultArns": ",".join(f"{arn}/{results}" for arn in arns),
        "Prefixes": f"{runs},{results}",
    }


def deploy_knot(plan: KnotPlan, prerequisites: Prerequisites) -> KnotResources:
    """Create, adopt or update the resources of a knot, and return them.

    For an unchanged knot, this makes one read call. Changes to an existing knot are logged in one line, as a warning
    of the logger ``cloudknot``.

    Raises
    ------
    CloudknotInputError
        AWS cannot change the knot in this way. The knot is unchanged.
    CannotCreateResourceException
        Resources could not be created or changed.
    """
    options = plan.options
    owner = plan.cloud.bucket_owner
    parameters = wanted_parameters(
        options,
        prerequisites.pars,
        prerequisites.image_uri,
        BucketName(plan.cloud.bucket, "" if owner == plan.cloud.account else owner),
        platform=plan.image.platform,
        environment=plan.image.environment_tag,
        packages=ImagePackages.of(plan.image).to_text(),
        partition=plan.cloud.partition,
    )
    if parameters["BidPercentage"] and not plan.current.get("BidPercentage"):
        linked_role(plan.cloud, SPOT)
    # Before an update of the stack, which registers a revision of its own.
    before = active_revisions(plan.cloud, parameters["JobDefinitionName"]) if plan.current else []
    if kept := _kept_memory(options, before):
        parameters["Memory"] = str(kept)
    seen: list[Mapping[str, str]] = [plan.current]
    state, revisions = _deploy_stack(plan, parameters, seen, before)
    # The parameters right before an update of this session: another one may have changed them since the plan.
    current = seen[-1]
    # A knot keeps its bucket, and another session may have moved it since this plan was made.
    parameters |= {name: state.parameters[name] for name in ("Bucket", "BucketOwner")}
    parameters["JobRole.Arn"] = state.outputs["JobRole"]
    revision, differing = _revision(plan.cloud, parameters, revisions, state)
    digest = plan.template.digest_in(state.parameters)
    if current:
        _log_changes(plan, [*differing, *diff.stack_changes(current, parameters, digest)], state)
    _log_lost_choices(options, {**parameters, DIGEST: digest}, state)
    if plan.template.is_kept_by(state.parameters):
        _log_kept_template(options)
    largest_now = options.max_vcpus if options.compute else int(state.parameters["MaxVcpus"])
    return _resources(state, revision, options.retries, plan.cloud, largest_now)


def _kept_memory(options: KnotOptions, revisions: Sequence[JobDefinitionTypeDef]) -> int | None:
    """Return the MiB of a knot from an earlier version that had a larger default; None for any other knot.

    The function may need that memory, so only the user may reduce it.
    """
    if options.memory_given or not revisions:
        return None
    is_fargate = bool(options.fargate)
    had = earlier_memory(int(vcpus_of(revisions[0])), is_fargate)
    kept = earlier_memory(options.job_def_vcpus, is_fargate)
    if facts(revisions[0])["memory"] != str(had) or kept <= options.memory:
        return None
    streams.logger.warning(
        "The knot %r keeps memory=%s, the default of earlier versions. With it, about half of the paid vCPUs run "
        "nothing on many machines. If its jobs need less, pass for example memory=%s, the default of new knots.",
        options.name,
        kept,
        options.memory,
    )
    return kept


def _deploy_stack(
    plan: KnotPlan,
    parameters: Mapping[str, str],
    seen: list[Mapping[str, str]],
    before: list[JobDefinitionTypeDef],
) -> tuple[StackState, list[JobDefinitionTypeDef]]:
    """Return the up-to-date stack and the active revisions of its job definition.

    ``seen`` gets the parameters of each state of the stack that this session has compared with its own choices.
    ``before`` holds the revisions before a change of the stack.
    """
    stack = Stack(plan.cloud, plan.name)

    def wanted(state: StackState | None) -> Mapping[str, str]:
        seen.append(state.parameters if state else {})
        return _parameters_for(plan, parameters, state)

    # Another session may have changed or deleted the stack while this one built an image.
    state_before = plan.state if plan.is_fresh() else stack.state()
    # Another spelling is refused, and a stack of an earlier version has none.
    ignored = (SPELLING, *REVISION_ONLY, *(MACHINES if plan.options.compute else ()))
    state = stack.deploy_from(state_before, plan.template, wanted, ignore=ignored, merges=False)
    is_unchanged = state is plan.state
    revisions = before if is_unchanged else active_revisions(plan.cloud, parameters["JobDefinitionName"])
    if is_unchanged and not revisions:
        # Every stack has a revision. So another session has deleted the knot since the plan was made.
        state = stack.deploy_from(stack.state(), plan.template, wanted, ignore=ignored, merges=False)
        revisions = active_revisions(plan.cloud, parameters["JobDefinitionName"])
    return state, revisions


def _parameters_for(plan: KnotPlan, parameters: Mapping[str, str], state: StackState | None) -> Mapping[str, str]:
    """Return the parameters for the stack in its current state."""
    # Another session may have created or changed the stack since the plan was made.
    if state is None:
        return parameters
    options, current = plan.options, state.parameters
    # An existing knot keeps its bucket, unless this session's user has chosen another one.
    keeps = current.get("Bucket") and not plan.cloud.chosen_bucket
    source = current if keeps else parameters
    bucket = BucketName(source["Bucket"], source.get("BucketOwner", ""))
    parameters = {**parameters, **bucket_parameters(options.name, bucket, plan.cloud.partition, current)}
    diff.check_in_place(options, current, parameters)
    # A launch template added to an existing knot would replace the machines under running jobs. Under a Batch service
    # role of the user's own, AWS would even refuse it.
    disk_template = "yes" if options.volume_size else current.get("DiskTemplate", "no")
    # Batch scales the number of vCPUs by itself after creation, and rejects an update below its current number.
    return {**parameters, "DesiredVcpus": "", "DiskTemplate": disk_template}


def _log_changes(plan: KnotPlan, changes: list[str], state: StackState) -> None:
    options = plan.options
    # By a logger: its warnings appear in scripts and in notebooks, and users know how to silence it.
    if changes:
        streams.logger.warning(
            "The knot %r was updated. Changed: %s. Running maps keep the version that they started with.",
            options.name,
            "; ".join(dict.fromkeys(changes)),
        )
    if tags := diff.unset_tags(options, state.tags):
        streams.logger.warning(
            "The knot %r keeps its tags. These tags are not set: %s. AWS Batch cannot change tags of existing "
            "resources. To set them, clobber the knot and create it again (results stay): `%s`.",
            options.name,
            ", ".join(tags),
            plan.cloud.command(f"clobber {options.name}"),
        )


def _log_kept_template(options: KnotOptions) -> None:
    streams.logger.warning(
        "The knot %r keeps the template of your own. To return to cloudknot's, run "
        "`cloudknot template knot > knot.yaml` and pass Knot(%r, func=..., template='knot.yaml').",
        options.name,
        options.name,
    )


def _log_lost_choices(options: KnotOptions, wanted: Mapping[str, str], state: StackState) -> None:
    """Log a warning if another session has changed the knot since this session's own update."""
    if lost := diff.stack_changes(wanted, state.parameters, wanted[DIGEST]):
        streams.logger.warning(
            "Another session changed the knot %r at the same time, and its choices count: %s. To set yours, run "
            "Knot(name=%r, ...) with them again.",
            options.name,
            "; ".join(lost),
            options.name,
        )


def find_knot(cloud: Cloud, name: str, spelling: str = "") -> KnotResources:
    """Return the resources of an existing knot, found by its name alone. Makes two read calls.

    ``spelling`` is the name as the user wrote it, if that may have underscores.

    Raises
    ------
    ResourceDoesNotExistException
        No knot has this name, or it is not ready.
    """
    state = Stack(cloud, stack_name(name)).state()
    if state:
        cloud.door.owners.learn(state.account)
        _refuse_namesake(name, spelling or name, state.parameters.get(SPELLING, name))
    newest = active_revisions(cloud, state.parameters["JobDefinitionName"])[:1] if state and state.usable else []
    if state is None or not newest:
        status = f" that is ready (its status is {state.status})" if state else ""
        raise ResourceDoesNotExistException(
            f"There is no knot {name!r} in {cloud.place}{status}. "
            f"To create it, pass a function: Knot(name={name!r}, func=...).",
            operation="cloudformation:DescribeStacks",
            resource_id=name,
        )
    return _resources(state, newest[0], retries_of(newest[0]), cloud, largest(cloud, state.parameters))


def _refuse_namesake(name: str, spelling: str, existing: str) -> None:
    """Raise if the user means another knot than the existing one, which has the same name in AWS."""
    # Lists and messages have the name in AWS, so that one finds the knot, too.
    if spelling not in (name, existing):
        raise ResourceDoesNotExistException(
            f"There is no knot {spelling!r}. The knot {existing!r} has the name {name!r} in AWS, which {spelling!r} "
            f"would have, too. To connect to the existing knot, run Knot(name={existing!r}).",
            operation="cloudformation:DescribeStacks",
            resource_id=name,
        )


def revisions_of(cloud: Cloud, name: str, state: StackState | None) -> list[JobDefinitionTypeDef]:
    """Return all active revisions of a knot's job definition; ``state`` is None after its stack is deleted."""
    definition_name = state.parameters.get("JobDefinitionName") if state else None
    return [
        definition
        for definition in batch.job_definitions(cloud)
        if definition["jobDefinitionName"] == definition_name or is_of(definition, stack_name(name))
    ]


def _revision(
    cloud: Cloud,
    parameters: Mapping[str, str],
    revisions: Sequence[JobDefinitionTypeDef],
    state: StackState,
) -> tuple[JobDefinitionTypeDef, list[str]]:
    """Return an up-to-date revision, registered if necessary, and its differences from the previous one."""
    # Only the newest revision is reused, even if an older one matches. A session that has only the knot's name takes
    # the newest, and must get the function that the knot was created with last.
    wanted = job_definition(parameters, cloud.region)
    newest = revisions[0] if revisions else None
    if newest and is_custom(state.parameters):
        wanted = with_own_parts(wanted, newest)
    differing = diff.job_changes(facts(newest), facts(cast("JobDefinitionTypeDef", wanted))) if newest else []
    if newest and not differing:
        return newest, []
    request: RegisterJobDefinitionRequestTypeDef = {**wanted, "tags": state.tags}
    registered = clients.batch(cloud).register_job_definition(**request)
    return cast("JobDefinitionTypeDef", {**wanted, **registered}), differing


def _resources(
    state: StackState, revision: JobDefinitionTypeDef, retries: int, cloud: Cloud, max_vcpus: int
) -> KnotResources:
    parameters = state.parameters
    return KnotResources(
        stack_id=state.stack_id,
        job_definition_name=parameters["JobDefinitionName"],
        job_definition_arn=revision["jobDefinitionArn"],
        job_queue_name=parameters["JobQueueName"],
        job_queue_arn=state.outputs["JobQueue"],
        compute_environment_name=parameters["ComputeEnvironmentName"],
        compute_environment_arn=state.outputs["ComputeEnvironment"],
        image_uri=revision["containerProperties"]["image"],
        retries=retries,
        max_vcpus=max_vcpus,
        pars_name=parameters["ParsName"],
        tags=without_own(state.tags),
        bucket=parameters.get("Bucket") or cloud.bucket,
        bucket_owner=parameters.get("BucketOwner", ""),
        job_role=revision["containerProperties"].get("jobRoleArn", ""),
        fargate=fargate_size(revision),
        vcpus=vcpus_of(revision),
        timeout=timeout_of(revision),
        packages=packages_of(revision),
        compute=parameters.get("Compute", ""),
    )
