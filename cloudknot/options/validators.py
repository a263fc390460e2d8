"""Rules for the values that users pass. A rule checks one value and returns it in its stored form.

A rule is called with the parameter's name and its value. It raises `CloudknotInputError` for any other value. The
message names the parameter and the value, states the rule, and ends with a value that would pass.
"""

from __future__ import annotations

import json
import numbers
import operator
import os
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn, SupportsIndex, TypeVar

from cloudknot.errors import refuse

T = TypeVar("T")
Rule = Callable[[str, object], T]

# AWS takes 50 tags on one resource (AWS General Reference, "Tag naming limits and requirements"), and cloudknot adds
# Owner, Environment, Name and cloudknot.
MAX_TAGS = 46
"""Number of tags that a user may pass."""
# Batch fails a job with more than 8,192 characters of container overrides. The command and the manifest need the rest.
MAX_ENVIRONMENT = 6500
"""Characters that all environment variables may have as JSON."""
RESERVED_VARIABLES = ("AWS_BATCH", "CLOUDKNOT_")
"""Prefixes of the environment variables that Batch and the worker set."""
# Each of these would replace the job's own role, and the worker reads inputs and stores results with that role.
# Everybody who may describe jobs could also read the keys.
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE")
"""Environment variables that no job may have."""
# A machine with eight times the memory costs about eight times as much.
MAX_GROWTH = 8
"""Multiple of its first memory that a job may reach by ``memory_growth``."""


def argument(name: str, value: object) -> str:
    """Return ``name=value`` for a message, with a long value shortened."""
    return f"{name}={reprlib.repr(value)}"


def near_matches(name: str, candidates: Iterable[str]) -> list[str]:
    """Return up to three candidates that resemble ``name``, the most similar first."""
    from difflib import get_close_matches

    return get_close_matches(name, list(candidates), n=3)


def alternatives(words: Iterable[str]) -> str:
    """Return the words as an English list: ``"a, b or c"``."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def integer(least: int, most: int | None = None, *, example: int | str, unit: str = "", cause: str = "") -> Rule[int]:
    """Return the rule for a whole number from ``least`` to ``most``. NumPy's integers pass, a bool does not."""
    quantity = f"a whole number of {unit}" if unit else "a whole number"
    span = f"from {least} to {most}" if most is not None else f"from {least} upwards"

    def fail(name: str, value: object) -> NoReturn:
        refuse(
            problem=f"{argument(name, value)} is not {quantity} {span}.",
            cause=cause,
            fix=f"Pass for example {name}={example}.",
        )

    def rule(name: str, value: object) -> int:
        # True is an int in Python, and retries=True is a mistake.
        if isinstance(value, bool) or not isinstance(value, SupportsIndex):
            fail(name, value)
        try:
            number = operator.index(value)
        except TypeError:
            # An array has __index__, too, and it works for an array of one element only.
            fail(name, value)
        if number < least or (most is not None and number > most):
            fail(name, value)
        return number

    return rule


def chunksize(name: str, value: object) -> int | str:
    """Return a number of elements, or ``"auto"``."""
    if isinstance(value, str) and value == "auto":
        return value
    return integer(1, example=100, cause="'auto' is allowed, too.")(name, value)


def factor(name: str, value: object) -> float:
    """Return a number above 1 and up to `MAX_GROWTH`."""
    number = float(value) if isinstance(value, numbers.Real) and not isinstance(value, bool) else 0.0
    if not 1 < number <= MAX_GROWTH:
        refuse(
            problem=f"{argument(name, value)} is not a number above 1 and up to {MAX_GROWTH}.",
            cause="A job that ran out of memory gets its memory multiplied by this number.",
            fix=f"Pass for example {name}=2.",
        )
    return number


def text(pattern: str, kind: str, *, example: str, cause: str = "") -> Rule[str]:
    """Return the rule for a string that the whole pattern matches. ``kind`` names such a string in the message."""

    def rule(name: str, value: object) -> str:
        return _matching(pattern, name, value, f"{argument(name, value)} is not {kind}.", cause, example)

    return rule


def _matching(pattern: str, name: str, value: object, problem: str, cause: str, example: str) -> str:
    """Return a string that the whole pattern matches; raise with this problem for any other value."""
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        refuse(problem=problem, cause=cause, fix=f"Pass for example {name}={example!r}.")
    return value


