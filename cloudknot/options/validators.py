"""Rules for the values that users give: each checks one value, and returns it as it is kept.

A rule takes the parameter's name and its value. What it does not accept it refuses with a `CloudknotInputError` that
names the parameter, the value, and what is accepted.
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

from cloudknot.errors import CloudknotInputError

T = TypeVar("T")
Rule = Callable[[str, object], T]

MAX_TAGS = 46
"""Tags that may be given: AWS takes 50 on one resource (AWS General Reference, "Tag naming limits and requirements").

Owner, Environment, Name and cloudknot are added.
"""
MAX_ENVIRONMENT = 6500
"""Characters, as JSON. Batch fails a job whose overrides are over 8,192; the rest is for command and manifest."""
RESERVED_VARIABLES = ("AWS_BATCH", "CLOUDKNOT_")
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE")
"""Variables that would take the place of the job's own role, by which it reads inputs and stores results."""


def refuse(name: str, value: object, accepted: str) -> NoReturn:
    """Raise the error for a value that is not accepted."""
    raise CloudknotInputError(f"{name}={reprlib.repr(value)} is not accepted. Give {accepted}.")


def near_matches(name: str, known: Iterable[str]) -> list[str]:
    """Return up to three known names that ``name`` may stand for, the nearest first."""
    from difflib import get_close_matches

    return get_close_matches(name, list(known), n=3)


MOST_GROWTH = 8
"""How many times its first memory a job may reach by ``memory_growth``: such a machine costs about as many times."""


def integer(least: int, most: int | None = None, unit: str = "") -> Rule[int]:
    """A whole number, also one of NumPy's; a bool is none."""
    accepted = f"a whole number from {least} to {most}" if most is not None else f"a whole number, {least} or more"

    def rule(name: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, SupportsIndex):
            refuse(name, value, accepted + unit)
        try:
            number = operator.index(value)
        except TypeError:
            refuse(name, value, accepted + unit)
        if number < least or (most is not None and number > most):
            refuse(name, value, accepted + unit)
        return number

    return rule


def chunksize(name: str, value: object) -> int | str:
    """A number of elements, or how to find it."""
    if isinstance(value, str) and value == "auto":
        return value
    return integer(1, unit=', or "auto"')(name, value)


def factor(name: str, value: object) -> float:
    """A number above 1, `MOST_GROWTH` at most."""
    number = float(value) if isinstance(value, numbers.Real) and not isinstance(value, bool) else 0.0
    if not 1 < number <= MOST_GROWTH:
        refuse(name, value, f"a factor above 1, {MOST_GROWTH} at most, for example 2")
    return number


def text(pattern: str, accepted: str) -> Rule[str]:
    """A string that the pattern matches as a whole."""

    def rule(name: str, value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            refuse(name, value, accepted)
        return value

    return rule


def texts(pattern: str, accepted: str) -> Rule[tuple[str, ...]]:
    """One string or several, kept as a tuple."""
    one = text(pattern, accepted)

    def rule(name: str, value: object) -> tuple[str, ...]:
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, Iterable) or isinstance(items, Mapping | bytes):
            refuse(name, value, f"{accepted}, or several")
        return tuple(dict.fromkeys(one(name, item) for item in items))

    return rule


def dockerfile_lines(name: str, value: object) -> tuple[str, ...]:
    """Lines of a Dockerfile, in order; one string may hold several."""
    accepted = "lines of a Dockerfile, such as 'RUN make -C /src'"
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, Iterable) or isinstance(items, Mapping | bytes):
        refuse(name, value, accepted)
    kept = tuple(items)
    for item in kept:
        if not isinstance(item, str) or "\0" in item:
            refuse(name, item, accepted)
        if re.search(r"^\s*FROM\s", item, re.IGNORECASE | re.MULTILINE):
            refuse(name, item, "base_image= for another base; a Dockerfile of your own goes in image_work_dir=")
    return kept


def path(name: str, value: object) -> str:
    """A path, as a string or a Path."""
    plain = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(plain, str) or not plain or "\0" in plain:
        refuse(name, value, "a path")
    return plain


def one_of(*accepted: T) -> Rule[T]:
    """One of a few values."""

    def rule(name: str, value: object) -> T:
        for item in accepted:
            if value is item or (isinstance(value, str) and value == item):
                return item
        refuse(name, value, " or ".join(map(repr, accepted)))

    return rule


def function(name: str, value: object) -> Callable[..., object]:
    """Anything that can be called."""
    if not callable(value):
        refuse(name, value, "a function, a method or another callable")
    return value


def network(name: str, value: object) -> str:
    """An IPv4 network in which two subnets fit."""
    import ipaddress

    # VPC user guide, "VPC CIDR blocks": a VPC is /16 to /28, and so is a subnet.
    try:
        found = ipaddress.IPv4Network(value) if isinstance(value, str) else None
    except ValueError:
        found = None
    if found is None or not 16 <= found.prefixlen <= 27:
        refuse(name, value, "an IPv4 network such as '10.0.0.0/16', with a prefix from /16 to /27")
    return str(found)


