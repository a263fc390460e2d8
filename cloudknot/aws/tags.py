"""Tags in the form of AWS's lists, and the tag that marks cloudknot's own resources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

# The user's own tags cannot mark resources, because users may set any tag. AWS's tagging service cannot find them
# either: it knows no roles, and would take one more permission.
OWN_TAG = "cloudknot"
"""The tag on each of cloudknot's resources. Its value is the name of the resource's stack, or of the resource."""

KNOT = "-cloudknot"
"""The end of the name of a knot's stack."""


class Tag(TypedDict):
    """One tag in the lists of most AWS services."""

    Key: str
    Value: str


def with_own(tags: Mapping[str, str], stack: str) -> dict[str, str]:
    """Return the user's tags and the one that marks cloudknot's resources."""
    return {**tags, OWN_TAG: stack}


def without_own(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the user's tags, without the one that marks cloudknot's resources."""
    return {key: value for key, value in tags.items() if key != OWN_TAG}


def tag_list(tags: Mapping[str, str]) -> list[Tag]:
    """Return tags as a list in AWS's form."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]
