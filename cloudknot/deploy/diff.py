"""What differs between a knot as it is and as it is wanted, and whether AWS can change it in place. Pure.

Sources: Batch user guide, "Updating compute environments"; CloudFormation template reference, AWS::Batch resources.
"""

from __future__ import annotations

from collections.abc import Mapping

from cloudknot.deploy.cloudformation.template import DIGEST
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
    "Priority": "priority",
    "InstanceTypes": "instance_types",
    "MinVcpus": "min_vcpus",
    "MaxVcpus": "max_vcpus",
    "BidPercentage": "bid_percentage",
    "VolumeSize": "volume_size",
    "ImageId": "image_id",
    "KeyPair": "ec2_key_pair",
}
"""Parameters of the stack, and the choices that they come from."""
NETWORK = ("Subnets", "SecurityGroup", "InstanceProfile")
INFRASTRUCTURE = ("InstanceTypes", "BidPercentage", "VolumeSize", "ImageId", "KeyPair", "Gpus", *NETWORK)
"""Parameters that Batch changes only under its service-linked role."""
LINKED = "/aws-service-role/"
ANEW = (
    "Pass another name= to make a new knot, or call clobber() on this one and make it again. Stored results are kept."
)


def check_fixed(options: KnotOptions, known: Mapping[str, str]) -> None:
    """Refuse choices that a knot cannot get once it exists; ``known`` are the parameters of its stack.

    Raises
    ------
    CloudknotInputError
        AWS would have to replace what holds the running maps.
    """
    for parameter, choice in NAMES.items():
        if known.get(parameter) != getattr(options, choice):
            refuse(
                problem=f"{argument(choice, getattr(options, choice))} cannot replace {known.get(parameter)!r}, "
                f"the name in the existing knot {options.name!r}.",
                cause="AWS cannot rename it.",
                fix=ANEW,
            )
    if known.get("Fargate", "") != options.fargate:
        kinds = {"": "EC2 instances", "FARGATE": "Fargate", "FARGATE_SPOT": "Fargate Spot"}
        now, wanted = (kinds[kind] for kind in (known.get("Fargate", ""), options.fargate))
        refuse(
            problem=f"{argument('instance_types', options.instance_types)} cannot be applied to the existing knot "
            f"{options.name!r}.",
            cause=f"AWS cannot turn {now} into {wanted}.",
            fix=ANEW,
        )


def check_in_place(options: KnotOptions, known: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Refuse a change of the stack's parameters from ``known`` to ``wanted`` that AWS cannot make in place.

    Raises
    ------
    CloudknotInputError
    """
    check_fixed(options, known)
    if known.get("ServiceRole") != wanted["ServiceRole"]:
        refuse(
            problem=f"pars={wanted['ParsName']!r} has another Batch service role than the existing knot "
            f"{options.name!r}.",
            cause=f"AWS cannot exchange the role of the knot, {known.get('ServiceRole')}.",
            fix=ANEW,
        )
    changed = [name for name in INFRASTRUCTURE if known.get(name) != wanted[name]]
    if changed and LINKED not in wanted["ServiceRole"]:
        choice = STACK_CHOICES.get(changed[0], "n_gpus" if changed[0] == "Gpus" else "pars")
        refuse(
            problem=f"{argument(choice, wanted[changed[0]])} cannot replace {known.get(changed[0])!r} in the existing "
            f"knot {options.name!r}.",
            cause="Its Pars has a Batch service role of its own (batch_service_role_name=). With such a role, AWS "
            "changes only the number of vCPUs.",
            fix=ANEW,
        )


def of_stack(known: Mapping[str, str], wanted: Mapping[str, str], digest: str) -> list[str]:
    """Return in words what an update of the stack changed, such as ``"max_vcpus 256 -> 100"``.

    ``digest`` is the template's.
    """
    differing = [
        _arrow(choice, known.get(parameter), wanted[parameter])
        for parameter, choice in STACK_CHOICES.items()
        if known.get(parameter) != wanted[parameter]
    ]
    if not differing and any(known.get(name) != wanted[name] for name in NETWORK):
        differing.append("the network of its Pars")
    if known.get(DIGEST) != digest:
        differing.append("its stack, which another version of cloudknot made")
    return differing


def of_job(known: Mapping[str, object], wanted: Mapping[str, object]) -> list[str]:
    """What differs between two revisions of the job definition, given as `cloudknot.deploy.job_definition.facts`."""
    differing = [choice for choice in wanted if known[choice] != wanted[choice]]
    words = {"environment": "requirements or base image", "roles": "roles of its Pars", "rest": "job definition"}
    if "environment" in differing and "image" in differing:
        differing.remove("image")
    return [
        "function"
        if choice == "image"
        else words.get(choice) or _arrow(choice, str(known[choice]), str(wanted[choice]))
        for choice in differing
    ]


def of_tags(options: KnotOptions | ParsOptions, known: Mapping[str, str]) -> list[str]:
    """The tags asked for, besides the default ones, that what exists does not have."""
    usual = complete_tags({}, options.name)
    asked = {key: value for key, value in options.aws_resource_tags.items() if usual.get(key) != value}
    return [f"{key}={value}" for key, value in asked.items() if known.get(key) != value]


def _arrow(choice: str, known: str | None, wanted: str) -> str:
    none = ("0", "", None) if choice == "volume_size" else ("", None)
    before, after = ("none" if value in none else value for value in (known, wanted))
    return f"{choice} {before} -> {after}"
