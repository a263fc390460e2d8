"""Load the CloudFormation templates, add the user's tags, and compute their digest. No remote calls.

The templates are valid files as they are: a person can read, edit and check them. `cloudknot template` prints them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from cloudknot.aws.tags import OWN_TAG, without_own
from cloudknot.errors import refuse
from cloudknot.options.template_documents import compose_template, parse_template

# A parameter rather than a tag: CloudFormation copies a stack's tags to the compute environment, and Batch cannot
# change those.
DIGEST = "TemplateDigest"
"""The parameter of every template that holds the digest of the template's content."""
SPELLING = "Spelling"
"""The parameter with the name of a knot or Pars as the user wrote it. Stacks of earlier versions lack it."""
# DescribeStacks returns descriptions with the stacks, a hundred in one call. The user's tags may be anything, and the
# tagging service knows no roles and needs one more permission.
MARK = "(cloudknot)"
"""The end of the description of each template of cloudknot. It identifies cloudknot's stacks."""
CUSTOM = "custom-"
"""The beginning of the digest of a user's own template."""
SAME = {
    "5ea4a42738845ee9": "cbf03de1198aaff3",
    "f851e9a0f46c6998": "3a6c3784faa7cd2f",
    "3d7c7763139ea2bf": "2b6f314b6d703a9b",
}
"""Digests of earlier texts, each with the digest of the template that makes the same resources.

Only the job definition may differ: cloudknot registers its later revisions without an update of the stack.

An entry is without effect once that template changes. Existing stacks then get an update. If they need none, because
only new parameters or outputs were added for example, put the new digest here. A test names it.
"""
LONGEST = 51_200
"""Longest template in a request, in bytes (CloudFormation API reference, CreateStack, TemplateBody)."""


def load(name: str) -> str:
    """Return the text of a template of cloudknot: ``"knot"``, ``"pars"`` or ``"build"``."""
    return Path(__file__).with_name(f"{name}.yaml").read_text(encoding="utf-8")


