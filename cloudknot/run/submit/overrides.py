"""What one map's jobs have in place of the knot's, as arguments of SubmitJob."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloudknot.options.compute import check_fargate_memory, refuse_above

if TYPE_CHECKING:
    from types_boto3_batch.type_defs import ResourceRequirementTypeDef, SubmitJobRequestTypeDef

    from cloudknot.options.choices import Overrides


def check_overrides(overrides: Overrides, max_vcpus: int, fargate: tuple[int, int] | None) -> None:
    """Refuse what no job of a knot can get; ``fargate`` is what its jobs have on Fargate, vCPUs and MiB.

    Raises
    ------
    CloudknotInputError
    """
    refuse_above(max_vcpus, vcpus=overrides.vcpus)
    if fargate is not None and (overrides.vcpus or overrides.memory):
        check_fargate_memory(overrides.vcpus or fargate[0], overrides.memory or fargate[1], "vcpus")


def with_overrides(request: SubmitJobRequestTypeDef, overrides: Overrides) -> SubmitJobRequestTypeDef:
    """A SubmitJob request with what a map has in place of the job definition's.

    The number of attempts is none of it: the worker counts those, and finds in the manifest how many there may be.
    """
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
