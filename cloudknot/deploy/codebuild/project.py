"""The CodeBuild project and its role, in one CloudFormation stack for the account and region.

It is made on first need, and costs nothing while no build runs. Its role may push to the repositories, and read from
the buckets, that sessions have used it with: each session adds its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from cloudknot.aws.images.codebuild import CONTEXTS
from cloudknot.aws.images.ecr import Repository
from cloudknot.aws.tags import with_own
from cloudknot.deploy.cloudformation.stack import Stack, StackState
from cloudknot.deploy.cloudformation.template import Template, load
from cloudknot.deploy.inventory import BUILDS
from cloudknot.errors import PermissionDeniedError

if TYPE_CHECKING:
    from cloudknot.aws.cloud import Cloud


def make_project(cloud: Cloud, repository: Repository, boundary: str = "") -> str:
    """Create, adopt or update the project, and return its name.

    Parameters
    ----------
    cloud : Cloud
    repository : Repository
        The existing repository that builds push to.
    boundary : str
        ARN of the permissions boundary for its role; empty to keep the current one.

    Raises
    ------
    CannotCreateResourceException
        A resource could not be created. The message names it with AWS's reason.
    """
    # Not the tags of a knot: the project is shared by all.
    template = Template.of(load("build"), with_own({}, BUILDS))
    stack = Stack(cloud, BUILDS)
    stack.deploy_from(stack.state(), template, partial(_parameters, cloud, repository.arn, boundary))
    return BUILDS


def delete_project(cloud: Cloud, stack_id: str | None = None) -> None:
    """Delete the project with its role and logs, and the files of interrupted builds. Does nothing without a project.

    Parameters
    ----------
    cloud : Cloud
    stack_id : str, optional
        Delete only the stack with this id. Default: the stack that exists now.

    Raises
    ------
    CannotDeleteResourceException
        A resource could not be deleted. The message names it with AWS's reason.
    """
    stack = Stack(cloud, BUILDS)
    state = stack.state(stack_id)
    if state is None:
        return
    # First, because the stack names the buckets. A running build of another session has read its files, or fails.
    for arn in _listed(state.parameters, "Contexts"):
        bucket = arn.partition(":::")[2].partition("/")[0]
        # The bucket of another session may be closed to these credentials, or belong to another account by now.
        with suppress(PermissionDeniedError):
            cloud.in_bucket(bucket).storage.delete_prefix(f"{CONTEXTS}/")
    stack.delete(state.stack_id)


def _parameters(cloud: Cloud, repository: str, boundary: str, state: StackState | None) -> dict[str, str]:
    """Return the parameters of the stack: the current ones, and those that this session needs."""
    current: Mapping[str, str] = state.parameters if state is not None else {}
    contexts = f"arn:{cloud.partition}:s3:::{cloud.bucket}/{CONTEXTS}/*"
    return {
        "ProjectName": BUILDS,
        "Repositories": _with(current, "Repositories", repository),
        "Contexts": _with(current, "Contexts", contexts),
        "Owners": _with(current, "Owners", cloud.bucket_owner),
        "PermissionsBoundary": boundary or current.get("PermissionsBoundary", ""),
    }


def _with(current: Mapping[str, str], name: str, value: str) -> str:
    """Return the list in a parameter, with one more value unless it has it."""
    return ",".join(dict.fromkeys([*_listed(current, name), value]))


def _listed(parameters: Mapping[str, str], name: str) -> list[str]:
    return [item for item in parameters.get(name, "").split(",") if item]
