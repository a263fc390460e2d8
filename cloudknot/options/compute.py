"""The machines of jobs: EC2 instances of one architecture, or Fargate with its fixed pairs of vCPUs and memory.

The functions are pure. They check parameters against rules that hold in every region.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from cloudknot.errors import refuse
from cloudknot.options import streams
from cloudknot.options.validators import alternatives, argument, subject

# A machine of a compute-optimised family (c5, c6i, ...) has 2 GiB for each vCPU. The kernel and the ECS agent take up
# to 3.5 % of it. With more memory for each job, a part of the paid vCPUs would run nothing.
MEMORY = 1900
"""Default MiB of a job for each of its vCPUs. So all vCPUs of a machine get jobs, also of compute-optimised types."""
MEMORY_BESIDE_GPU = 7500
"""Default MiB of a job with GPUs. Such machines have 16 GiB or more for each GPU, and one job on it."""
EARLIER_MEMORY = 7500
"""Default MiB of a job in the first versions of cloudknot. Knots of that time keep it."""
LONGEST_ON_FARGATE = 14 * 24 * 3600
"""Seconds after which AWS may end a job on Fargate (Batch user guide, "Job timeouts")."""
ANY_TYPES = ("optimal", "default_x86_64", "default_arm64")
"""Names for which Batch chooses the instance types (Batch API reference, ComputeResource, instanceTypes)."""
GPU_FAMILIES = ("g4dn", "g5")
"""Default instance families of jobs with GPUs."""
# Batch API reference, Ec2Configuration, imageType: ECS_AL2023_NVIDIA has no drivers for these GPUs and does not run on
# Graviton types. ECS_AL2023 does not run on A1.
OLD_GPU_FAMILIES = ("g3", "g3s", "p3", "p3dn")
"""Instance families with GPUs that Batch's machine images do not support."""
FARGATE_TYPES = {
    "fargate": ("FARGATE", "linux/amd64"),
    "fargate-spot": ("FARGATE_SPOT", "linux/amd64"),
    "fargate-arm64": ("FARGATE", "linux/arm64"),
    "fargate-spot-arm64": ("FARGATE_SPOT", "linux/arm64"),
}
"""The values of ``instance_types`` for Fargate, with Batch's type of compute environment and the platform."""
FARGATE_MEMORY: dict[int, Sequence[int]] = {
    1: range(2048, 8192 + 1, 1024),
    2: range(4096, 16384 + 1, 1024),
    4: range(8192, 30720 + 1, 1024),
    8: range(16384, 61440 + 1, 4096),
    16: range(32768, 122880 + 1, 8192),
    32: (61440, 122880, 249856),
}
"""The sizes of memory in MiB for each number of vCPUs (Batch API reference, ResourceRequirement, value)."""

# EC2 user guide, "Instance type naming conventions": a g after the digit of the generation stands for AWS Graviton.
# The names of a1 and of the Grace Blackwell machines do not follow that rule.
_GRAVITON = re.compile(r"default_arm64|a1|[a-z]+\d+[a-z]*g[a-z]*(-flex)?|p\d+e-gb\d+")


def platform_of(instance_types: Iterable[str]) -> str:
    """Return the platform of these instance types: ``"linux/amd64"`` or ``"linux/arm64"``.

    Raises
    ------
    CloudknotInputError
        The types have both. A Batch compute environment and an image each support only one.
    """
    types = list(instance_types)
    if types and types[0] in FARGATE_TYPES:
        return FARGATE_TYPES[types[0]][1]
    arm = [name for name in types if _GRAVITON.fullmatch(name.partition(".")[0])]
    other = [name for name in types if name not in arm]
    if arm and other:
        refuse_mixed(arm[0], other[0])
    return "linux/arm64" if arm else "linux/amd64"


def refuse_mixed(arm: str, other: str) -> None:
    """Raise `CloudknotInputError` for an arm64 instance type beside one with another architecture."""
    refuse(
        problem=f"{argument('instance_types', (arm, other))} mixes two processor architectures.",
        cause=f"{arm} is arm64, and {other} is x86_64. An image runs on one of them.",
        fix=f"Pass types of one architecture, for example instance_types={other!r}.",
    )


def fargate_of(instance_types: Sequence[str]) -> str:
    """Return ``"FARGATE"`` or ``"FARGATE_SPOT"``, or an empty string for EC2 instances.

    Raises
    ------
    CloudknotInputError
        The types mix Fargate with others.
    """
    named = [name for name in instance_types if name in FARGATE_TYPES]
    if named and len(instance_types) > 1:
        refuse(
            problem=f"{argument('instance_types', tuple(instance_types))} mixes {named[0]!r} with other types.",
            cause="A knot runs on Fargate or on EC2 instances.",
            fix=f"Pass {named[0]!r} alone, or remove it.",
        )
    return FARGATE_TYPES[named[0]][0] if named else ""


def refuse_on_fargate(**parameters: object) -> None:
    """Raise `CloudknotInputError` for the first parameter that is not None: Fargate has none of them."""
    on_instances = "Remove {name}, or pass instance_types='optimal'."
    # bid_percentage limits the price of Spot instances. Ignoring it would silently drop that limit on the bill.
    reasons = {
        "bid_percentage": (
            "AWS alone sets the price.",
            "Remove bid_percentage. For lower prices, pass instance_types='fargate-spot'.",
        ),
        "n_gpus": ("Fargate has no GPUs.", f"Remove n_gpus, or pass for example instance_types={GPU_FAMILIES}."),
        "memory_growth": ("Fargate offers only some memory sizes for each number of vCPUs.", on_instances),
        "min_vcpus": ("Fargate keeps no machine running.", "Remove min_vcpus."),
        "desired_vcpus": ("Fargate keeps no machine running.", "Remove desired_vcpus. max_vcpus is the only limit."),
    }
    for name, value in parameters.items():
        if value is not None:
            cause, fix = reasons.get(name, ("It applies to EC2 instances.", on_instances))
            # The options hold memory_growth=2 as 2.0.
            shown = int(value) if isinstance(value, float) and value.is_integer() else value
            refuse(
                problem=f"{argument(name, shown)} is not available on Fargate.",
                cause=cause,
                fix=fix.format(name=name),
            )


