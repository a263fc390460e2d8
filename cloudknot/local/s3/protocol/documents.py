"""XML documents in the bodies of requests."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from xml.etree import ElementTree

from cloudknot.local.s3.errors import S3Error

_MOST_TAGS = 50
_LONGEST_KEY, _LONGEST_VALUE = 128, 256
"""Characters (Amazon S3 user guide, "Categorizing your objects using tags")."""


def parsed(body: bytes, roots: Collection[str]) -> ElementTree.Element:
    """Return the root of a document without namespaces.

    Raises
    ------
    S3Error
        The body is no XML, or has another root.
    """
    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError as error:
        raise malformed(str(error)) from error
    for element in root.iter():
        element.tag = str(element.tag).rpartition("}")[2]
    if root.tag not in roots:
        raise malformed(f"the document begins with {root.tag}")
    return root


def malformed(reason: str) -> S3Error:
    """Return the error for a body that is not the document that an operation expects."""
    message = "The XML you provided was not well-formed or did not validate against our published schema"
    return S3Error("MalformedXML", message=f"{message}: {reason}")


def tags_in(body: bytes, most: int = _MOST_TAGS) -> dict[str, str]:
    """Return the tags in a document ``Tagging``."""
    pairs = []
    for element in parsed(body, {"Tagging"}):
        if element.tag != "TagSet" or any(tag.tag != "Tag" for tag in element):
            raise malformed("Tagging has one TagSet")
        pairs += [(tag.findtext("Key") or "", tag.findtext("Value") or "") for tag in element]
    return checked_tags(pairs, most)


def checked_tags(pairs: Collection[tuple[str, str]], most: int) -> dict[str, str]:
    """Return tags, or raise an error if S3 has no such tags."""
    if len(pairs) > most:
        raise S3Error("BadRequest", message=f"Object tags cannot be greater than {most}")
    tags: dict[str, str] = {}
    for key, value in pairs:
        if not 0 < len(key) <= _LONGEST_KEY:
            raise S3Error("InvalidTag", message="The TagKey you have provided is invalid")
        if len(value) > _LONGEST_VALUE:
            raise S3Error("InvalidTag", message="The TagValue you have provided is invalid")
        if key in tags:
            raise S3Error("InvalidTag", message="Cannot provide multiple Tags with the same key")
        tags[key] = value
    return tags


def tag_set(tags: Mapping[str, str]) -> Mapping[str, object]:
    """Return the content of a document ``Tagging``."""
    return {"TagSet": {"Tag": [{"Key": key, "Value": value} for key, value in tags.items()]}}
