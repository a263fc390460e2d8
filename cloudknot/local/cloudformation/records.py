"""The records of the embedded CloudFormation: a template, and a stack with its resources and events."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypedDict

STACK = "AWS::CloudFormation::Stack"
GONE = "DELETE_COMPLETE"


Properties = Mapping[str, Any]
"""The properties of a resource, and the arguments and answers of its service's operations."""


class ParameterDeclaration(TypedDict, total=False):
    """One entry of a template's Parameters."""

    Default: object
    AllowedValues: list[object]


class ResourceDeclaration(TypedDict, total=False):
    """One entry of a template's Resources; Properties hold expressions."""

    Type: str
    Condition: str
    DeletionPolicy: str
    DependsOn: str | list[str]
    Properties: Mapping[str, object]


class OutputDeclaration(TypedDict, total=False):
    """One entry of a template's Outputs."""

    Condition: str
    Value: object


class TemplateDocument(TypedDict, total=False):
    """A template, its short forms written out."""

    Description: str
    Parameters: Mapping[str, ParameterDeclaration]
    Conditions: Mapping[str, object]
    Resources: Mapping[str, ResourceDeclaration]
    Outputs: Mapping[str, OutputDeclaration]


class ValidationError(Exception):
    """A request is refused: HTTP 400; nothing was begun."""

    def __init__(self, message: str, code: str = "ValidationError") -> None:
        super().__init__(message)
        self.code = code


class ResourceError(Exception):
    """A resource could not be made, changed or deleted; the text is the reason in the stack's events."""


@dataclass(frozen=True)
class StackEvent:
    """One row of DescribeStackEvents."""

    logical_id: str
    physical_id: str
    kind: str
    status: str
    reason: str
    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass
class Resource:
    """A resource that exists."""

    logical_id: str
    kind: str
    properties: Properties
    physical_id: str
    attributes: Mapping[str, str]
    policy: str = "Delete"
    """Its DeletionPolicy."""
    status: str = "CREATE_COMPLETE"
    reason: str = ""
    changed: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True)
class Wanted:
    """A stack as a request asks for it."""

    text: str
    template: TemplateDocument
    parameters: Mapping[str, str]
    tags: Mapping[str, str]


@dataclass
class StackRecord:
    """A stack. Whoever changes ``status`` holds ``lock``; whoever works on its resources holds ``work``."""

    name: str
    id: str
    wanted: Wanted
    status: str = "CREATE_IN_PROGRESS"
    reason: str = ""
    resources: dict[str, Resource] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    events: list[StackEvent] = field(default_factory=list)
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    updated: datetime | None = None
    deleted: datetime | None = None
    unwanted: bool = False
    """Somebody asked to delete it: a creation that is under way ends."""
    lock: threading.RLock = field(default_factory=threading.RLock)
    work: threading.Lock = field(default_factory=threading.Lock)

    def note(self, resource: Resource, status: str, reason: str = "") -> None:
        """A resource has come into a state."""
        resource.status, resource.reason, resource.changed = status, reason, datetime.now(UTC)
        self.events.append(StackEvent(resource.logical_id, resource.physical_id, resource.kind, status, reason))

    def become(self, status: str, reason: str = "") -> None:
        """The stack has come into a state."""
        with self.lock:
            self.status, self.reason = status, reason
            self.events.append(StackEvent(self.name, self.id, STACK, status, reason))
            if status == GONE:
                self.deleted = datetime.now(UTC)