def types_for_gpus(n_gpus: int, instance_types: tuple[str, ...]) -> tuple[str, ...]:
    """Return the instance types for jobs with ``n_gpus`` GPUs: `GPU_FAMILIES` in place of the default.

    Raises
    ------
    CloudknotInputError
        The types are names for which Batch chooses only families without GPUs.
    """
    if n_gpus and instance_types == ("optimal",):
        return GPU_FAMILIES
    if n_gpus and all(name in ANY_TYPES for name in instance_types):
        refuse(
            problem=f"n_gpus={n_gpus} is not available with {types_argument(instance_types)}.",
            cause=f"For {'these names' if len(instance_types) > 1 else 'this name'}, AWS Batch chooses only types "
            "without GPUs.",
            fix=f"Pass for example instance_types={GPU_FAMILIES}.",
        )
    return instance_types


def types_argument(instance_types: Sequence[str]) -> str:
    """Return ``instance_types=...`` for a message, as the reader can paste it."""
    return f"instance_types={instance_types[0] if len(instance_types) == 1 else tuple(instance_types)!r}"


def type_subject(instance_types: Sequence[str], name: str) -> str:
    """Return the subject of a sentence about one of the instance types."""
    return subject("instance_types", name if len(instance_types) == 1 else instance_types, name)


def refuse_unrunnable(n_gpus: int, instance_types: Sequence[str], image_id: str | None) -> None:
    """Raise `CloudknotInputError` for instance types that Batch's machine images do not support."""
    # A machine image of the user's own may support them.
    if image_id is not None:
        return
    for name in instance_types:
        family = name.partition(".")[0]
        if family == "a1":
            refuse(
                problem=f"{type_subject(instance_types, name)} cannot run the machine image of AWS Batch.",
                cause="The image needs a newer processor.",
                fix="Pass for example instance_types='m7g', or as image_id= a machine image for this older processor.",
            )
        if n_gpus and (family in OLD_GPU_FAMILIES or _GRAVITON.fullmatch(family)):
            refuse(
                problem=f"{type_subject(instance_types, name)} cannot run jobs with GPUs on the machine image of AWS "
                "Batch.",
                cause="The image has no drivers for these GPUs.",
                fix=f"Pass for example instance_types={GPU_FAMILIES}, or an image_id= that has drivers.",
            )


def warn_about_costs(min_vcpus: int, bid_percentage: int | None) -> None:
    """Warn about instances that cost money while idle, and about a bid that AWS never accepts."""
    if min_vcpus:
        streams.warn(
            f"min_vcpus={min_vcpus} keeps this many vCPUs running. They cost money even when no job runs. "
            "To pay only for running jobs, pass min_vcpus=0.",
        )
    if bid_percentage == 0:
        streams.warn(
            "bid_percentage=0 accepts only Spot machines that cost nothing, so no job will start. To pay up to the "
            "on-demand price, pass bid_percentage=100.",
        )


def default_memory(vcpus: int, n_gpus: int) -> int:
    """Return the default MiB of a job on EC2 instances."""
    return MEMORY_BESIDE_GPU if n_gpus else MEMORY * vcpus


def fargate_memory(vcpus: int, least: int = 0) -> int:
    """Return the default MiB of a Fargate job: the smallest allowed size of at least `MEMORY` for each vCPU.

    ``least`` replaces that number of MiB.

    Raises
    ------
    CloudknotInputError
        Fargate does not offer this number of vCPUs.
    """
    return next(size for size in _sizes(vcpus) if size >= (least or MEMORY * vcpus))


def earlier_memory(vcpus: int, fargate: bool) -> int:
    """Return the MiB that earlier versions of cloudknot gave to a job without ``memory``."""
    if not fargate:
        return EARLIER_MEMORY
    return fargate_memory(vcpus, EARLIER_MEMORY) if vcpus in FARGATE_MEMORY else 0


def check_fargate_timeout(seconds: int | None) -> None:
    """Raise `CloudknotInputError` for a timeout that Fargate cannot keep."""
    if seconds is not None and seconds > LONGEST_ON_FARGATE:
        refuse(
            problem=f"timeout={seconds} is not available on Fargate.",
            cause=f"AWS may end a job there after 14 days ({LONGEST_ON_FARGATE} seconds).",
            fix=f"Pass timeout={LONGEST_ON_FARGATE} or less, or create the knot with instance_types='optimal'.",
        )


def check_fargate_memory(vcpus: int, memory: int, name: str = "job_def_vcpus") -> None:
    """Raise `CloudknotInputError` for vCPUs and memory that Fargate does not offer together.

    The message contains the nearest sizes. ``name`` is the parameter for the vCPUs: a knot and a map differ in it.
    """
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
    """Raise `CloudknotInputError` for a job with more vCPUs than the knot may use. The keyword is the parameter."""
    for name, number in vcpus.items():
        if number is not None and number > max_vcpus:
            refuse(
                problem=f"{name}={number} is more than the knot's max_vcpus={max_vcpus}.",
                cause="No job could start.",
                fix=f"Pass {name}={max_vcpus} or less, or raise max_vcpus of the knot.",
            )