def texts(pattern: str, kind: str, *, example: str, cause: str = "") -> Rule[tuple[str, ...]]:
    """Return the rule for one string or several. The stored form is a tuple without duplicates."""

    def rule(name: str, value: object) -> tuple[str, ...]:
        items = _items(name, value, example)
        checked = [
            _matching(pattern, name, item, f"{subject(name, value, item)} is not {kind}.", cause, example)
            for item in items
        ]
        return tuple(dict.fromkeys(checked))

    return rule


def dockerfile_lines(name: str, value: object) -> tuple[str, ...]:
    """Return lines of a Dockerfile in their order. One string may hold several lines."""
    example = "RUN make -C /src"
    lines: list[str] = []
    for item in _items(name, value, example):
        if not isinstance(item, str) or "\0" in item:
            refuse(
                problem=f"{subject(name, value, item)} is not a line of a Dockerfile.",
                fix=f"Pass for example {name}={example!r}.",
            )
        # FROM begins a new image, and Docker drops the lines before it from the result.
        if re.search(r"^\s*FROM\s", item, re.IGNORECASE | re.MULTILINE):
            refuse(
                problem=f"{subject(name, value, item)} contains FROM.",
                cause="cloudknot writes that line itself.",
                fix="Pass base_image='python:3.12' for another base image, or the folder of your own Dockerfile as "
                "image_work_dir= (dir_name= of DockerImage).",
            )
        lines.append(item)
    return tuple(lines)


def _items(name: str, value: object, example: str) -> Iterable[object]:
    """Return the items of a sequence; one string is a sequence of itself."""
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, Iterable) or isinstance(items, Mapping | bytes):
        refuse(
            problem=f"{argument(name, value)} is not a string or a list of strings.",
            fix=f"Pass for example {name}=[{example!r}].",
        )
    return items


def subject(name: str, value: object, item: object) -> str:
    """Return the subject of a sentence about an item: ``name='item'``, or the list that contains it."""
    return argument(name, value) if isinstance(value, str) else f"{name} contains {reprlib.repr(item)}, which"


def path(example: str) -> Rule[str]:
    """Return the rule for a path, which may be a string or a Path."""

    def rule(name: str, value: object) -> str:
        plain = os.fspath(value) if isinstance(value, os.PathLike) else value
        if not isinstance(plain, str) or not plain or "\0" in plain:
            refuse(
                problem=f"{argument(name, value)} is not a path.",
                fix=f"Pass for example {name}={example!r}.",
            )
        return plain

    return rule


def one_of(*values: T) -> Rule[T]:
    """Return the rule for one of these values."""

    def rule(name: str, value: object) -> T:
        for item in values:
            # By identity, since 1 == True and 0 == False; equal strings may be different objects.
            if value is item or (isinstance(value, str) and value == item):
                return item
        refuse(
            problem=f"{argument(name, value)} is not {alternatives(map(repr, values))}.",
            fix=f"Pass {alternatives(f'{name}={item!r}' for item in values)}.",
        )

    return rule


def function(name: str, value: object) -> Callable[..., object]:
    """Return any callable object."""
    if not callable(value):
        refuse(
            problem=f"{argument(name, value)} is not a function.",
            fix=f"Pass the function itself, for example {name}=simulate.",
        )
    return value


def network(name: str, value: object) -> str:
    """Return an IPv4 network with room for two subnets."""
    import ipaddress

    try:
        block = ipaddress.IPv4Network(value) if isinstance(value, str) else None
    except ValueError:
        block = None
    # VPC user guide, "VPC CIDR blocks": a VPC is /16 to /28, and so is a subnet.
    if block is None or not 16 <= block.prefixlen <= 27:
        refuse(
            problem=f"{argument(name, value)} is not an IPv4 network with a prefix from /16 to /27.",
            cause="AWS makes no larger network, and a smaller one has no room for two subnets.",
            fix=f"Pass for example {name}='10.0.0.0/16'.",
        )
    return str(block)


