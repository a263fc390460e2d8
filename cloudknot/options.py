"""Every choice a user can make: its default, what is accepted, and the error when something else is given.

A field of `KnotOptions` or `ParsOptions` has the name of the parameter it stands for. ``Options.make(**choices)`` is
the way in: None means the default. Making one is pure, so bad input is refused before anything is made.
"""

from __future__ import annotations

import dataclasses
import operator
import re
import reprlib
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, Self, TypeVar

from cloudknot.errors import CloudknotInputError

T = TypeVar("T")
Rule = Callable[[str, Any], Any]
"""Takes a parameter's name and its value, and returns the value as it is kept, or raises CloudknotInputError."""

GPU_FAMILIES = ("g4dn", "g5")
"""Instance families used for ``n_gpus`` above 0 when none were named; both are offered in nearly every region."""
MAX_TAGS = 50
"""Tags on one resource (AWS General Reference, "Tag naming limits and requirements")."""
MAX_ENVIRONMENT = 7000
"""Characters. Batch fails a job whose overrides are over 8,192; the rest is the command and its framing."""
RESERVED_VARIABLES = ("AWS_BATCH", "CLOUDKNOT_")


def refuse(name: str, value: object, accepted: str) -> NoReturn:
    """Raise the error for a value that is not accepted."""
    raise CloudknotInputError(f"{name}={reprlib.repr(value)} is not accepted. Give {accepted}.")


def integer(least: int, most: int | None = None, unit: str = "") -> Rule:
    """A whole number, also one of NumPy's; a bool is none."""
    accepted = f"a whole number from {least} to {most}" if most is not None else f"a whole number, {least} or more"

    def rule(name: str, value: Any) -> int:
        try:
            number = operator.index(value)
        except TypeError:
            refuse(name, value, accepted + unit)
        if isinstance(value, bool) or number < least or (most is not None and number > most):
            refuse(name, value, accepted + unit)
        return number

    return rule


def text(pattern: str, accepted: str) -> Rule:
    """A string that the pattern matches as a whole."""

    def rule(name: str, value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            refuse(name, value, accepted)
        return value

    return rule


def texts(pattern: str, accepted: str) -> Rule:
    """One string or several, kept as a tuple."""
    one = text(pattern, accepted)

    def rule(name: str, value: Any) -> tuple[str, ...]:
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, Iterable) or isinstance(items, Mapping | bytes):
            refuse(name, value, f"{accepted}, or several")
        return tuple(dict.fromkeys(one(name, item) for item in items))

    return rule


def one_of(*accepted: object) -> Rule:
    """One of a few values."""

    def rule(name: str, value: Any) -> Any:
        if not any(value is item or (isinstance(value, str) and value == item) for item in accepted):
            refuse(name, value, " or ".join(map(repr, accepted)))
        return value

    return rule


def function(name: str, value: Any) -> Callable[..., Any]:
    """Anything that can be called."""
    if not callable(value):
        refuse(name, value, "a function, a method or another callable")
    called: Callable[..., Any] = value
    return called


def network(name: str, value: Any) -> str:
    """An IPv4 network in which two subnets fit."""
    import ipaddress

    # VPC user guide, "VPC CIDR blocks": a VPC is /16 to /28, and so is a subnet.
    try:
        found = ipaddress.IPv4Network(value)
    except (TypeError, ValueError):
        found = None
    if found is None or not isinstance(value, str) or not 16 <= found.prefixlen <= 27:
        refuse(name, value, "an IPv4 network such as '10.0.0.0/16', with a prefix from /16 to /27")
    return str(found)


def tags(name: str, value: Any) -> dict[str, str]:
    """AWS tags, as a dict or a list of ``{"Key": ..., "Value": ...}``."""
    accepted = (
        'a dict of strings, or a list of {"Key": ..., "Value": ...}; keys of 1 to 128 characters that do not begin '
        "with 'aws:', values of up to 256; letters, digits, spaces and _ . : / = + - @"
    )
    try:
        items = value.items() if isinstance(value, Mapping) else [(item["Key"], item["Value"]) for item in value]
    except (TypeError, KeyError):
        refuse(name, value, accepted)
    found = dict(items)
    for key, content in found.items():
        rules = ((key, r"(?!aws:)[\w\s.:/=+@-]{1,128}"), (content, r"[\w\s.:/=+@-]{0,256}"))
        if not all(isinstance(part, str) and re.fullmatch(pattern, part) for part, pattern in rules):
            refuse(name, {key: content}, accepted)
    if len(found) > MAX_TAGS:
        refuse(name, value, f"no more than {MAX_TAGS} tags")
    return found


