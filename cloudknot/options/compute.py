"""What jobs run on: instances of an architecture, or Fargate with its pairs of vCPUs and memory. Pure."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence

from cloudknot.errors import refuse
from cloudknot.options.validators import alternatives, argument

MEMORY = 7500
"""MiB by default: what fits a machine of 8 GiB, of which ECS leaves about 7,985 MiB to jobs."""
ANY_TYPES = ("optimal", "default_x86_64", "default_arm64")
"""Batch's own words for whatever suits (Batch API reference, ComputeResource, instanceTypes)."""
GPU_FAMILIES = ("g4dn", "g5")
"""Instance families for GPUs when none are named."""
OLD_GPU_FAMILIES = ("g3", "g3s", "p3", "p3dn")
"""GPUs that Batch's machine images have no drivers for; nor do those run on Graviton types, nor the plain ones on A1
(Batch API reference, Ec2Configuration, imageType: ECS_AL2023_NVIDIA, ECS_AL2023)."""
FARGATE_TYPES = {
    "fargate": ("FARGATE", "linux/amd64"),
    "fargate-spot": ("FARGATE_SPOT", "linux/amd64"),
    "fargate-arm64": ("FARGATE", "linux/arm64"),
    "fargate-spot-arm64": ("FARGATE_SPOT", "linux/arm64"),
}
"""What ``instance_types`` may be for Fargate: Batch's type of compute environment, and the platform."""
FARGATE_MEMORY: dict[int, Sequence[int]] = {
    1: range(2048, 8192 + 1, 1024),
    2: range(4096, 16384 + 1, 1024),
    4: range(8192, 30720 + 1, 1024),
    8: range(16384, 61440 + 1, 4096),
    16: range(32768, 122880 + 1, 8192),
    32: (61440, 122880, 249856),
}
"""MiB that a job may have, by its whole vCPUs (Batch API reference, ResourceRequirement, value)."""

# EC2 user guide, "Instance type naming conventions": after the generation's digit, g stands for AWS Graviton; a1 and
# the Grace Blackwell machines are named otherwise.
_GRAVITON = re.compile(r"default_arm64|a1|[a-z]+\d+[a-z]*g[a-z]*(-flex)?|p\d+e-gb\d+")


def platform_of(instance_types: Iterable[str]) -> str:
    """``"linux/amd64"`` or ``"linux/arm64"``, whichever these instance types have.

    Raises
    ------
    CloudknotInputError
        They have both. A Batch compute environment, and an image, is for one.
    """
    types = list(instance_types)
    if types and types[0] in FARGATE_TYPES:
        return FARGATE_TYPES[types[0]][1]
    arm = [each for each in types if _GRAVITON.fullmatch(each.partition(".")[0])]
    other = [each for each in types if each not in arm]
    if arm and other:
        refuse_mixed(arm[0], other[0])
    return "linux/arm64" if arm else "linux/amd64"


def refuse_mixed(arm: str, other: str) -> None:
    """Refuse instance types of which one is arm64 and the other x86_64."""
    refuse(
        problem=f"{argument('instance_types', (arm, other))} mixes two processor architectures.",
        cause=f"{arm} is arm64, and {other} is x86_64. An image runs on one of them.",
        fix=f"Pass types of one architecture, for example instance_types={other!r}.",
    )


def fargate_of(instance_types: Sequence[str]) -> str:
    """``"FARGATE"`` or ``"FARGATE_SPOT"``; empty for EC2 instances.

    Raises
    ------
    CloudknotInputError
        Fargate is named beside something else.
    """
    named = [each for each in instance_types if each in FARGATE_TYPES]
    if named and len(instance_types) > 1:
        refuse(
            problem=f"{argument('instance_types', tuple(instance_types))} mixes {named[0]!r} with other types.",
            cause="A knot runs on Fargate or on EC2 instances.",
            fix=f"Pass {named[0]!r} alone, or remove it.",
        )
    return FARGATE_TYPES[named[0]][0] if named else ""


def refuse_on_fargate(**given: object) -> None:
    """Refuse what Fargate does not have, given by the name of its parameter; None is not given."""
    on_instances = "Remove {name}, or pass instance_types='optimal'."
    reasons = {
        "bid_percentage": ("AWS alone sets its price.", "Remove it, and pass instance_types='fargate-spot'."),
        "n_gpus": ("Fargate has no GPUs.", f"Remove it, or pass for example instance_types={GPU_FAMILIES}."),
        "memory_growth": ("Its memory comes in steps that depend on the vCPUs.", on_instances),
        "min_vcpus": ("It keeps no machine running.", "Remove min_vcpus."),
        "desired_vcpus": ("It keeps no machine running.", "Remove desired_vcpus. max_vcpus is the only limit."),
    }
    for name, value in given.items():
        if value is not None:
            cause, fix = reasons.get(name, ("It belongs to EC2 instances.", on_instances))
            refuse(
                problem=f"{argument(name, value)} is not available on Fargate.",
                cause=cause,
                fix=fix.format(name=name),
            )


