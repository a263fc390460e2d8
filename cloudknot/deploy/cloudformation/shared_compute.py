"""Knots that use the job queue and the machines of another knot: the other knot's stack, read for a plan.

AWS Batch has a quota of 50 job queues and 50 compute environments in a region, and does not raise it (Batch user
guide, "Service quotas"). Any number of knots can share one of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from cloudknot.deploy.cloudformation.stack import Stack, StackState
from cloudknot.deploy.inventory import stack_name
from cloudknot.errors import PermissionDeniedError, ResourceDoesNotExistException, refuse
from cloudknot.options.choices import KnotOptions
from cloudknot.options.validators import argument, aws_name

if TYPE_CHECKING:
    from cloudknot.aws.cloud import Cloud

MACHINES = (
    *("Priority", "InstanceTypes", "MinVcpus", "DesiredVcpus", "MaxVcpus", "BidPercentage", "VolumeSize"),
    *("DiskTemplate", "ImageId", "KeyPair", "ServiceRole", "InstanceProfile", "Subnets", "SecurityGroup"),
)
"""Parameters that no resource uses in the stack of a knot on the machines of another one."""
APART = (
    "Pass another name= to create a new knot, or clobber() the existing one and create it again. Stored results are "
    "kept."
)


def with_machines(cloud: Cloud, options: KnotOptions, current: Mapping[str, str]) -> KnotOptions:
    """Return the options with the queue and the machines of the other knot, if the knot uses those of another one.

    Parameters
    ----------
    cloud : Cloud
    options : KnotOptions
    current : mapping of str to str
        Parameters of the knot's existing stack; empty without one. A knot keeps its queue and machines.

    Raises
    ------
    CloudknotInputError
        The existing knot has another queue, or the jobs do not fit the machines.
    ResourceDoesNotExistException
        There is no other knot of that name.
    """
    chosen, used = aws_name(options.compute), current.get("Compute", "")
    if not (chosen or used):
        return options
    name, state = _owner(cloud, chosen or used)
    if name == options.name:
        refuse(
            problem=f"{argument('compute', chosen)} is the knot itself, or a knot that uses its machines.",
            fix="Pass the name of another knot, or remove compute=.",
        )
    if chosen and current and name != used:
        present = f"uses the queue and the machines of {used!r}" if used else "has a queue and machines of its own"
        refuse(
            problem=f"{argument('compute', chosen)} cannot be applied: the existing knot {options.name!r} {present}.",
            cause="Its jobs may be waiting there.",
            fix=APART,
        )
    for choice, value in options.passed_machines.items():
        refuse(
            problem=f"{argument(choice, value)} cannot be applied to the existing knot {options.name!r}.",
            cause=f"It uses the queue and the machines of the knot {name!r}.",
            fix=f"Remove {choice}=, or set it there: Knot({name!r}, func=..., {choice}=...).",
        )
    return _fitting(options, name, state)


def largest(cloud: Cloud, parameters: Mapping[str, str]) -> int:
    """Return the most vCPUs that all jobs of a knot may have together, from the stack that has the machines."""
    if owner := parameters.get("Compute", ""):
        # A user with the permission for one knot may not read another stack.
        with suppress(PermissionDeniedError):
            if state := Stack(cloud, stack_name(owner)).state():
                parameters = state.parameters
    return int(parameters["MaxVcpus"])


def _owner(cloud: Cloud, name: str) -> tuple[str, StackState]:
    """Return the name and the stack of the knot whose machines a knot uses or is."""
    state = Stack(cloud, stack_name(name)).state()
    if state is None or not state.usable:
        status = f" that is ready (its status is {state.status})" if state else ""
        raise ResourceDoesNotExistException(
            f"There is no knot {name!r}{status} in {cloud.place}, whose queue and machines compute={name!r} means. "
            f"Create it first: Knot({name!r}, func=...). To see all knots, run `{cloud.command('list')}`.",
            operation="cloudformation:DescribeStacks",
        )
    other = state.parameters.get("Compute", "")
    return _owner(cloud, other) if other else (name, state)


def _fitting(options: KnotOptions, name: str, state: StackState) -> KnotOptions:
    """Return the options on these machines. Raise if the jobs do not fit them."""
    parameters = state.parameters
    if options.n_gpus and parameters.get("Gpus", "0") == "0":
        refuse(
            problem=f"n_gpus={options.n_gpus} is not available on the machines of the knot {name!r}.",
            cause="That knot has no GPUs.",
            fix="Remove compute=, or pass the name of a knot with n_gpus=.",
        )
    return options.on_compute(
        name,
        instance_types=tuple(parameters["InstanceTypes"].split(",")),
        max_vcpus=int(parameters["MaxVcpus"]),
        image_id=parameters.get("ImageId") or None,
        job_queue_name=parameters["JobQueueName"],
        compute_environment_name=parameters["ComputeEnvironmentName"],
    )