def environment(name: str, value: Any) -> tuple[tuple[str, str], ...]:
    """Environment variables, as a dict or a list of ``{"name": ..., "value": ...}``."""
    accepted = 'a dict of strings, or a list of {"name": ..., "value": ...}'
    try:
        items = value.items() if isinstance(value, Mapping) else [(item["name"], item["value"]) for item in value]
    except (TypeError, KeyError):
        refuse(name, value, accepted)
    found = dict(items)
    for variable, content in found.items():
        if not isinstance(variable, str) or not isinstance(content, str) or not re.fullmatch(r"[^=\0\s]+", variable):
            refuse(name, {variable: content}, accepted)
        if variable.startswith(RESERVED_VARIABLES):
            refuse(name, {variable: content}, "other names: those beginning with AWS_BATCH or CLOUDKNOT_ are taken")
    if sum(len(variable) + len(content) + 24 for variable, content in found.items()) > MAX_ENVIRONMENT:
        refuse(name, value, f"no more than {MAX_ENVIRONMENT} characters in all; larger data go in the elements")
    return tuple(found.items())


def choice(default: T, rule: Rule | None = None) -> T:
    """A field with a default and the rule that its other values obey."""
    return dataclasses.field(default=default, metadata={"rule": rule})


FLAG = one_of(True, False)
KNOT_NAME = text(
    r"[a-zA-Z][-a-zA-Z0-9]{0,44}", "up to 45 letters, digits and hyphens, beginning with a letter, such as 'pi-calc'"
)
BATCH_NAME = text(
    r"[a-zA-Z0-9][\w-]{0,127}", "up to 128 letters, digits, hyphens and underscores, beginning with a letter or digit"
)
ROLE_NAME = text(r"[\w+=,.@-]{1,64}", "the name of an IAM role: up to 64 letters, digits and _ + = , . @ -")
POLICIES = texts(
    r"arn:[\w-]+:iam::(aws|\d{12}):policy/[\w+=,.@/-]+|[\w+=,.@/-]{1,128}",
    "the name or ARN of an IAM policy, such as 'AmazonS3FullAccess'",
)
# ECR API reference, CreateRepository, repositoryName.
REPOSITORY = text(
    r"(?=.{2,256}$)([a-z0-9]+([._-][a-z0-9]+)*/)*[a-z0-9]+([._-][a-z0-9]+)*",
    "the name of an ECR repository: 2 to 256 lower-case letters and digits, with single . _ - / between them",
)
PATH = text(r"[^\0]+", "a path")