def types_for_gpus(n_gpus: int, instance_types: tuple[str, ...]) -> tuple[str, ...]:
    """The instance types for jobs of ``n_gpus`` GPUs: `GPU_FAMILIES` in place of the default ones.

    Raises
    ------
    CloudknotInputError
        There are to be GPUs, and only Batch's own words are given, which stand for families without any.
    """
    if n_gpus and instance_types == ("optimal",):
        return GPU_FAMILIES
    if n_gpus and all(each in ANY_TYPES for each in instance_types):
        words = " and ".join(map(repr, instance_types))
        refuse(
            problem=f"n_gpus={n_gpus} is not available on instance_types={words}.",
            cause="Batch chooses only types without GPUs for it.",
            fix=f"Pass for example instance_types={GPU_FAMILIES}.",
        )
    return instance_types


def refuse_unrunnable(n_gpus: int, instance_types: Sequence[str], image_id: str | None) -> None:
    """Refuse types that Batch's own machine images do not run on; a machine image of the user's may."""
    if image_id is not None:
        return
    for each in instance_types:
        family = each.partition(".")[0]
        if family == "a1":
            refuse(
                problem=f"instance_types={each!r} cannot run the machine image of AWS Batch.",
                cause="The image needs a newer processor.",
                fix="Pass for example instance_types='m7g', or the id of an image that runs on it as image_id=.",
            )
        if n_gpus and (family in OLD_GPU_FAMILIES or _GRAVITON.fullmatch(family)):
            refuse(
                problem=f"instance_types={each!r} cannot run jobs with GPUs on the machine image of AWS Batch.",
                cause="The image has no drivers for its GPUs.",
                fix=f"Pass for example instance_types={GPU_FAMILIES}, or an image_id= that has drivers.",
            )


def warn_of_machines(min_vcpus: int, bid_percentage: int | None) -> None:
    """Warn of machines that cost money while idle, and of those that never come."""
    if min_vcpus:
        warnings.warn(
            f"min_vcpus={min_vcpus} keeps that many vCPUs running, and costing money, while the knot is "
            "idle. min_vcpus=0 costs nothing when no job runs.",
            UserWarning,
            stacklevel=8,
        )
    if bid_percentage == 0:
        warnings.warn(
            "bid_percentage=0 takes only Spot machines that cost nothing, and there are none: no job will start. "
            "bid_percentage=100 takes them at up to the on-demand price.",
            UserWarning,
            stacklevel=8,
        )


def fargate_memory(vcpus: int) -> int:
    """MiB by default for a Fargate job: the least that is allowed and no less than `MEMORY`.

    Raises
    ------
    CloudknotInputError
        Fargate has no such number of vCPUs.
    """
    return next(size for size in _sizes(vcpus) if size >= MEMORY)


def check_fargate_memory(vcpus: int, memory: int, name: str = "job_def_vcpus") -> None:
    """Refuse a pair that Fargate does not have, with the nearest that it has; ``name`` is the vCPUs' parameter."""
    sizes = _sizes(vcpus, name)
    if memory not in sizes:
        near = sorted(sorted(sizes, key=lambda size: abs(size - memory))[:2])
        counts = [str(count) for count, listed in FARGATE_MEMORY.items() if memory in listed]
        other = f" {memory:,} MiB are available with {name}={alternatives(counts)}." if counts else ""
        refuse(
            problem=f"memory={memory} is not available on Fargate with {name}={vcpus}.",
            cause=f"The sizes are {_listed(sizes)} MiB.{other}",
            fix=f"Pass {alternatives(f'memory={size}' for size in near)}.",
        )


def _sizes(vcpus: int, name: str = "job_def_vcpus") -> Sequence[int]:
    if vcpus not in FARGATE_MEMORY:
        near = sorted(sorted(FARGATE_MEMORY, key=lambda count: abs(count - vcpus))[:2])
        refuse(
            problem=f"{name}={vcpus} is not available on Fargate.",
            cause=f"A job there has {alternatives(map(str, FARGATE_MEMORY))} vCPUs.",
            fix=f"Pass {alternatives(f'{name}={count}' for count in near)}.",
        )
    return FARGATE_MEMORY[vcpus]


def _listed(sizes: Sequence[int]) -> str:
    if isinstance(sizes, range):
        return f"{sizes[0]:,} to {sizes[-1]:,} in steps of {sizes.step:,}"
    return ", ".join(f"{size:,}" for size in sizes)


def refuse_above(max_vcpus: int, **vcpus: int | None) -> None:
    """Refuse a number of vCPUs, given by the name of its parameter, that no job of the knot can get."""
    for name, number in vcpus.items():
        if number is not None and number > max_vcpus:
            refuse(
                problem=f"{name}={number} is more than the knot's max_vcpus={max_vcpus}.",
                cause="No job could start.",
                fix=f"Pass {name}={max_vcpus} or less, or raise max_vcpus of the knot.",
            )
