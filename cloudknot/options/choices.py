"""The parameters of the public classes and methods as frozen dataclasses, with their defaults and checks.

A field has the name of its parameter. ``KnotOptions.make(name=..., ...)`` creates the options; None means the default.
This module makes no remote calls, so invalid input raises before anything is created.
"""

from __future__ import annotations

import dataclasses
import enum
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from cloudknot.errors import refuse
from cloudknot.options import compute, memory, streams, validators
from cloudknot.options.validators import (
    APT_PACKAGES,
    BASE_IMAGE,
    BATCH_NAME,
    BOUNDARY,
    DOCKER_TAGS,
    FLAG,
    GITHUB,
    KNOT_NAME,
    POLICIES,
    REPOSITORY,
    ROLE_NAME,
    USER_NAME,
    Rule,
    argument,
    aws_name,
    integer,
    one_of,
    text,
    texts,
)

if TYPE_CHECKING:
    from types_boto3_batch.type_defs import KeyValuePairTypeDef

T = TypeVar("T")

# Batch would start machines for this number before the first job, and bill them. It exists for scripts that read it.
DESIRED_VCPUS = 8
"""The default of ``desired_vcpus``. Only a number that the user passes goes to AWS."""
USERNAME = "cloudknot-user"
"""The default Linux user that jobs run as."""
IMAGE_CHOICES = (
    *("func", "image_script_path", "base_image", "image_work_dir", "image_github_installs", "username"),
    *("requirements", "environment", "apt_packages", "dockerfile_lines"),
)
"""Parameters of `cloudknot.Knot` that determine the content of the image."""
IMAGE_NAMES = {
    "image_script_path": "script_path",
    "image_work_dir": "dir_name",
    "image_github_installs": "github_installs",
}
"""Parameters of `cloudknot.DockerImage` that have another name in `cloudknot.Knot`."""


VCPUS = integer(1, example=4)
MEMORY = memory.memory
# Batch makes ten attempts at a job, at most.
RETRIES = integer(1, 10, example=3)
# Batch API reference, JobTimeout, attemptDurationSeconds.
TIMEOUT = integer(60, unit="seconds", cause="Batch has no shorter timeout.", example=600)
# A function that hangs on all of the default 256 vCPUs costs about $295 a day. A week is longer than nearly all jobs.
DEFAULT_TIMEOUT = 7 * 24 * 3600
"""The default of ``timeout``, in seconds for each attempt."""


class NoTimeout(enum.Enum):
    """The value of ``timeout`` in `KnotOptions.make` for a knot without a limit. There, None means the default."""

    NO_TIMEOUT = enum.auto()


NO_TIMEOUT = NoTimeout.NO_TIMEOUT
REQUIREMENTS: Rule[tuple[str, ...] | str | os.PathLike[str]] = validators.requirements
ENVIRONMENT = one_of("imports", "all")
SCRIPT_PATH = validators.path("simulate.py")
TEMPLATE = validators.path("mine.yaml")
COMPUTE_CHOICES = (
    *("instance_types", "min_vcpus", "max_vcpus", "desired_vcpus", "bid_percentage", "volume_size", "image_id"),
    *("ec2_key_pair", "job_queue_name", "compute_environment_name", "priority"),
)
"""Parameters of `cloudknot.Knot` about its queue and machines. They belong to the other knot of ``compute``."""
DIRECTORY = validators.path("my-program")


def _knot_timeout(name: str, value: object) -> int | None:
    return None if value is NO_TIMEOUT else TIMEOUT(name, value)


def choice(default: T, rule: Rule[T] | None = None) -> T:
    """Return a dataclass field with a default and the rule for all other values."""
    return dataclasses.field(default=default, metadata={"rule": rule})


