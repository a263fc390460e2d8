"""Deleting a stack as AWS does: its Batch resources go with it, which moto leaves behind.

Only the public APIs of CloudFormation and Batch are used. A queue goes before its compute environment, as AWS asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from cloudknot.errors import CloudError

DELETIONS = {
    "AWS::Batch::JobQueue": ("DeleteJobQueue", "jobQueue"),
    "AWS::Batch::ComputeEnvironment": ("DeleteComputeEnvironment", "computeEnvironment"),
    "AWS::Batch::JobDefinition": ("DeregisterJobDefinition", "jobDefinition"),
}
"""The operation that deletes a kind of resource, and the name of its argument, in the order that they are called."""


def deleted_stack(body: bytes) -> str | None:
    """The stack that a CloudFormation request deletes; None for every other request."""
    form = dict(parse_qsl(body.decode("utf-8", "replace")))
    return form.get("StackName") if form.get("Action") == "DeleteStack" else None


def delete_batch_resources(
    stack: str, list_resources: Callable[[str], list[Mapping[str, str]]], batch: Callable[..., dict[str, Any]]
) -> None:
    """Delete what a stack has in Batch.

    Parameters
    ----------
    stack : str
    list_resources : callable
        Gives the ``ResourceType`` and ``PhysicalResourceId`` of a stack's resources.
    batch : callable
        ``batch(operation, **arguments)``: one call of the Batch API.
    """
    try:
        resources = list_resources(stack)
    except CloudError:
        return
    for kind, (operation, argument) in DELETIONS.items():
        for resource in resources:
            if resource["ResourceType"] == kind and resource.get("PhysicalResourceId"):
                batch(operation, **{argument: resource["PhysicalResourceId"]})
