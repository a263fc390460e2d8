"""List cloudknot's stacks and job definitions in a region.

CloudFormation and Batch are the only records. Nothing is stored on this machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from cloudknot.aws import batch, clients
from cloudknot.aws.cloud import choose_cloud
from cloudknot.aws.tags import KNOT, OWN_TAG, without_own
from cloudknot.deploy.cloudformation.stack import GONE, Stack, StackState
from cloudknot.deploy.cloudformation.template import MARK, SPELLING
from cloudknot.display.summaries import html_table, safely, text_table
from cloudknot.options.public import public_function
from cloudknot.options.validators import aws_name

if TYPE_CHECKING:
    from cloudknot.aws.cloud import Cloud

PARS = "-cloudknot-pars"
"""The end of the name of the stack of a Pars."""
BUILDS = "images-cloudknot-build"
"""The name of the stack with the project for builds on CodeBuild, and of that project."""


def stack_name(knot: str) -> str:
    """Return the name of a knot's stack."""
    return f"{knot}{KNOT}"


def pars_stack_name(pars: str) -> str:
    """Return the name of a Pars' stack."""
    return f"{pars}{PARS}"


def name_in_aws(cloud: Cloud, name: str) -> str:
    """Return the name in AWS of a knot, from its name with underscores. Empty if the knot there has another one."""
    if "_" not in name:
        return name
    state = Stack(cloud, stack_name(aws_name(name))).state()
    return aws_name(name) if state and state.parameters.get(SPELLING) == name else ""


class KnotInfo(NamedTuple):
    """A knot in the list of `list_knots`.

    ``status`` is the status of its stack, such as ``CREATE_COMPLETE``. ``image`` is the image of its next map, empty
    without one. A ``min_vcpus`` above 0 costs money even while no job runs.
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
    compute: str = ""
    """Name of the knot whose queue and machines it uses. Empty if it has its own."""


class KnotList(list[KnotInfo]):
    """A list of knots that is shown as a table."""

    def __repr__(self) -> str:
        return safely(lambda: text_table(*self._table()), "KnotList")

    def _repr_html_(self) -> str:
        return safely(lambda: html_table(*self._table()), "KnotList")

    def _table(self) -> tuple[Sequence[str], Sequence[Sequence[str]], str]:
        rows = [(knot.name, knot.status, f"{knot.created:%Y-%m-%d %H:%M}" if knot.created else "") for knot in self]
        return ("Name", "Status", "Created"), rows, "No knots."


@public_function
def list_knots(cloud: Cloud | str | None = None) -> list[KnotInfo]:
    """Return all knots of the account in the cloud's region, sorted by name, from any user and machine.

    The list is shown as a table.

    Makes one call to CloudFormation for each hundred stacks and one to Batch for each hundred job definitions.

    Parameters
    ----------
    cloud : Cloud or {"aws", "local"}, optional
        Default: the cloud of the settings.
    """
    cloud = choose_cloud(cloud)
    stacks = knot_stacks(all_stacks(cloud))
    images = newest_images(cloud) if stacks else {}
    return KnotList(_info(stack, images) for stack in stacks)


def all_stacks(cloud: Cloud) -> list[StackState]:
    """Return all stacks of cloudknot in the region, sorted by name."""
    pages = clients.cloudformation(cloud).get_paginator("describe_stacks").paginate()
    states = [StackState.of(answer) for page in pages for answer in page["Stacks"]]
    ours = (state for state in states if state.description.endswith(MARK) and state.status != GONE)
    return sorted(ours, key=lambda state: state.name)


def knot_stacks(stacks: list[StackState]) -> list[StackState]:
    """Return the stacks of knots among ``stacks``."""
    return [stack for stack in stacks if stack.name.endswith(KNOT) and "ParsName" in stack.parameters]


def pars_stacks(stacks: list[StackState]) -> list[StackState]:
    """Return the stacks of Pars among ``stacks``."""
    return [stack for stack in stacks if stack.name.endswith(PARS)]


def knots_of_pars(cloud: Cloud, pars: str) -> list[str]:
    """Return the names of the knots that use a Pars."""
    users = (stack for stack in knot_stacks(all_stacks(cloud)) if stack.parameters["ParsName"] == pars)
    return [stack.name.removesuffix(KNOT) for stack in users]


def users_of_compute(cloud: Cloud) -> dict[str, str]:
    """Return the knots that use the queue and the machines of another knot, each with the name of the other one."""
    stacks = knot_stacks(all_stacks(cloud))
    return {stack.name.removesuffix(KNOT): used for stack in stacks if (used := stack.parameters.get("Compute"))}


def is_of(definition: batch.JobDefinition, stack: str) -> bool:
    """Return whether a job definition belongs to a stack."""
    tag = definition.get("tags", {}).get(OWN_TAG)
    # Without the tag, only the default name identifies the stack.
    return tag == stack or (tag is None and definition["jobDefinitionName"] == f"{stack}-job-definition")


def newest_images(cloud: Cloud) -> dict[str, str]:
    """Return the image of each job definition's newest revision, by the definition's name."""
    # Sorted ascending, so that the newest revision overwrites the older ones in the mapping.
    revisions = sorted(batch.job_definitions(cloud), key=lambda revision: revision["revision"])
    return {
        revision["jobDefinitionName"]: revision.get("containerProperties", {}).get("image", "")
        for revision in revisions
    }


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
        compute=parameters.get("Compute", ""),
    )