def vcpus_of(job_def_vcpus: object, vcpus: object) -> object:
    """Return the vCPUs of a knot's child jobs from the two names that they have; None if both are None.

    Raises
    ------
    CloudknotInputError
        A number is invalid, or the two differ.
    """
    if vcpus is None:
        return job_def_vcpus
    number = VCPUS("vcpus", vcpus)
    if job_def_vcpus is not None and VCPUS("job_def_vcpus", job_def_vcpus) != number:
        refuse(
            problem=f"vcpus={number} and job_def_vcpus={job_def_vcpus} differ.",
            cause="Both are the number of vCPUs of each child job.",
            fix=f"Pass vcpus={number} alone.",
        )
    return number


class Options:
    """Base class of all options."""

    @classmethod
    def make(cls, **choices: object) -> Self:
        """Return the options for these parameters, with the default for each None.

        Raises
        ------
        CloudknotInputError
            A value is invalid. The message names the parameter and the value, and how to correct it.
        """
        return cls(**cls._checked(choices))

    @classmethod
    def _checked(cls, choices: Mapping[str, object]) -> dict[str, Any]:
        """Return the passed choices, each checked by its rule."""
        rules = {field.name: field.metadata.get("rule") for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        values = {name: value for name, value in choices.items() if value is not None}
        # A default bypasses its rule: memory=0, for example, stands for "not passed" and is no value for users.
        return {name: rule(name, value) if (rule := rules.get(name)) else value for name, value in values.items()}

    def __post_init__(self) -> None:
        self._complete()

    def _complete(self) -> None:
        """Set the defaults that depend on other fields, and check the fields that depend on each other."""

    def _set(self, **values: object) -> None:
        # The dataclasses are frozen for everybody else.
        for name, value in values.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class NamedOptions(Options):
    """The parameters of a class with a stack of its own, which may have underscores in its name."""

    spelling: str = dataclasses.field(default="", init=False)
    """The name as the user wrote it. ``name`` has hyphens in place of underscores."""

    def _spell(self, spelling: str) -> str:
        """Set the name in both forms, and return the form for AWS. Log a line if they differ."""
        name = aws_name(spelling)
        self._set(name=name, spelling=spelling)
        if name != spelling:
            streams.logger.warning(
                "The name %r becomes %r in AWS, because CloudFormation allows no underscores in names.", spelling, name
            )
        return name


@dataclass(frozen=True)
class KnotOptions(NamedOptions):
    """The parameters of `cloudknot.Knot`.

    ``memory`` is in MiB, ``timeout`` in seconds for each attempt, and ``volume_size`` in GiB. ``retries`` is the
    number of attempts.
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
    requirements: tuple[str, ...] | str | os.PathLike[str] | None = choice(None, REQUIREMENTS)  # noqa: RUF009
    environment: str | None = choice(None, ENVIRONMENT)
    apt_packages: tuple[str, ...] = choice((), APT_PACKAGES)
    dockerfile_lines: tuple[str, ...] = choice((), validators.dockerfile_lines)
    job_definition_name: str = choice("", BATCH_NAME)
    job_def_vcpus: int = choice(1, VCPUS)
    memory: int = choice(0, MEMORY)
    # False if memory is the default. An existing knot may keep another default.
    memory_given: bool = dataclasses.field(default=True, init=False)
    n_gpus: int = choice(0, integer(0, example=1))
    retries: int = choice(1, RETRIES)
    memory_growth: float = choice(0.0, validators.factor)
    timeout: int | None = choice(cast("int | None", DEFAULT_TIMEOUT), _knot_timeout)
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
    # False if desired_vcpus is the default. AWS starts machines for a number in the stack, so the default stays out.
    desired_given: bool = dataclasses.field(default=True, init=False)
    volume_size: int | None = choice(
        None,
        # Amazon EBS user guide, "General Purpose SSD volumes": the size of gp3.
        integer(
            30,
            65536,
            unit="GiB",
            cause="The machine image itself takes 30 GiB, and a gp3 volume has at most 65536.",
            example=100,
        ),
    )
    image_id: str | None = choice(
        None, text(r"ami-[0-9a-f]{8,17}", "the id of a machine image (AMI)", example="ami-0123456789abcdef0")
    )
    ec2_key_pair: str | None = choice(None, text(r"[ -~]{1,255}", "the name of an EC2 key pair", example="lab"))
    bid_percentage: int | None = choice(
        None, integer(0, 100, unit="percent", cause="It is the share of the on-demand price.", example=60)
    )
    job_queue_name: str = choice("", BATCH_NAME)
    priority: int = choice(1, integer(0, example=1))
    template: str | None = choice(None, TEMPLATE)
    # Only the stack of the other knot shows its machines. So the choices about them are complete after it was read.
    compute: str = choice("", KNOT_NAME)
    passed: Mapping[str, object] = dataclasses.field(default_factory=dict, compare=False)
    """The parameters that the user passed, checked."""
    on_machines: bool = False
    """Whether queue and machines are those of the knot ``compute``, as its stack has them."""
    aws_resource_tags: Mapping[str, str] = dataclasses.field(default_factory=dict, metadata={"rule": validators.tags})

    @classmethod
    def make(cls, **choices: object) -> Self:
        """Return the options for these parameters, with the default for each None; see `Options.make`."""
        values = cls._checked(choices)
        if other := values.get("compute"):
            _refuse_machines_beside(other, values)
        return cls(**values, passed=values)

    @property
    def passed_machines(self) -> dict[str, object]:
        """The passed parameters about queue and machines."""
        return {name: self.passed[name] for name in COMPUTE_CHOICES if name in self.passed}

    def on_compute(self, knot: str, **machines: object) -> Self:
        """Return these options with the queue and the machines of another knot."""
        values: dict[str, Any] = {**self.passed, **machines, "compute": knot}
        return type(self)(**values, on_machines=True, passed=self.passed)

    def _complete(self) -> None:
        name = self._spell(self.name or default_name())
        self._set(
            job_definition_name=self.job_definition_name or f"{name}-cloudknot-job-definition",
            job_queue_name=self.job_queue_name or f"{name}-cloudknot-job-queue",
            compute_environment_name=self.compute_environment_name or f"{name}-cloudknot-compute-environment",
            aws_resource_tags=complete_tags(self.aws_resource_tags, name),
        )
        self._check_image()
        if self.on_machines or not self.compute:
            self._complete_compute()

    def _check_image(self) -> None:
        programs = (self.func, self.image_script_path, self.docker_image, self.image_work_dir)
        for name in ("template", "compute"):
            if getattr(self, name) and all(program is None for program in programs):
                refuse(
                    problem=f"{argument(name, getattr(self, name))} cannot be used without a function.",
                    cause="Without one, cloudknot only finds the existing knot, and changes nothing.",
                    fix=f"Pass func= as well: Knot({self.name!r}, func=..., {name}={getattr(self, name)!r}).",
                )
        if self.func is not None and self.image_script_path is not None:
            refuse(
                problem=f"{argument('image_script_path', self.image_script_path)} and func are both given.",
                cause="A knot runs one of them.",
                fix="Remove image_script_path or func.",
            )
        _check_environment(self.environment, self.requirements)
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
        """The platform of the image in Docker's terms, such as ``"linux/amd64"``. The instance types determine it."""
        return compute.platform_of(self.instance_types)

    @property
    def fargate(self) -> str:
        """``"FARGATE"`` or ``"FARGATE_SPOT"``, or an empty string for EC2 instances."""
        return compute.fargate_of(self.instance_types)

    def _complete_compute(self) -> None:
        self._set(memory_given=bool(self.memory))
        if self.fargate:
            self._complete_fargate()
        self._set(memory=self.memory or compute.default_memory(self.job_def_vcpus, self.n_gpus))
        if self.desired_vcpus < 0:
            desired = max(self.min_vcpus, min(DESIRED_VCPUS, self.max_vcpus))
            self._set(desired_vcpus=desired, desired_given=False)
        self._set(instance_types=compute.types_for_gpus(self.n_gpus, self.instance_types))
        # Reading the platform raises for instance types of both architectures.
        _ = self.platform
        compute.refuse_unrunnable(self.n_gpus, self.instance_types, self.image_id)
        self._check_order()
        compute.refuse_above(self.max_vcpus, job_def_vcpus=self.job_def_vcpus)
        self._check_machines()

    def _check_order(self) -> None:
        """Raise unless min_vcpus <= desired_vcpus <= max_vcpus. The message has only the numbers that contradict."""
        passed = ("min_vcpus", "desired_vcpus", "max_vcpus") if self.desired_given else ("min_vcpus", "max_vcpus")
        wrong = [pair for pair in combinations(passed, 2) if getattr(self, pair[0]) > getattr(self, pair[1])]
        if not wrong:
            return
        names = [name for name in passed if any(name in pair for pair in wrong)]
        numbers = [getattr(self, name) for name in names]
        refuse(
            problem=f"{_assignments(names, numbers)} do not satisfy {' <= '.join(names)}.",
            fix=f"Pass for example {_assignments(names, sorted(numbers))}.",
        )

    def _complete_fargate(self) -> None:
        """Check the sizes that Fargate has, and raise for parameters about EC2 instances."""
        compute.refuse_on_fargate(
            n_gpus=self.n_gpus or None,
            memory_growth=self.memory_growth or None,
            min_vcpus=self.min_vcpus or None,
            desired_vcpus=None if self.desired_vcpus < 0 else self.desired_vcpus,
            **{name: getattr(self, name) for name in ("bid_percentage", "volume_size", "image_id", "ec2_key_pair")},
        )
        self._set(memory=self.memory or compute.fargate_memory(self.job_def_vcpus))
        compute.check_fargate_memory(self.job_def_vcpus, self.memory)
        compute.check_fargate_timeout(self.timeout)

    def _check_machines(self) -> None:
        if self.volume_size is not None and self.image_id is not None:
            refuse(
                problem=f"volume_size={self.volume_size} cannot be combined with image_id={self.image_id!r}.",
                cause="A machine image brings its own volume.",
                fix="Remove volume_size or image_id.",
            )
        compute.warn_about_costs(self.min_vcpus, self.bid_percentage)


@dataclass(frozen=True)
class ImageOptions(Options):
    """The parameters of `cloudknot.DockerImage`."""

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
    requirements: tuple[str, ...] | str | os.PathLike[str] | None = choice(None, REQUIREMENTS)  # noqa: RUF009
    environment: str | None = choice(None, ENVIRONMENT)
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
        _check_environment(self.environment, self.requirements)
        if self.func is None and self.script_path is None and self.dir_name is None:
            refuse(
                problem="DockerImage has no program: func, script_path and dir_name are missing.",
                fix="Pass for example func=simulate or script_path='simulate.py'.",
            )


@dataclass(frozen=True)
class ParsOptions(NamedOptions):
    """The parameters of `cloudknot.Pars`."""

    name: str = choice("default", KNOT_NAME)
    batch_service_role_name: str | None = choice(None, ROLE_NAME)
    ecs_instance_role_name: str | None = choice(None, ROLE_NAME)
    spot_fleet_role_name: str | None = choice(None, ROLE_NAME)
    policies: tuple[str, ...] = choice((), POLICIES)
    permissions_boundary: str | None = choice(None, BOUNDARY)
    use_default_vpc: bool = choice(True, FLAG)
    ipv4_cidr: str | None = choice(None, validators.network)
    instance_tenancy: str | None = choice(None, one_of("default", "dedicated"))
    template: str | None = choice(None, TEMPLATE)
    aws_resource_tags: Mapping[str, str] = dataclasses.field(default_factory=dict, metadata={"rule": validators.tags})

    def _complete(self) -> None:
        self._spell(self.name)
        self._set(aws_resource_tags=complete_tags(self.aws_resource_tags, self.name))
        for name in ("ipv4_cidr", "instance_tenancy"):
            if self.use_default_vpc and getattr(self, name) is not None:
                refuse(
                    problem=f"{argument(name, getattr(self, name))} cannot be combined with use_default_vpc=True.",
                    cause=f"{name} is for a new network, and use_default_vpc=True uses the existing default network.",
                    fix=f"Pass use_default_vpc=False as well, or remove {name}.",
                )


@dataclass(frozen=True)
class Overrides(Options):
    """The parameters of one map that replace those of its knot: ``memory`` in MiB, ``timeout`` in seconds.

    None means the value of the knot. SubmitJob takes the others, so a map needs no job definition of its own.
    """

    memory: int | None = choice(None, MEMORY)
    vcpus: int | None = choice(None, VCPUS)
    timeout: int | None = choice(None, TIMEOUT)
    retries: int | None = choice(None, RETRIES)


@dataclass(frozen=True)
class MapOptions(Options):
    """The parameters of `cloudknot.Knot.map`."""

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
        memory: int | str | None = None,
        vcpus: int | None = None,
        timeout: int | None = None,
        retries: int | None = None,
        **choices: object,
    ) -> Self:
        """Return the options of a map, with those that replace the knot's in ``overrides``."""
        overrides = Overrides.make(memory=memory, vcpus=vcpus, timeout=timeout, retries=retries)
        return cls.make(**choices, overrides=overrides)

    @property
    def container_environment(self) -> list[KeyValuePairTypeDef]:
        """``env_vars`` in the format of SubmitJob's containerOverrides."""
        return [{"name": name, "value": value} for name, value in self.env_vars]