def tags(name: str, value: object) -> dict[str, str]:
    """Return AWS tags from a dict or a list of ``{"Key": ..., "Value": ...}``."""
    example = f"Pass for example {name}={{'Project': 'pi'}}."
    characters = "letters, digits, spaces and _ . : / = + - @"
    checked: dict[str, str] = {}
    for key, content in _pairs(name, value, ("Key", "Value"), example):
        shown = argument(name, {key: content})
        if not (isinstance(key, str) and re.fullmatch(r"(?!aws:)[\w .:/=+@-]{1,128}", key)):
            refuse(
                problem=f"{shown} has a key that AWS does not allow.",
                cause=f"A key has 1 to 128 {characters}, and does not begin with 'aws:'.",
                fix=example,
            )
        if not (isinstance(content, str) and re.fullmatch(r"[\w .:/=+@-]{0,256}", content)):
            refuse(
                problem=f"{shown} has a value that AWS does not allow.",
                cause=f"A value is a string of up to 256 {characters}.",
                fix=example,
            )
        checked[key] = content
    if len(checked) > MAX_TAGS:
        refuse(
            problem=f"{argument(name, value)} has more than {MAX_TAGS} tags.",
            cause="AWS allows 50 tags on one resource, and cloudknot adds up to four.",
            fix=f"Pass at most {MAX_TAGS} tags.",
        )
    return checked


def knot_name(name: str, value: object) -> str:
    """Return the name of a knot. A function in its place is a frequent mistake with a message of its own."""
    if callable(value):
        refuse(
            problem=f"{argument(name, value)} is a function, not a name.",
            fix=f"Pass both by keyword: Knot(name='pi-calc', func={getattr(value, '__name__', 'f')}).",
        )
    return KNOT_NAME(name, value)


def aws_name(name: str) -> str:
    """Return the name of a knot or Pars as AWS has it: CloudFormation allows no underscores in the names of stacks."""
    return name.replace("_", "-")


def environment(name: str, value: object) -> tuple[tuple[str, str], ...]:
    """Return environment variables from a dict or a list of ``{"name": ..., "value": ...}``."""
    # Python's own map(f, a, b) takes more iterables, and here the second one lands in env_vars.
    example = (
        f"Pass for example {name}={{'LEVEL': '3'}}. "
        "If the value is a second list of arguments for the function, use map(zip(a, b), starmap=True)."
    )
    variables: dict[str, str] = {}
    for variable, content in _pairs(name, value, ("name", "value"), example):
        if not isinstance(variable, str) or not isinstance(content, str) or not re.fullmatch(r"[^=\0\s]+", variable):
            refuse(
                problem=f"{argument(name, {variable: content})} is not an environment variable.",
                cause="Names and values are strings, and a name has no spaces and no '='.",
                fix=example,
            )
        _check_variable(name, variable, content)
        variables[variable] = content
    size = sum(len(json.dumps({"name": key, "value": variables[key]})) + 2 for key in variables)
    if size > MAX_ENVIRONMENT:
        refuse(
            problem=f"{argument(name, value)} is too long: {size} characters.",
            cause=f"AWS Batch fails a job whose environment variables have more than {MAX_ENVIRONMENT} characters.",
            fix="Pass large values as elements or as kwargs=.",
        )
    return tuple(variables.items())


def _check_variable(name: str, variable: str, content: str) -> None:
    """Refuse a variable that a job has already, that would hold credentials, or that no process can have."""
    if variable.startswith(RESERVED_VARIABLES):
        refuse(
            problem=f"{argument(name, {variable: content})} uses a reserved name.",
            cause="Batch and cloudknot set the variables that begin with AWS_BATCH or CLOUDKNOT_.",
            fix="Rename the variable.",
        )
    if variable in KEYS:
        refuse(
            problem=f"{argument(name, {variable: '...'})} would replace the credentials of the job.",
            cause="A job has credentials of its own. Everyone who may see the job could read yours.",
            fix="Remove this variable. If the job needs more permissions, pass pars_policies= to Knot.",
        )
    if "\0" in content or not _is_unicode(variable + content):
        refuse(
            problem=f"{argument(name, {variable: content})} cannot be set in a job.",
            cause="The value of a variable has no zero character and no half of a surrogate pair.",
            fix="Pass it as an element or in kwargs=, or encode it, for example with base64.b64encode.",
        )


def _is_unicode(text: str) -> bool:
    """Return whether a text can be encoded: `os.fsdecode` gives halves of surrogate pairs for undecodable bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _pairs(name: str, value: object, keys: tuple[str, str], fix: str) -> list[tuple[object, object]]:
    """Return the pairs of a mapping, or of a list of mappings that each hold one pair under these keys."""
    if isinstance(value, Mapping):
        return list(value.items())
    problem = f'{argument(name, value)} is not a dict, or a list of {{"{keys[0]}": ..., "{keys[1]}": ...}}.'
    if not isinstance(value, Iterable):
        refuse(problem=problem, fix=fix)
    try:
        return [(item[keys[0]], item[keys[1]]) for item in value]
    except (TypeError, KeyError):
        refuse(problem=problem, fix=fix)


def keywords(name: str, value: object) -> dict[str, object]:
    """Return keyword arguments by name."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        refuse(
            problem=f"{argument(name, value)} is not a dict of argument names and values.",
            fix=f"Pass for example {name}={{'tolerance': 0.01}}.",
        )
    return dict(value)


