"""Load the CloudFormation templates, fill in tags and job definition, and compute their digest. No remote calls."""

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
from cloudknot.errors import refuse

# A parameter rather than a tag: CloudFormation copies a stack's tags to the compute environment, and Batch cannot
# change those.
DIGEST = "TemplateDigest"
"""The parameter of every template that holds the digest of the template's text."""
SPELLING = "Spelling"
"""The parameter with the name of a knot or Pars as the user wrote it. Stacks of earlier versions lack it."""

LONGEST = 51_200
"""Longest template in a request, in bytes (CloudFormation API reference, CreateStack, TemplateBody)."""


def load(name: str) -> str:
    """Return the text of a template such as ``"knot"``, with the job definition but without tags."""
    text = Path(__file__).with_name(f"{name}.yaml").read_text(encoding="utf-8")
    for word, lines in template_parts().items():
        text = re.sub(rf"(?m)^( +){word}$", partial(_indented, "\n".join(lines)), text)
    return text


def _indented(lines: str, place: re.Match[str]) -> str:
    return indent(lines, place[1])


def digest(template: str) -> str:
    """Return 16 hexadecimal digits that identify the text."""
    return hashlib.sha256(template.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Template:
    """A template with its tags, ready for a request."""

    text: str
    """The text without tags, as `load` returns it."""
    tags: Mapping[str, str]
    body: str
    """The text with tags, as CloudFormation gets it."""

    @classmethod
    def of(cls, text: str, tags: Mapping[str, str]) -> Template:
        """Return the template with these tags; raise `CloudknotInputError` when it becomes too long."""
        return cls(text, tags, fill_in(text, tags))

    def tagged(self, tags: Mapping[str, str]) -> Template:
        """Return the same template with other tags."""
        return self if tags == self.tags else Template.of(self.text, tags)

    @cached_property
    def digest(self) -> str:
        """Digest of the text without tags."""
        # An existing stack keeps its tags. Other tags must therefore not make it look out of date.
        return digest(self.text)


def fill_in(template: str, tags: Mapping[str, str]) -> str:
    """Return the template with tags in place of the words TAGS (a list) and TAGMAP (a mapping).

    Raises
    ------
    CloudknotInputError
        The result is longer than CloudFormation accepts.
    """
    # AWS::Batch resources take tags as a mapping, all others as a list. JSON is valid YAML.
    as_list, as_mapping = json.dumps(tag_list(tags)), json.dumps(dict(tags))
    # A function as replacement, because a string's backslashes would be read as escapes.
    body = re.sub(r"(?m)(?<=[:-] )TAGS$", lambda _: as_list, template)
    body = re.sub(r"(?m)(?<=[:-] )TAGMAP$", lambda _: as_mapping, body)
    if (size := len(body.encode())) > LONGEST:
        refuse(
            problem=f"aws_resource_tags= is too long: {len(as_list):,} bytes.",
            cause=f"Every resource repeats the tags, which makes a CloudFormation template of {size:,} bytes. AWS "
            f"accepts at most {LONGEST:,} bytes. Nothing was created.",
            fix="Pass fewer or shorter tags.",
        )
    return body