def _check_environment(environment: str | None, requirements: object) -> None:
    if environment == "all" and requirements is not None:
        refuse(
            problem="environment='all' cannot be combined with requirements=.",
            cause="It means all packages that are installed here.",
            fix="Remove one of them, or install the required packages here.",
        )


def _refuse_machines_beside(compute: str, values: Mapping[str, object]) -> None:
    """Raise if parameters about queue and machines are passed beside ``compute``."""
    for name in COMPUTE_CHOICES:
        if name in values:
            # One instance type is a tuple of one.
            given = values[name]
            value = given[0] if isinstance(given, tuple) and len(given) == 1 else given
            refuse(
                problem=f"{argument(name, value)} cannot be combined with compute={compute!r}.",
                cause=f"The queue and the machines belong to the knot {compute!r}.",
                fix=f"Remove {name}=, or set it there: Knot({compute!r}, func=..., {name}=...).",
            )


def _assignments(names: Iterable[str], values: Iterable[object]) -> str:
    return ", ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))


def default_name() -> str:
    """Return ``<user>-default``, with the characters of the user name that a knot's name allows."""
    # Knots with this name exist, so it keeps the 36 characters of the time when names had up to 45.
    return f"{re.sub('[^a-zA-Z0-9]+', '-', _user()).lstrip('-0123456789')[:36] or 'knot'}-default"


def complete_tags(tags: Mapping[str, str], name: str) -> dict[str, str]:
    """Return the user's tags and the default ones: Owner, Environment and Name. The user's win."""
    owner = re.sub(r"[^\w.:/=+@-]+", "-", _user())
    return {"Owner": owner, "Environment": "cloudknot", "Name": name, **tags}


def _user() -> str:
    import getpass

    # getpass finds no name in a container whose user id has no entry in /etc/passwd.
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "unknown"


@dataclass(frozen=True)
class RetryOptions(Overrides):
    """The parameters of `cloudknot.MapFuture.retry_failed`."""

    chunksize: int | None = choice(None, integer(1, example=100))
    progress: bool | None = choice(None, FLAG)