def digest(template: str) -> str:
    """Return 16 hexadecimal digits that identify the content of a template, whatever its layout and comments."""
    content = json.dumps(_content(template), sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


@lru_cache(maxsize=16)
def _content(template: str) -> Any:
    """Return the content of a template. Callers must not change it."""
    return parse_template(template)


def is_same(current: str | None, wanted: str) -> bool:
    """Return whether a stack with the digest ``current`` has the resources of the template with the other digest."""
    return current == wanted or (current is not None and SAME.get(current) == wanted)


def is_custom(parameters: Mapping[str, str]) -> bool:
    """Return whether the stack with these parameters has a template of the user's own."""
    return parameters.get(DIGEST, "").startswith(CUSTOM)


@dataclass(frozen=True)
class Template:
    """A template with its tags, ready for a request."""

    text: str
    """The text as its file has it."""
    tags: Mapping[str, str]
    body: str
    """The text with the user's tags, as CloudFormation gets it."""
    custom: bool = False
    """Whether it is the user's own. Otherwise it is cloudknot's."""
    chosen: bool = False
    """Whether the user named it in this session. Otherwise an existing stack keeps a template of the user's own."""

    @classmethod
    def of(cls, text: str, tags: Mapping[str, str], *, custom: bool = False, chosen: bool = False) -> Template:
        """Return the template with these tags; raise `CloudknotInputError` when it becomes too long."""
        return cls(text, tags, fill_in(text, tags), custom, chosen)

    def tagged(self, tags: Mapping[str, str]) -> Template:
        """Return the same template with other tags."""
        return self if tags == self.tags else Template.of(self.text, tags, custom=self.custom, chosen=self.chosen)

    def is_kept_by(self, parameters: Mapping[str, str]) -> bool:
        """Return whether the existing stack with these parameters keeps a user's own template instead of this one."""
        return not self.chosen and is_custom(parameters)

    def digest_in(self, parameters: Mapping[str, str]) -> str:
        """Return the digest that the existing stack with these parameters has after its update."""
        return parameters[DIGEST] if self.is_kept_by(parameters) else self.digest

    @cached_property
    def digest(self) -> str:
        """Digest of the content without the user's tags."""
        # An existing stack keeps its tags. Other tags must therefore not make it look out of date.
        return f"{CUSTOM if self.custom else ''}{digest(self.text)}"

    @cached_property
    def declared(self) -> Mapping[str, Mapping[str, object]]:
        """The declarations of the parameters."""
        declared: Mapping[str, Mapping[str, object]] = (_content(self.text) or {}).get("Parameters") or {}
        return declared

    @cached_property
    def defaults(self) -> Mapping[str, str]:
        """The default values of the parameters, which an existing stack without these parameters has."""
        return {name: str(entry["Default"]) for name, entry in self.declared.items() if "Default" in entry}


def fill_in(template: str, tags: Mapping[str, str]) -> str:
    """Return the template with the user's tags beside each tag ``cloudknot``, whose value is the stack's name.

    Layout and comments of the text stay. A tag that a resource has already keeps its value.

    Raises
    ------
    CloudknotInputError
        The result is longer than CloudFormation accepts.
    """
    body = template
    # From the end, so that the positions before an insertion stay right.
    for position, text in sorted(set(_insertions(template, without_own(tags))), reverse=True):
        body = body[:position] + text + body[position:]
    if (size := len(body.encode())) > LONGEST:
        refuse(
            problem=f"aws_resource_tags= is too long: {len(json.dumps(dict(tags))):,} bytes.",
            cause=f"Every resource repeats the tags, which makes a CloudFormation template of {size:,} bytes. AWS "
            f"accepts at most {LONGEST:,} bytes. Nothing was created.",
            fix="Pass fewer or shorter tags.",
        )
    return body


def _insertions(template: str, tags: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """Yield the positions in the text where tags belong, and the text of the tags."""
    for node in _tagged_nodes(compose_template(template)):
        entries = _entries(node, tags)
        if node.flow_style:
            yield node.start_mark.index + 1, "".join(f"{entry}, " for entry in entries)
        else:
            indent = " " * node.start_mark.column
            dash = "- " if node.id == "sequence" else ""
            yield node.start_mark.index, "".join(f"{dash}{entry}\n{indent}" for entry in entries)


def _entries(node: Any, tags: Mapping[str, str]) -> list[str]:
    """Return the tags that a list or a mapping of tags lacks, as its entries. JSON is valid YAML."""
    present = set(_keys(node))
    missing = {key: value for key, value in tags.items() if key not in present}
    text = {key: (_json(key), _json(value)) for key, value in missing.items()}
    # AWS::Batch resources take tags as a mapping, all others as a list.
    if node.id == "mapping":
        return [f"{key}: {value}" for key, value in text.values()]
    return [f'{{"Key": {key}, "Value": {value}}}' for key, value in text.values()]


def _json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _tagged_nodes(node: Any, under_tags: bool = False) -> Iterator[Any]:
    """Yield the lists and mappings under a key ``Tags`` that have the tag ``cloudknot``."""
    if node is None or node.id == "scalar":
        return
    if under_tags and OWN_TAG in _keys(node):
        yield node
        return
    for child in node.value:
        # A mapping has pairs, a list has nodes.
        key, value = child if node.id == "mapping" else (None, child)
        yield from _tagged_nodes(value, under_tags or (key is not None and key.value == "Tags"))


def _keys(node: Any) -> Iterator[str]:
    """Yield the keys in a node of tags: of a mapping, or of a list of Key and Value."""
    pairs = node.value if node.id == "mapping" else (pair for item in node.value for pair in _pairs(item))
    for key, value in pairs:
        if node.id == "mapping":
            yield key.value
        elif key.value == "Key" and value.id == "scalar":
            yield value.value


def _pairs(item: Any) -> Any:
    return item.value if item.id == "mapping" else ()
