"""The data classes of the embedded CloudFormation: templates, and stacks with their resources and events."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypedDict

from cloudknot.local.wsgi import ServiceError

STACK = "AWS::CloudFormation::Stack"
DELETED = "DELETE_COMPLETE"


Properties = Mapping[str, Any]
"""The properties of a resource, or the arguments or the answer of an operation of its service."""


class ParameterDeclaration(TypedDict, total=False):
    """An entry in the Parameters of a template."""

    Type: str
    Default: object
    AllowedValues: list[object]
    AllowedPattern: str
    MinValue: object
    MaxValue: object


class ResourceDeclaration(TypedDict, total=False):
    """An entry in the Resources of a template. Its Properties may contain expressions such as ``{"Ref": "X"}``."""

    Type: str
    Condition: str
    DeletionPolicy: str
    DependsOn: str | list[str]
    Properties: Mapping[str, object]


class OutputDeclaration(TypedDict, total=False):
    """An entry in the Outputs of a template."""

    Condition: str
    Value: object


class TemplateDocument(TypedDict, total=False):
    """A parsed template, with YAML's short forms (``!Ref X``) expanded to dicts (``{"Ref": "X"}``)."""

    Description: str
    Parameters: Mapping[str, ParameterDeclaration]
    Mappings: Mapping[str, Mapping[str, Mapping[str, object]]]
    Conditions: Mapping[str, object]
    Resources: Mapping[str, ResourceDeclaration]
    Outputs: Mapping[str, OutputDeclaration]


class ValidationError(ServiceError):
    """A refused request. The stack is unchanged."""

    def __init__(self, message: str, code: str = "ValidationError") -> None:
        super().__init__(code, message)


class ResourceError(Exception):
    """A failure to create, update or delete a resource. The text is the reason in the stack's events."""


@dataclass(frozen=True)
class StackEvent:
    """An entry in the answer of DescribeStackEvents."""

    logical_id: str
    physical_id: str
    kind: str
    status: str
    reason: str
    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass
class Resource:
    """An existing resource of a stack."""

    logical_id: str
    kind: str
    properties: Properties
    physical_id: str
    attributes: Mapping[str, str]
    policy: str = "Delete"
    """The DeletionPolicy of its declaration."""
    status: str = "CREATE_COMPLETE"
    reason: str = ""
    changed: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True)
class UndoStep:
    """A step of the rollback of an update. Without ``created``, it updates a resource to its state ``before``.

    An update may have been applied in part, so the resource may have any of the ``attempted`` properties.

    With it, the step deletes the created resource, and puts the one before it back, if there was one.
    """

    logical_id: str
    created: Resource | None
    before: Resource | None
    attempted: Properties = field(default_factory=dict)


@dataclass(frozen=True)
class Creation:
    """A resource whose creation has begun. ``token`` identifies its calls, which may have to be repeated."""

    logical_id: str
    kind: str
    properties: Properties
    token: str


@dataclass(frozen=True)
class StackSpec:
    """The specification of a stack in a request to create or update it."""

    text: str
    template: TemplateDocument
    parameters: Mapping[str, str]
    tags: Mapping[str, str]


@dataclass
class StackRecord:
    """A stack with its resources and events."""

    name: str
    id: str
    spec: StackSpec
    status: str = "CREATE_IN_PROGRESS"
    reason: str = ""
    resources: dict[str, Resource] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    events: list[StackEvent] = field(default_factory=list)
    rollback: list[UndoStep] = field(default_factory=list)
    """The rest of the rollback of an update, the next step last."""
    superseded: list[Resource] = field(default_factory=list)
    """Resources that the cleanup after an update deletes."""
    creation: Creation | None = None
    access_key: str = ""
    """The key of the caller who requested the operation in progress."""
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    updated: datetime | None = None
    deleted: datetime | None = None
    deletion_requested: bool = False
    """Whether a DeleteStack request has arrived. A creation in progress then ends early."""
    # Two locks, because an operation takes minutes and a request must see the status during it: lock guards the
    # status, and work is held by the thread that changes resources.
    lock: threading.Condition = field(default_factory=threading.Condition)
    work: threading.Lock = field(default_factory=threading.Lock)
    save: Callable[[StackRecord], None] = lambda record: None
    """Called after each change, before it becomes visible to clients."""

    def set_resource_status(self, resource: Resource, status: str, reason: str = "") -> None:
        """Set the status of a resource, and add an event."""
        resource.status, resource.reason, resource.changed = status, reason, datetime.now(UTC)
        self.events.append(StackEvent(resource.logical_id, resource.physical_id, resource.kind, status, reason))
        self.save(self)

    def set_status(self, status: str, reason: str = "") -> None:
        """Set the status of the stack, and add an event."""
        with self.lock:
            self.status, self.reason = status, reason
            self.events.append(StackEvent(self.name, self.id, STACK, status, reason))
            if status == DELETED:
                self.deleted = datetime.now(UTC)
            self.save(self)
            self.lock.notify_all()

    def wait(self, seconds: float) -> None:
        """Wait for the end of the operation in progress, for a limited time."""
        with self.lock:
            self.lock.wait_for(lambda: not self.status.endswith("_IN_PROGRESS"), seconds)