def tags(name: str, value: object) -> dict[str, str]:
    """AWS tags, as a dict or a list of ``{"Key": ..., "Value": ...}``."""
    accepted = (
        'a dict of strings, or a list of {"Key": ..., "Value": ...}; keys of 1 to 128 characters that do not begin '
        "with 'aws:', values of up to 256; letters, digits, spaces and _ . : / = + - @"
    )
    found: dict[str, str] = {}
    for key, content in _pairs(name, value, ("Key", "Value"), accepted):
        if not (isinstance(key, str) and re.fullmatch(r"(?!aws:)[\w .:/=+@-]{1,128}", key)):
            refuse(name, {key: content}, accepted)
        if not (isinstance(content, str) and re.fullmatch(r"[\w .:/=+@-]{0,256}", content)):
            refuse(name, {key: content}, accepted)
        found[key] = content
    if len(found) > MAX_TAGS:
        refuse(name, value, f"no more than {MAX_TAGS} tags: AWS takes 50, and cloudknot adds up to four")
    return found


def knot_name(name: str, value: object) -> str:
    """The name of a knot."""
    if callable(value):
        refuse(name, value, "the function by its parameter, and a name: Knot(name='pi-calc', func=f)")
    return str(KNOT_NAME(name, value))


def environment(name: str, value: object) -> tuple[tuple[str, str], ...]:
    """Environment variables, as a dict or a list of ``{"name": ..., "value": ...}``."""
    accepted = (
        'a dict of strings, or a list of {"name": ..., "value": ...}. (For several arguments to each call: '
        "map(zip(a, b), starmap=True))"
    )
    found: dict[str, str] = {}
    for variable, content in _pairs(name, value, ("name", "value"), accepted):
        if not isinstance(variable, str) or not isinstance(content, str) or not re.fullmatch(r"[^=\0\s]+", variable):
            refuse(name, {variable: content}, accepted)
        if variable.startswith(RESERVED_VARIABLES):
            refuse(name, {variable: content}, "other names: those beginning with AWS_BATCH or CLOUDKNOT_ are taken")
        if variable in KEYS:
            refuse(
                name,
                {variable: "..."},
                "no AWS keys: whoever may describe jobs reads variables, and the job has a role of its own "
                "(pars_policies= gives that more rights)",
            )
        found[variable] = content
    if sum(len(json.dumps({"name": key, "value": found[key]})) + 2 for key in found) > MAX_ENVIRONMENT:
        refuse(name, value, f"no more than {MAX_ENVIRONMENT} characters in all; larger data go in the elements")
    return tuple(found.items())


def _pairs(name: str, value: object, keys: tuple[str, str], accepted: str) -> list[tuple[object, object]]:
    """Return the pairs of a mapping, or of a list of mappings that each hold one pair under these keys."""
    if isinstance(value, Mapping):
        return list(value.items())
    if not isinstance(value, Iterable):
        refuse(name, value, accepted)
    try:
        return [(item[keys[0]], item[keys[1]]) for item in value]
    except (TypeError, KeyError):
        refuse(name, value, accepted)


def keywords(name: str, value: object) -> dict[str, object]:
    """Keyword arguments, by name."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        refuse(name, value, "a dict from the names of arguments to their values")
    return dict(value)


FLAG = one_of(True, False)
KNOT_NAME = text(
    r"[a-zA-Z][-a-zA-Z0-9]{0,44}", "up to 45 letters, digits and hyphens, beginning with a letter, such as 'pi-calc'"
)
BATCH_NAME = text(
    r"[a-zA-Z0-9][\w-]{0,127}", "up to 128 letters, digits, hyphens and underscores, beginning with a letter or digit"
)
ROLE_NAME = text(r"[\w+=,.@-]{1,64}", "the name of an IAM role: up to 64 letters, digits and _ + = , . @ -")
POLICY_PATTERN = r"arn:[\w-]+:iam::(aws|\d{12}):policy/[\w+=,.@/-]+|[\w+=,.@/-]{1,128}"
POLICIES = texts(
    POLICY_PATTERN,
    "the name or ARN of an IAM policy, such as 'AmazonS3FullAccess'",
)
# ECR API reference, CreateRepository, repositoryName.
REPOSITORY = text(
    r"(?=.{2,256}$)([a-z0-9]+([._-][a-z0-9]+)*/)*[a-z0-9]+([._-][a-z0-9]+)*",
    "the name of an ECR repository: 2 to 256 lower-case letters and digits, with single . _ - / between them",
)
BASE_IMAGE = text(r"[\w.:/@-]+", "the name of a Docker image, such as 'python:3.11-slim'")
USER_NAME = text(r"[a-z_][a-z0-9_-]{0,31}", "a Linux user name, such as 'worker'")
DOCKER_TAGS = texts(r"\w[\w.-]{0,127}", "a Docker tag of up to 128 characters")
GITHUB = texts(
    r"(git\+)?(https|ssh)://[^\s'\"\\]+|git@[^\s'\"\\]+",
    "the URL of a git repository, such as 'https://github.com/a/b'",
)
REQUIREMENTS = texts(r"[^\r\n]*\S[^\r\n]*", "a requirement as pip takes it, such as 'numpy==2.1.0'")
# Debian policy manual, 5.6.7 "Package"; apt-get(8) for the architecture and the version after it.
APT_PACKAGES = texts(
    r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9-]+)?(=[A-Za-z0-9.+:~-]+)?", "the name of a Debian package, such as 'imagej'"
)
