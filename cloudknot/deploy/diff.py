"""Describe the differences between an existing knot and the requested one, and refuse those that AWS cannot apply.

Makes no remote calls.

Sources: Batch user guide, "Updating compute environments"; CloudFormation template reference, AWS::Batch resources.
"""

from __future__ import annotations

from collections.abc import Mapping

from cloudknot.deploy.cloudformation.shared_compute import MACHINES
from cloudknot.deploy.cloudformation.template import CUSTOM, DIGEST, SPELLING, is_same
from cloudknot.errors import refuse
from cloudknot.options.choices import KnotOptions, ParsOptions, complete_tags
from cloudknot.options.validators import argument

NAMES = {
    "JobDefinitionName": "job_definition_name",
    "JobQueueName": "job_queue_name",
    "ComputeEnvironmentName": "compute_environment_name",
}
STACK_CHOICES = {
    "ParsName": "pars",
    "Bucket": "bucket",
    "BucketOwner": "bucket_owner",
    "Policies": "policies",
    "PermissionsBoundary": "permissions_boundary",
    "Priority": "priority",
    "InstanceTypes": "instance_types",
    "MinVcpus": "min_vcpus",
    "MaxVcpus": "max_vcpus",
    "BidPercentage": "bid_percentage",
    "VolumeSize": "volume_size",
    "ImageId": "image_id",
    "KeyPair": "ec2_key_pair",
}
"""Parameters of the stack, and the options behind them."""
NETWORK = ("Subnets", "SecurityGroup", "InstanceProfile")
INFRASTRUCTURE = ("InstanceTypes", "BidPercentage", "VolumeSize", "ImageId", "KeyPair", "Gpus", *NETWORK)
"""Parameters that Batch can change only if the compute environment has Batch's service-linked role."""
SERVICE_LINKED = "/aws-service-role/"
"""A part of the ARN of every service-linked role."""
RECREATE = (
    "Pass another name= to create a new knot, or clobber() the existing one and create it again. Stored results are "
    "kept."
)


def check_fixed(options: KnotOptions, current: Mapping[str, str]) -> None:
    """Raise if options would change a fixed part of an existing knot with the stack parameters ``current``.

    Raises
    ------
    CloudknotInputError
        AWS would have to replace resources of running maps.
    """
    check_spelling("knot", options, current.get(SPELLING, options.name))
    for parameter, choice in NAMES.items():
        if current.get(parameter) != getattr(options, choice):
            refuse(
                problem=f"{argument(choice, getattr(options, choice))} cannot replace {current.get(parameter)!r}, "
                f"the name in the existing knot {options.name!r}.",
                cause="AWS cannot rename it.",
                fix=RECREATE,
            )
    if current.get("Fargate", "") != options.fargate:
        kinds = {"": "EC2 instances", "FARGATE": "Fargate", "FARGATE_SPOT": "Fargate Spot"}
        now, wanted = (kinds[kind] for kind in (current.get("Fargate", ""), options.fargate))
        refuse(
            problem=f"{argument('instance_types', options.instance_types)} cannot be applied to the existing knot "
            f"{options.name!r}.",
            cause=f"AWS cannot turn {now} into {wanted}.",
            fix=RECREATE,
        )


def check_spelling(kind: str, options: KnotOptions | ParsOptions, existing: str) -> None:
    """Raise if the existing knot or Pars was created under another name that is the same in AWS."""
    if options.spelling != existing:
        refuse(
            problem=f"name={options.spelling!r} is the name of the existing {kind} {existing!r} in AWS.",
            cause=f"Names in AWS have hyphens in place of underscores, so both would be {options.name!r}.",
            fix=f"Pass name={existing!r} for the existing {kind}, or choose another name for a new one.",
        )


def check_in_place(options: KnotOptions, current: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Raise if AWS cannot change the stack's parameters from ``current`` to ``wanted`` in place.

    Raises
    ------
    CloudknotInputError
        A name, the kind of machines or the Batch service role would change. Under a Batch service role of the user's
        own, also any other property of the machines except the number of vCPUs.
    """
    check_fixed(options, current)
    # The machines are those of another knot, so its stack alone changes them.
    if options.compute:
        return
    if current.get("ServiceRole") != wanted["ServiceRole"]:
        refuse(
            problem=f"pars={wanted['ParsName']!r} has another Batch service role than the existing knot "
            f"{options.name!r}.",
            cause=f"AWS cannot replace the knot's role, {current.get('ServiceRole')}.",
            fix=RECREATE,
        )
    changed = [name for name in INFRASTRUCTURE if current.get(name) != wanted[name]]
    if changed and SERVICE_LINKED not in wanted["ServiceRole"]:
        choice = STACK_CHOICES.get(changed[0], "n_gpus" if changed[0] == "Gpus" else "pars")
        refuse(
            problem=f"{argument(choice, wanted[changed[0]])} cannot replace {current.get(changed[0])!r} in the "
            f"existing knot {options.name!r}.",
            cause="Its Pars has a Batch service role of its own (batch_service_role_name=). With such a role, AWS "
            "changes only the number of vCPUs.",
            fix=RECREATE,
        )


def stack_changes(current: Mapping[str, str], wanted: Mapping[str, str], digest: str) -> list[str]:
    """Return descriptions of the changes in an update of the stack, such as ``"max_vcpus 256 -> 100"``.

    ``digest`` is the digest of the new template.
    """
    unused = MACHINES if wanted.get("Compute") else ()
    changes = [
        _arrow(choice, current.get(parameter), wanted[parameter])
        for parameter, choice in STACK_CHOICES.items()
        if current.get(parameter) != wanted[parameter] and parameter not in unused
    ]
    # With another Pars the network always differs, and the change of `pars` is in the list already.
    if not changes and any(current.get(name) != wanted[name] for name in NETWORK if name not in unused):
        changes.append("the network of its Pars")
    before = current.get(DIGEST, "")
    if not is_same(before, digest):
        custom = before.startswith(CUSTOM) or digest.startswith(CUSTOM)
        changes.append("template" if custom else "its stack, which another version of cloudknot made")
    return changes


def job_changes(current: Mapping[str, object], wanted: Mapping[str, object]) -> list[str]:
    """Return descriptions of the changes between two revisions of the job definition.

    Both revisions are mappings as `cloudknot.deploy.job_definition.facts` returns them.
    """
    differing = [choice for choice in wanted if current[choice] != wanted[choice]]
    words = {"environment": "requirements or base image", "roles": "roles of its jobs", "rest": "job definition"}
    # A new environment always makes a new image, even for the same function.
    if "environment" in differing and "image" in differing:
        differing.remove("image")
    return [
        "function"
        if choice == "image"
        else words.get(choice) or _arrow(choice, str(current[choice]), str(wanted[choice]))
        for choice in differing
    ]


def unset_tags(options: KnotOptions | ParsOptions, current: Mapping[str, str]) -> list[str]:
    """Return the non-default tags in the options that the existing resources lack, as ``key=value``."""
    defaults = complete_tags({}, options.name)
    requested = {key: value for key, value in options.aws_resource_tags.items() if defaults.get(key) != value}
    return [f"{key}={value}" for key, value in requested.items() if current.get(key) != value]


def _arrow(choice: str, current: str | None, wanted: str) -> str:
    # For bid_percentage, "0" is a value. For volume_size, it stands for none.
    none = ("0", "", None) if choice == "volume_size" else ("", None)
    before, after = ("none" if value in none else value for value in (current, wanted))
    return f"{choice} {before} -> {after}"
