"""What there is of cloudknot's in a region, read from CloudFormation: the knots, and what they share.

A stack is cloudknot's when its description says so. Nothing is kept on this machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from cloudknot.aws import batch, clients
from cloudknot.aws.cloud import choose_cloud
from cloudknot.aws.tags import OWN_TAG, without_own
from cloudknot.deploy.cloudformation.stack import GONE, StackState

if TYPE_CHECKING:
    from cloudknot.aws.cloud import Cloud

MARK = "(cloudknot)"
"""How the descriptions of cloudknot's templates end."""
KNOT, PARS = "-cloudknot", "-cloudknot-pars"
"""How the names of its stacks end."""


def stack_name(knot: str) -> str:
    """Return the name of a knot's stack."""
    return f"{knot}{KNOT}"


def pars_stack_name(pars: str) -> str:
    """Return the name of a Pars' stack."""
    return f"{pars}{PARS}"


class KnotInfo(NamedTuple):
    """A knot, as `list_knots` finds it.

    ``status`` is its stack's, such as ``CREATE_COMPLETE``; ``image`` is that of its next map, empty when it has none;
    ``min_vcpus`` above 0 costs money while idle.
    """

    name: str
    status: str
    created: datetime | None
    image: str
    pars: str
    job_queue: str
    job_definition: str
    compute_environment: str
    min_vcpus: int
    tags: Mapping[str, str]
    stack_id: str


def list_knots(cloud: Cloud | str | None = None) -> list[KnotInfo]:
    """Every knot of the account in the cloud's region, by name, whoever made it and wherever.

    Asks CloudFormation and Batch once for each hundred of what they have.

    Parameters
    ----------
    cloud : Cloud or {"aws", "local"}, optional
        Default: the settings'.
    """
    cloud = choose_cloud(cloud)
    stacks = knot_stacks(all_stacks(cloud))
    images = newest_images(cloud) if stacks else {}
    return [_info(stack, images) for stack in stacks]


def all_stacks(cloud: Cloud) -> list[StackState]:
    """Every stack of cloudknot's, by name."""
    pages = clients.cloudformation(cloud).get_paginator("describe_stacks").paginate()
    states = [StackState.of(one) for page in pages for one in page["Stacks"]]
    found = (one for one in states if one.description.endswith(MARK) and one.status != GONE)
    return sorted(found, key=lambda state: state.name)


def knot_stacks(stacks: list[StackState]) -> list[StackState]:
    """Those of them that are knots'."""
    return [stack for stack in stacks if stack.name.endswith(KNOT) and "ParsName" in stack.parameters]


def pars_stacks(stacks: list[StackState]) -> list[StackState]:
    """Those of them that are Pars'."""
    return [stack for stack in stacks if stack.name.endswith(PARS)]


def knots_of_pars(cloud: Cloud, pars: str) -> list[str]:
    """The names of the knots that use a Pars."""
    users = (stack for stack in knot_stacks(all_stacks(cloud)) if stack.parameters["ParsName"] == pars)
    return [stack.name.removesuffix(KNOT) for stack in users]


def job_definitions(cloud: Cloud, status: str = "ACTIVE") -> list[batch.JobDefinition]:
    """Every revision of the region that can be submitted; or, ``INACTIVE``, those of the last 180 days that cannot."""
    pages = clients.batch(cloud).get_paginator("describe_job_definitions").paginate(status=status)
    return [definition for page in pages for definition in page["jobDefinitions"]]


def is_of(definition: batch.JobDefinition, stack: str) -> bool:
    """Whether a job definition was made for a stack."""
    own = definition.get("tags", {}).get(OWN_TAG)
    return own == stack or (own is None and definition["jobDefinitionName"] == f"{stack}-job-definition")


def newest_images(cloud: Cloud) -> dict[str, str]:
    """The image of each job definition's newest revision, by the definition's name."""
    revisions = sorted(job_definitions(cloud), key=lambda one: one["revision"])
    return {one["jobDefinitionName"]: one.get("containerProperties", {}).get("image", "") for one in revisions}


def _info(stack: StackState, images: Mapping[str, str]) -> KnotInfo:
    parameters = stack.parameters
    definition = parameters.get("JobDefinitionName", "")
    return KnotInfo(
        name=stack.name.removesuffix(KNOT),
        status=stack.status,
        created=stack.created,
        image=images.get(definition, ""),
        pars=parameters["ParsName"],
        job_queue=parameters.get("JobQueueName", ""),
        job_definition=definition,
        compute_environment=parameters.get("ComputeEnvironmentName", ""),
        min_vcpus=int(parameters.get("MinVcpus") or 0),
        tags=without_own(stack.tags),
        stack_id=stack.stack_id,
    )