class Options:
    """Base of the option classes: checks every field by its rule when made."""

    @classmethod
    def make(cls, **choices: Any) -> Self:
        """Options from the choices given; None is the default.

        Raises
        ------
        CloudknotInputError
            A value is not accepted. The message names the parameter, the value, and what is accepted.
        """
        return cls(**{name: value for name, value in choices.items() if value is not None})

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value, rule = getattr(self, field.name), field.metadata.get("rule")
            if rule is not None and value is not field.default:
                self._set(**{field.name: rule(field.name, value)})
        self._complete()

    def _complete(self) -> None:
        """Fill in the defaults that follow from other fields, and check what concerns several."""

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class KnotOptions(Options):
    """The choices of `cloudknot.Knot`; ``memory`` in MiB, ``timeout`` in seconds an attempt, ``volume_size`` in GiB.

    The default memory fits a machine of 8 GiB, of which ECS leaves about 7,985 MiB to jobs. ``retries`` is the
    number of attempts (Batch takes 1 to 10) and a timeout is at least 60 s (Batch API reference, JobTimeout).
    """

    name: str = choice("", KNOT_NAME)
    pars_policies: tuple[str, ...] = choice((), POLICIES)
    docker_image: Any = choice(None)
    base_image: str = choice("", text(r"[^\s]+", "the name of a Docker image, such as 'python:3.11-slim'"))
    func: Callable[..., Any] | None = choice(None, function)
    image_script_path: str | None = choice(None, PATH)
    image_work_dir: str | None = choice(None, PATH)
    image_github_installs: tuple[str, ...] = choice(
        (),
        texts(
            r"(git\+)?(https|ssh)://[^\s]+|git@[^\s]+", "the URL of a git repository, such as 'https://github.com/a/b'"
        ),
    )
    username: str | None = choice(None, text(r"[a-z_][a-z0-9_-]{0,31}", "a Linux user name, such as 'worker'"))
    repo_name: str | None = choice(None, REPOSITORY)
    image_tags: tuple[str, ...] = choice((), texts(r"\w[\w.-]{0,127}", "a Docker tag of up to 128 characters"))
    no_image_cache: bool = choice(False, FLAG)
    requirements: tuple[str, ...] | None = choice(
        None, texts(r"[^\r\n]*\S[^\r\n]*", "a requirement as pip takes it, such as 'numpy==2.1.0'")
    )
    job_definition_name: str = choice("", BATCH_NAME)
    job_def_vcpus: int = choice(1, integer(1))
    memory: int = choice(7500, integer(4, unit=" (MiB)"))
    n_gpus: int = choice(0, integer(0))
    retries: int = choice(1, integer(1, 10))
    timeout: int | None = choice(None, integer(60, unit=" (seconds)"))
    compute_environment_name: str = choice("", BATCH_NAME)
    instance_types: tuple[str, ...] = choice(
        ("optimal",),
        texts(
            r"optimal|default_(x86_64|arm64)|[a-z][a-z0-9-]*(\.[a-z0-9-]+)?",
            "'optimal', a type as 'c6i.large' or a family as 'c6i'",
        ),
    )
    min_vcpus: int = choice(0, integer(0))
    max_vcpus: int = choice(256, integer(1))
    desired_vcpus: int = choice(8, integer(0))
    volume_size: int | None = choice(None, integer(30, 16384, " (GiB); the machine image itself takes 30"))
    image_id: str | None = choice(
        None, text(r"ami-[0-9a-f]{8,17}", "the id of a machine image, such as 'ami-0123456789abcdef0'")
    )
    ec2_key_pair: str | None = choice(None, text(r"[ -~]{1,255}", "the name of an EC2 key pair"))
    bid_percentage: int | None = choice(None, integer(0, 100, " (percent of the on-demand price)"))
    job_queue_name: str = choice("", BATCH_NAME)
    priority: int = choice(1, integer(0))
    aws_resource_tags: Mapping[str, str] = choice({}, tags)

    def _complete(self) -> None:
        name = self.name or default_name()
        self._set(
            name=name,
            base_image=self.base_image or f"python:{sys.version_info.major}.{sys.version_info.minor}-slim",
            job_definition_name=self.job_definition_name or f"{name}-cloudknot-job-definition",
            job_queue_name=self.job_queue_name or f"{name}-cloudknot-job-queue",
            compute_environment_name=self.compute_environment_name or f"{name}-cloudknot-compute-environment",
            aws_resource_tags=complete_tags(self.aws_resource_tags, name),
        )
        if self.func is not None and self.image_script_path is not None:
            refuse("image_script_path", self.image_script_path, "either func or image_script_path, not both")
        self._complete_compute()

    def _complete_compute(self) -> None:
        if self.desired_vcpus == 8:
            self._set(desired_vcpus=max(self.min_vcpus, min(8, self.max_vcpus)))
        if self.n_gpus and self.instance_types == ("optimal",):
            self._set(instance_types=GPU_FAMILIES)
        if not self.min_vcpus <= self.desired_vcpus <= self.max_vcpus:
            refuse(
                "min_vcpus, desired_vcpus, max_vcpus",
                (self.min_vcpus, self.desired_vcpus, self.max_vcpus),
                "numbers with min_vcpus <= desired_vcpus <= max_vcpus",
            )
        if self.job_def_vcpus > self.max_vcpus:
            refuse("job_def_vcpus", self.job_def_vcpus, f"max_vcpus ({self.max_vcpus}) or less, or no job could start")
        if self.volume_size is not None and self.image_id is not None:
            refuse("volume_size", self.volume_size, "either volume_size or image_id: an image brings its own volume")
        if self.min_vcpus:
            warnings.warn(
                f"min_vcpus={self.min_vcpus} keeps that many vCPUs running, and costing money, while the knot is "
                "idle. min_vcpus=0 costs nothing when no job runs.",
                UserWarning,
                stacklevel=7,
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
    ipv4_cidr: str | None = choice(None, network)
    instance_tenancy: str | None = choice(None, one_of("default", "dedicated"))
    aws_resource_tags: Mapping[str, str] = choice({}, tags)

    def _complete(self) -> None:
        self._set(aws_resource_tags=complete_tags(self.aws_resource_tags, self.name))
        for name in ("ipv4_cidr", "instance_tenancy"):
            if self.use_default_vpc and getattr(self, name) is not None:
                refuse(name, getattr(self, name), "use_default_vpc=False with it: it is for a VPC of its own")


@dataclass(frozen=True)
class MapOptions(Options):
    """The choices of `cloudknot.Knot.map`."""

    env_vars: tuple[tuple[str, str], ...] = choice((), environment)
    max_threads: int = choice(64, integer(1))
    starmap: bool = choice(False, FLAG)
    job_type: str = choice("array", one_of("array", "independent"))
    chunksize: int | None = choice(None, integer(1))
    progress: bool | None = choice(None, FLAG)

    @property
    def container_environment(self) -> list[dict[str, str]]:
        """``env_vars`` as SubmitJob's containerOverrides take them."""
        return [{"name": name, "value": value} for name, value in self.env_vars]


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
