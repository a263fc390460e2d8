"""Tags as AWS lists them, and the tag that marks cloudknot's own resources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

OWN_TAG = "cloudknot"
"""The tag that cloudknot's own resources have besides the user's; its value is the name of their stack, or theirs."""


class Tag(TypedDict):
    """One tag in the lists that most services take and give."""

    Key: str
    Value: str


def with_own(tags: Mapping[str, str], stack: str) -> dict[str, str]:
    """The user's tags, and the one by which cloudknot knows what is its own."""
    return {**tags, OWN_TAG: stack}


def without_own(tags: Mapping[str, str]) -> dict[str, str]:
    """The user's tags."""
    return {key: value for key, value in tags.items() if key != OWN_TAG}


def tag_list(tags: Mapping[str, str]) -> list[Tag]:
    """Return tags as AWS lists them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]
