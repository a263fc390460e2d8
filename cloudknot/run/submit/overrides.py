"""Overrides: vCPUs, memory and timeout of one map, in place of the knot's, as arguments of SubmitJob."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloudknot.options.compute import check_fargate_memory, check_fargate_timeout, refuse_above

if TYPE_CHECKING:
    from types_boto3_batch.type_defs import ResourceRequirementTypeDef, SubmitJobRequestTypeDef

    from cloudknot.options.choices import Overrides


def check_overrides(overrides: Overrides, max_vcpus: int, fargate: tuple[int, int] | None) -> None:
    """Check that jobs of the knot can get the resources of these overrides.

    Parameters
    ----------
    overrides : Overrides
    max_vcpus : int
        The limit of the knot.
    fargate : (int, int) or None
        vCPUs and MiB of the knot's jobs on Fargate; None on instances.

    Raises
    ------
    CloudknotInputError
        The vCPUs are above the limit, or Fargate does not offer this timeout or this pair of vCPUs and memory.
    """
    refuse_above(max_vcpus, vcpus=overrides.vcpus)
    if fargate is not None:
        check_fargate_timeout(overrides.timeout)
    if fargate is not None and (overrides.vcpus or overrides.memory):
        check_fargate_memory(overrides.vcpus or fargate[0], overrides.memory or fargate[1], "vcpus")


def with_overrides(request: SubmitJobRequestTypeDef, overrides: Overrides) -> SubmitJobRequestTypeDef:
    """Return a SubmitJob request with the overrides of a map."""
    # No retryStrategy: Batch counts all attempts together, those that lost their machine too. So the worker counts the
    # failures of the function, and reads their limit in the manifest.
    resources: list[ResourceRequirementTypeDef] = []
    if overrides.vcpus is not None:
        resources.append({"type": "VCPU", "value": str(overrides.vcpus)})
    if overrides.memory is not None:
        resources.append({"type": "MEMORY", "value": str(overrides.memory)})
    changed = request.copy()
    if resources:
        changed["containerOverrides"] = {**request.get("containerOverrides", {}), "resourceRequirements": resources}
    if overrides.timeout is not None:
        changed["timeout"] = {"attemptDurationSeconds": overrides.timeout}
    return changed
