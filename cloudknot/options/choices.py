"""Every choice a user can make: its default, what is accepted, and the error when something else is given.

A field has the name of the parameter it stands for. ``KnotOptions.make(**choices)`` is the way in: None means the
default. Making options is pure, so bad input is refused before anything is made.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeVar

from cloudknot.errors import refuse
from cloudknot.options import compute, validators
from cloudknot.options.validators import (
    APT_PACKAGES,
    BASE_IMAGE,
    BATCH_NAME,
    DOCKER_TAGS,
    FLAG,
    GITHUB,
    KNOT_NAME,
    POLICIES,
    REPOSITORY,
    REQUIREMENTS,
    ROLE_NAME,
    USER_NAME,
    Rule,
    argument,
    integer,
    one_of,
    text,
    texts,
)

if TYPE_CHECKING:
    from types_boto3_batch.type_defs import KeyValuePairTypeDef

T = TypeVar("T")

DESIRED_VCPUS = 8
USERNAME = "cloudknot-user"
"""The user that jobs run as unless another is named."""
IMAGE_CHOICES = (
    *("func", "image_script_path", "base_image", "image_work_dir", "image_github_installs", "username"),
    *("requirements", "apt_packages", "dockerfile_lines"),
)
"""Choices that say what is in an image."""
IMAGE_NAMES = {
    "image_script_path": "script_path",
    "image_work_dir": "dir_name",
    "image_github_installs": "github_installs",
}
"""Parameters of `cloudknot.DockerImage` that have another name in `cloudknot.Knot`."""


VCPUS = integer(1, example=4)
MEMORY = integer(4, unit=" (MiB)", example=8000)
# Batch makes ten attempts at a job, at most.
RETRIES = integer(1, 10, example=3)
# Batch API reference, JobTimeout, attemptDurationSeconds.
TIMEOUT = integer(60, unit=" (seconds)", cause="Batch has no shorter timeout.", example=600)
SCRIPT_PATH = validators.path("simulate.py")
DIRECTORY = validators.path("my-program")


def choice(default: T, rule: Rule[T] | None = None) -> T:
    """A field with a default and the rule that its other values obey."""
    return dataclasses.field(default=default, metadata={"rule": rule})


class Options:
    """Base of the option classes."""

    @classmethod
    def make(cls, **choices: object) -> Self:
        """Options from the choices given; None is the default.

        Raises
        ------
        CloudknotInputError
            A value is not accepted. The message names the parameter, the value, and what is accepted.
        """
        checks = {field.name: field.metadata.get("rule") for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        given = {name: value for name, value in choices.items() if value is not None}
        return cls(**{name: rule(name, given[name]) if (rule := checks.get(name)) else given[name] for name in given})

    def __post_init__(self) -> None:
        self._complete()

    def _complete(self) -> None:
        """Fill in the defaults that follow from other fields, and check what concerns several."""

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class KnotOptions(Options):
    """The choices of `cloudknot.Knot`; ``memory`` in MiB, ``timeout`` in seconds an attempt, ``volume_size`` in GiB.

    The default memory fits a machine of 8 GiB, of which ECS leaves about 7,985 MiB to jobs. ``retries`` is the
    number of attempts (Batch takes 1 to 10) and a timeout is at least 60 s (Batch API reference, JobTimeout).
    """

    name: str = choice("", validators.knot_name)
    pars_policies: tuple[str, ...] = choice((), POLICIES)
    docker_image: object = None
    base_image: str | None = choice(None, BASE_IMAGE)
    func: Callable[..., object] | None = choice(None, validators.function)  # noqa: RUF009 - a field specifier
    image_script_path: str | None = choice(None, SCRIPT_PATH)
    image_work_dir: str | None = choice(None, DIRECTORY)
    image_github_installs: tuple[str, ...] = choice((), GITHUB)
    username: str | None = choice(None, USER_NAME)
    repo_name: str | None = choice(None, REPOSITORY)
    image_tags: tuple[str, ...] = choice((), DOCKER_TAGS)
    no_image_cache: bool = choice(False, FLAG)
    requirements: tuple[str, ...] | None = choice(None, REQUIREMENTS)
    apt_packages: tuple[str, ...] = choice((), APT_PACKAGES)
    dockerfile_lines: tuple[str, ...] = choice((), validators.dockerfile_lines)
    job_definition_name: str = choice("", BATCH_NAME)
    job_def_vcpus: int = choice(1, VCPUS)
    memory: int = choice(0, MEMORY)
    n_gpus: int = choice(0, integer(0, example=1))
    retries: int = choice(1, RETRIES)
    memory_growth: float = choice(0.0, validators.factor)
    timeout: int | None = choice(None, TIMEOUT)
    compute_environment_name: str = choice("", BATCH_NAME)
    instance_types: tuple[str, ...] = choice(
        ("optimal",),
        texts(
            r"optimal|default_(x86_64|arm64)|[a-z][a-z0-9-]*(\.[a-z0-9-]+)?",
            "'optimal', an instance type, an instance family or 'fargate'",
            example="c6i.large",
        ),
    )
    min_vcpus: int = choice(0, integer(0, example=0))
    max_vcpus: int = choice(256, integer(1, example=256))
    desired_vcpus: int = choice(-1, integer(0, example=8))
    desired_given: bool = dataclasses.field(default=True, init=False)
    volume_size: int | None = choice(
        None, integer(30, 16384, unit=" (GiB)", cause="The machine image itself takes 30 GiB.", example=100)
    )
    image_id: str | None = choice(
        None, text(r"ami-[0-9a-f]{8,17}", "the id of a machine image (AMI)", example="ami-0123456789abcdef0")
    )
    ec2_key_pair: str | None = choice(None, text(r"[ -~]{1,255}", "the name of an EC2 key pair", example="lab"))
    bid_percentage: int | None = choice(None, integer(0, 100, unit=" (percent of the on-demand price)", example=60))
    job_queue_name: str = choice("", BATCH_NAME)
    priority: int = choice(1, integer(0, example=1))
    aws_resource_tags: Mapping[str, str] = dataclasses.field(default_factory=dict, metadata={"rule": validators.tags})

    def _complete(self) -> None:
        name = self.name or default_name()
        self._set(
            name=name,
            job_definition_name=self.job_definition_name or f"{name}-cloudknot-job-definition",
            job_queue_name=self.job_queue_name or f"{name}-cloudknot-job-queue",
            compute_environment_name=self.compute_environment_name or f"{name}-cloudknot-compute-environment",
            aws_resource_tags=complete_tags(self.aws_resource_tags, name),
        )
        self._check_image()
        self._complete_compute()

    def _check_image(self) -> None:
        if self.func is not None and self.image_script_path is not None:
            refuse(
                problem=f"{argument('image_script_path', self.image_script_path)} and func are both given.",
                cause="A knot runs one of them.",
                fix="Remove image_script_path or func.",
            )
        if self.docker_image is not None:
            for name in IMAGE_CHOICES:
                if getattr(self, name):
                    refuse(
                        problem=f"{argument(name, getattr(self, name))} cannot be combined with docker_image=.",
                        cause="A DockerImage already has these choices.",
                        fix=f"Pass {IMAGE_NAMES.get(name, name)}= to DockerImage, or remove docker_image=.",
                    )

    @property
    def platform(self) -> str:
        """What images are built for, as Docker names it; it follows from the instance types."""
        return compute.platform_of(self.instance_types)

    @property
    def fargate(self) -> str:
        """``"FARGATE"`` or ``"FARGATE_SPOT"``; empty for EC2 instances."""
        return compute.fargate_of(self.instance_types)

    def _complete_compute(self) -> None:
        if self.fargate:
            self._complete_fargate()
        self._set(memory=self.memory or compute.MEMORY)
        if self.desired_vcpus < 0:
            desired = max(self.min_vcpus, min(DESIRED_VCPUS, self.max_vcpus))
            self._set(desired_vcpus=desired, desired_given=False)
        self._set(instance_types=compute.types_for_gpus(self.n_gpus, self.instance_types))
        _ = self.platform
        compute.refuse_unrunnable(self.n_gpus, self.instance_types, self.image_id)
        if not self.min_vcpus <= self.desired_vcpus <= self.max_vcpus:
            names = ("min_vcpus", "desired_vcpus", "max_vcpus")
            numbers = [getattr(self, name) for name in names]
            refuse(
                problem=f"{_assignments(names, numbers)} do not satisfy min_vcpus <= desired_vcpus <= max_vcpus.",
                fix=f"Pass for example {_assignments(names, sorted(numbers))}.",
            )
        compute.refuse_above(self.max_vcpus, job_def_vcpus=self.job_def_vcpus)
        self._check_machines()

    def _complete_fargate(self) -> None:
        """Fargate has its own sizes, and no machines to choose."""
        compute.refuse_on_fargate(
            n_gpus=self.n_gpus or None,
            memory_growth=self.memory_growth or None,
            min_vcpus=self.min_vcpus or None,
            desired_vcpus=None if self.desired_vcpus < 0 else self.desired_vcpus,
            **{name: getattr(self, name) for name in ("bid_percentage", "volume_size", "image_id", "ec2_key_pair")},
        )
        self._set(memory=self.memory or compute.fargate_memory(self.job_def_vcpus))
        compute.check_fargate_memory(self.job_def_vcpus, self.memory)

    def _check_machines(self) -> None:
        if self.volume_size is not None and self.image_id is not None:
            refuse(
                problem=f"volume_size={self.volume_size} cannot be combined with image_id={self.image_id!r}.",
                cause="A machine image brings its own volume.",
                fix="Remove volume_size or image_id.",
            )
        compute.warn_of_machines(self.min_vcpus, self.bid_percentage)


@dataclass(frozen=True)
class ImageOptions(Options):
    """The choices of `cloudknot.DockerImage`."""

    name: str = choice("", KNOT_NAME)
    func: Callable[..., object] | None = choice(None, validators.function)  # noqa: RUF009 - a field specifier
    script_path: str | None = choice(None, SCRIPT_PATH)
    dir_name: str | None = choice(None, DIRECTORY)
    base_image: str | None = choice(None, BASE_IMAGE)
    github_installs: tuple[str, ...] = choice((), GITHUB)
    ignore_installed: bool = choice(False, FLAG)
    pin_pip_versions: bool = choice(True, FLAG)
    username: str = choice(USERNAME, USER_NAME)
    overwrite: bool = choice(False, FLAG)
    requirements: tuple[str, ...] | None = choice(None, REQUIREMENTS)
    apt_packages: tuple[str, ...] = choice((), APT_PACKAGES)
    dockerfile_lines: tuple[str, ...] = choice((), validators.dockerfile_lines)

    def _complete(self) -> None:
        self._set(name=self.name or default_name())
        if self.func is not None and self.script_path is not None:
            refuse(
                problem=f"{argument('script_path', self.script_path)} and func are both given.",
                cause="An image has one of them.",
                fix="Remove script_path or func.",
            )
        if self.func is None and self.script_path is None and self.dir_name is None:
            refuse(
                problem="DockerImage has no program: func, script_path and dir_name are missing.",
                fix="Pass for example func=simulate or script_path='simulate.py'.",
            )


@dataclass(frozen=True)
class ParsOptions(Options):
    """The choices of `cloudknot.Pars`."""

    name: str = choice("default", KNOT_NAME)
    batch_service_role_name: str | None = choice(None, ROLE_NAME)
    ecs_instance_role_name: str | None = choice(None, ROLE_NAME)
    spot_fleet_role_name: str | None = choice(None, ROLE_NAME)
    policies: tuple[str, ...] = choice((), POLICIES)
    use_default_vpc: bool = choice(True, FLAG)
    ipv4_cidr: str | None = choice(None, validators.network)
    instance_tenancy: str | None = choice(None, one_of("default", "dedicated"))
    aws_resource_tags: Mapping[str, str] = dataclasses.field(default_factory=dict, metadata={"rule": validators.tags})

    def _complete(self) -> None:
        self._set(aws_resource_tags=complete_tags(self.aws_resource_tags, self.name))
        for name in ("ipv4_cidr", "instance_tenancy"):
            if self.use_default_vpc and getattr(self, name) is not None:
                refuse(
                    problem=f"{argument(name, getattr(self, name))} cannot be combined with use_default_vpc=True.",
                    cause="It describes a new network, and the default one exists already.",
                    fix="Pass use_default_vpc=False, too.",
                )


@dataclass(frozen=True)
class Overrides(Options):
    """What one map's jobs have in place of the knot's: MiB of ``memory``, ``vcpus``, seconds of ``timeout``, attempts.

    None is the knot's own. They go into SubmitJob, so no job definition is made for them.
    """

    memory: int | None = choice(None, MEMORY)
    vcpus: int | None = choice(None, VCPUS)
    timeout: int | None = choice(None, TIMEOUT)
    retries: int | None = choice(None, RETRIES)


@dataclass(frozen=True)
class MapOptions(Options):
    """The choices of `cloudknot.Knot.map`."""

    env_vars: tuple[tuple[str, str], ...] = choice((), validators.environment)
    max_threads: int = choice(64, integer(1, example=64))
    starmap: bool = choice(False, FLAG)
    job_type: str = choice("array", one_of("array", "independent"))
    chunksize: int | str | None = choice(None, validators.chunksize)
    progress: bool | None = choice(None, FLAG)
    kwargs: Mapping[str, object] = dataclasses.field(default_factory=dict, metadata={"rule": validators.keywords})
    overrides: Overrides = Overrides()

    @classmethod
    def of_map(
        cls,
        *,
        memory: int | None = None,
        vcpus: int | None = None,
        timeout: int | None = None,
        retries: int | None = None,
        **choices: object,
    ) -> Self:
        """Return the options of a map from its arguments, those that override the knot's among them."""
        overrides = Overrides.make(memory=memory, vcpus=vcpus, timeout=timeout, retries=retries)
        return cls.make(**choices, overrides=overrides)

    @property
    def container_environment(self) -> list[KeyValuePairTypeDef]:
        """``env_vars`` as SubmitJob's containerOverrides take them."""
        return [{"name": name, "value": value} for name, value in self.env_vars]


def _assignments(names: Iterable[str], values: Iterable[object]) -> str:
    return ", ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))


def default_name() -> str:
    """``<user>-default``, as a knot's name may be."""
    return f"{re.sub('[^a-zA-Z0-9]+', '-', _user()).lstrip('-0123456789')[:36] or 'knot'}-default"


def complete_tags(given: Mapping[str, str], name: str) -> dict[str, str]:
    """The tags given, and the default ones: Owner, Environment, Name."""
    owner = re.sub(r"[^\w.:/=+@-]+", "-", _user())
    return {"Owner": owner, "Environment": "cloudknot", "Name": name, **given}


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "unknown"


@dataclass(frozen=True)
class RetryOptions(Overrides):
    """The choices of `cloudknot.MapFuture.retry_failed`."""

    chunksize: int | None = choice(None, integer(1, example=100))
    progress: bool | None = choice(None, FLAG)