FLAG = one_of(True, False)
# A name of 55 characters has 85 with the longest suffix, "-cloudknot-compute-environment". Batch and CloudFormation
# allow 128. CloudFormation shortens the names that it makes up itself, such as those of IAM roles (64).
KNOT_NAME = text(
    r"[a-zA-Z][-_a-zA-Z0-9]{0,54}",
    "a valid name",
    cause="A name begins with a letter and has up to 55 letters, digits, hyphens and underscores.",
    example="pi-calc",
)
BATCH_NAME = text(
    r"[a-zA-Z0-9][\w-]{0,127}",
    "a name that Batch allows",
    cause="It begins with a letter or digit and has up to 128 letters, digits, hyphens and underscores.",
    example="pi-calc",
)
ROLE_NAME = text(
    r"[\w+=,.@-]{1,64}",
    "the name of an IAM role",
    cause="It has up to 64 letters, digits and _ + = , . @ -",
    example="lab-role",
)
POLICY_ARN_PATTERN = r"arn:[\w-]+:iam::(aws|\d{12}):policy/[\w+=,.@/-]+"
POLICY_PATTERN = rf"{POLICY_ARN_PATTERN}|[\w+=,.@/-]{{1,128}}"
POLICIES = texts(POLICY_PATTERN, "the name or ARN of an IAM policy", example="AmazonS3FullAccess")
BOUNDARY = text(POLICY_PATTERN, "the name or ARN of an IAM policy", example="lab-boundary")
# S3 user guide, "Bucket naming rules". S3 allows dots, but a dot would break the TLS certificate of the host name.
BUCKET = text(
    r"(?!xn--|sthree-|amzn-s3-demo-)[a-z0-9][a-z0-9-]{1,61}[a-z0-9](?<!-s3alias)(?<!--ol-s3)",
    "the name of an S3 bucket",
    cause="It has 3 to 63 lower-case letters, digits and hyphens, with a letter or digit at both ends.",
    example="my-lab-results",
)
ACCOUNT = text(r"\d{12}", "an AWS account number", cause="An account number has 12 digits.", example="123456789012")
# ECR API reference, CreateRepository, repositoryName.
REPOSITORY = text(
    r"(?=.{2,256}$)([a-z0-9]+([._-][a-z0-9]+)*/)*[a-z0-9]+([._-][a-z0-9]+)*",
    "the name of an image repository (ECR)",
    cause="It has 2 to 256 lower-case letters and digits, with single . _ - / between them.",
    example="lab/images",
)
BASE_IMAGE = text(r"[\w.:/@-]+", "the name of a Docker image", example="python:3.11-slim")
USER_NAME = text(
    r"[a-z_][a-z0-9_-]{0,31}",
    "a Linux user name",
    cause="It has up to 32 lower-case letters, digits, _ and -, and begins with a letter or _.",
    example="worker",
)
DOCKER_TAGS = texts(
    r"\w[\w.-]{0,127}",
    "a Docker tag",
    cause="A tag has up to 128 letters, digits, _ . and -, and begins with none of . and -.",
    example="v1",
)
GITHUB = texts(
    r"(git\+)?(https|ssh)://[^\s'\"\\]+|git@[^\s'\"\\]+",
    "the URL of a git repository",
    example="https://github.com/numpy/numpy",
)
_REQUIREMENT_LINES = texts(r"[^\r\n]*\S[^\r\n]*", "a requirement in pip's format", example="numpy==2.1.0")


def requirements(name: str, value: object) -> tuple[str, ...] | str | os.PathLike[str]:
    """Return requirement lines; or a single line or the path of a file, which the program tells apart."""
    return value if isinstance(value, str | os.PathLike) and os.fspath(value) else _REQUIREMENT_LINES(name, value)


# Debian policy manual, 5.6.7 "Package"; apt-get(8) for the architecture and the version after it.
APT_PACKAGES = texts(
    r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9-]+)?(=[A-Za-z0-9.+:~-]+)?", "the name of a Debian package", example="imagej"
)
