"""The CloudFormation templates: their text, their digest, and the tags filled in."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from textwrap import indent

from cloudknot.aws.tags import tag_list
from cloudknot.deploy.job_definition import template_parts
from cloudknot.errors import CloudknotInputError

DIGEST = "TemplateDigest"
"""The parameter of every template that holds the digest of its text.

A parameter and not a tag: tags travel to the compute environment, and Batch cannot change those.
"""

LONGEST = 51_200
"""Bytes of a template in a request (CloudFormation API reference, CreateStack, TemplateBody)."""


def load(name: str) -> str:
    """Return the text of one of cloudknot's templates, for example ``"knot"``, all but the tags filled in."""
    text = Path(__file__).with_name(f"{name}.yaml").read_text(encoding="utf-8")
    for word, lines in template_parts().items():
        text = re.sub(rf"(?m)^( +){word}$", partial(_indented, "\n".join(lines)), text)
    return text


def _indented(lines: str, place: re.Match[str]) -> str:
    return indent(lines, place[1])


def digest(template: str) -> str:
    """16 hexadecimal digits that change when the text does."""
    return hashlib.sha256(template.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Template:
    """A template whose tags are filled in, ready for a request."""

    text: str
    """As `load` returns it."""
    tags: Mapping[str, str]
    body: str

    @classmethod
    def of(cls, text: str, tags: Mapping[str, str]) -> Template:
        """Fill in the tags. Raises `CloudknotInputError` when that makes it too long."""
        return cls(text, tags, fill_in(text, tags))

    def tagged(self, tags: Mapping[str, str]) -> Template:
        """Return the same template with these tags; itself when it has them."""
        return self if tags == self.tags else Template.of(self.text, tags)

    @cached_property
    def digest(self) -> str:
        return digest(self.text)


def fill_in(template: str, tags: Mapping[str, str]) -> str:
    """The template with the tags in place of its words TAGS and TAGMAP.

    Raises
    ------
    CloudknotInputError
        The tags make it longer than CloudFormation takes.
    """
    listed, mapped = json.dumps(tag_list(tags)), json.dumps(dict(tags))
    filled = re.sub(r"(?m)(?<=[:-] )TAGS$", lambda _: listed, template)
    whole = re.sub(r"(?m)(?<=[:-] )TAGMAP$", lambda _: mapped, filled)
    if (size := len(whole.encode())) > LONGEST:
        raise CloudknotInputError(
            f"aws_resource_tags= is too long: its {len(listed):,} bytes go on every resource, and make a template of "
            f"{size:,} bytes, of which CloudFormation takes {LONGEST:,}. Give fewer or shorter tags; nothing was made."
        )
    return whole
