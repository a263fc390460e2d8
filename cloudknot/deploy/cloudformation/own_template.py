"""Read a CloudFormation template of the user's own, and check everything in it that cloudknot relies on.

The rules are on the page docs/templates.md. AWS checks the rest when cloudknot sends the template. No remote calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cloudknot.deploy.cloudformation.template import LONGEST, MARK, SPELLING, Template, digest, load
from cloudknot.errors import refuse
from cloudknot.options.encodings import encoding_of
from cloudknot.options.template_documents import parse_template
from cloudknot.options.validators import argument

EXAMPLE = "`cloudknot template {kind}` prints the original with all of them."


@dataclass(frozen=True)
class TemplateNeeds:
    """The parts of a template that cloudknot relies on, besides the parameters of its own template."""

    outputs: tuple[str, ...]
    """Names of outputs."""
    resources: Mapping[str, str] = field(default_factory=dict)
    """Types of resources by logical id. Under another id, AWS would create a second resource with the same name."""
    names: Mapping[str, str] = field(default_factory=dict)
    """The property of a resource that must refer to the parameter of the same name, by logical id."""
    later: tuple[str, ...] = ()
    """Parameters of a later version of cloudknot, without which an older file still works."""


LATER = (SPELLING,)
"""Parameters that cloudknot's templates have got since they were first printed."""
TEMPLATE_NEEDS = {
    "knot": TemplateNeeds(
        outputs=("TemplateDigest", "JobRole", "JobQueue", "ComputeEnvironment"),
        resources={
            "LogGroup": "AWS::Logs::LogGroup",
            "JobRole": "AWS::IAM::Role",
            "JobDefinition": "AWS::Batch::JobDefinition",
            "ComputeEnvironment": "AWS::Batch::ComputeEnvironment",
            "JobQueue": "AWS::Batch::JobQueue",
        },
        names={
            "LogGroup": "LogGroupName",
            "JobDefinition": "JobDefinitionName",
            "ComputeEnvironment": "ComputeEnvironmentName",
            "JobQueue": "JobQueueName",
        },
        later=LATER,
    ),
    "pars": TemplateNeeds(
        outputs=(
            "TemplateDigest",
            "BatchServiceRole",
            "SpotFleetRole",
            "EcsInstanceRole",
            "EcsInstanceProfile",
            "ExecutionRole",
            "Vpc",
            "Subnets",
            "SecurityGroup",
        ),
        later=LATER,
    ),
}


def template_for(kind: str, path: str | None, tags: Mapping[str, str]) -> Template:
    """Return the template for a stack: the user's own in the file ``path``, or cloudknot's without one.

    Parameters
    ----------
    kind : {"knot", "pars"}
    path : str, optional
    tags : mapping of str to str
        Tags for the resources.

    Raises
    ------
    CloudknotInputError
        The file cannot be read, is no template, or lacks something that cloudknot relies on. The message names it.
    """
    original = load(kind)
    if path is None:
        return Template.of(original, tags)
    text = _read(path)
    content = _parsed(path, text)
    if problems := [*_problems(kind, content, parse_template(original))]:
        refuse(
            problem=f"{argument('template', path)} lacks something that cloudknot relies on: {'; '.join(problems)}.",
            fix=f"Add it. {EXAMPLE.format(kind=kind)}",
        )
    # Whoever passes cloudknot's own template returns to it.
    return Template.of(text, tags, custom=digest(text) != digest(original), chosen=True)


def _read(path: str) -> str:
    try:
        content = Path(path).expanduser().read_bytes()
    except OSError as error:
        refuse(
            problem=f"{argument('template', path)} cannot be read: {error.strerror or error}.",
            fix="Check the path and its permissions, or create the file: `cloudknot template knot > mine.yaml`.",
        )
    if len(content) > LONGEST:
        refuse(
            problem=f"{argument('template', path)} has {len(content):,} bytes.",
            cause=f"AWS accepts at most {LONGEST:,} bytes.",
            fix="Remove comments or resources.",
        )
    try:
        text = content.decode(encoding_of(content))
    except UnicodeDecodeError as error:
        refuse(
            problem=f"{argument('template', path)} is not a text in UTF-8: {error.reason} at byte {error.start:,}.",
            fix="Write it again in UTF-8.",
        )
    return text.replace("\r\n", "\n")


def _parsed(path: str, text: str) -> Mapping[str, Any]:
    try:
        content = parse_template(text)
    except ValueError as error:
        refuse(
            problem=f"{argument('template', path)} is neither valid YAML nor valid JSON: {error}.",
            fix="Correct the file. `cfn-lint` finds such mistakes: `pip install cfn-lint`, then `cfn-lint FILE`.",
        )
    if not isinstance(content, dict) or not isinstance(content.get("Resources"), dict):
        refuse(
            problem=f"{argument('template', path)} is not a CloudFormation template: it has no Resources.",
            fix="Begin with a copy of cloudknot's own: `cloudknot template knot > mine.yaml`.",
        )
    return content


def _problems(kind: str, content: Mapping[str, Any], original: Mapping[str, Any]) -> Iterator[str]:
    """Yield a phrase for each part that cloudknot relies on and the template lacks."""
    needs = TEMPLATE_NEEDS[kind]
    if not str(content.get("Description", "")).endswith(MARK):
        yield f"a Description that ends with {MARK!r}, by which cloudknot finds its stacks"
    declared = _section(content, "Parameters")
    for name in original["Parameters"]:
        if name not in declared and name not in needs.later:
            yield f"the parameter {name}"
    for name, entry in declared.items():
        if name not in original["Parameters"] and "Default" not in _mapping(entry):
            yield f"a Default for the parameter {name}, since cloudknot has no value for it"
    outputs = _section(content, "Outputs")
    yield from (f"the output {name}" for name in needs.outputs if name not in outputs)
    resources = content["Resources"]
    for name, kind_of_resource in needs.resources.items():
        resource = _mapping(resources.get(name))
        if resource.get("Type") != kind_of_resource:
            yield f"the resource {name} of the type {kind_of_resource}"
        elif (parameter := needs.names.get(name)) and _properties(resource).get(parameter) != {"Ref": parameter}:
            yield f"{parameter}: !Ref {parameter} in the resource {name}"
    if kind == "knot" and not _keeps_revisions(_mapping(resources.get("JobDefinition"))):
        # AWS would deregister the revision of running maps, and their retries need it.
        yield "SkipDeregisterOnUpdate: true under ResourceRetentionPolicy in the resource JobDefinition"


def _keeps_revisions(definition: Mapping[str, Any]) -> bool:
    policy = _mapping(_properties(definition).get("ResourceRetentionPolicy"))
    return str(policy.get("SkipDeregisterOnUpdate")).lower() == "true"


def _section(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return _mapping(content.get(name))


def _properties(resource: Mapping[str, Any]) -> Mapping[str, Any]:
    return _mapping(resource.get("Properties"))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
