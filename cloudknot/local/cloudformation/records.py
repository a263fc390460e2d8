"""What the embedded CloudFormation keeps of a stack: its resources, its events, its states."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

STACK = "AWS::CloudFormation::Stack"
GONE = "DELETE_COMPLETE"


class ValidationError(Exception):
    """A request is refused: HTTP 400; nothing was begun."""

    def __init__(self, message: str, code: str = "ValidationError") -> None:
        super().__init__(message)
        self.code = code


class ResourceError(Exception):
    """A resource could not be made, changed or deleted; the text is the reason in the stack's events."""


@dataclass(frozen=True)
class Event:
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
    properties: Mapping[str, Any]
    physical_id: str
    attributes: Mapping[str, str]
    policy: str = "Delete"
    """Its DeletionPolicy."""
    status: str = "CREATE_COMPLETE"
    reason: str = ""
    changed: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True)
class Wanted:
    """What a request wants a stack to be."""

    text: str
    template: Mapping[str, Any]
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
    events: list[Event] = field(default_factory=list)
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
        self.events.append(Event(resource.logical_id, resource.physical_id, resource.kind, status, reason))

    def become(self, status: str, reason: str = "") -> None:
        """The stack has come into a state."""
        with self.lock:
            self.status, self.reason = status, reason
            self.events.append(Event(self.name, self.id, STACK, status, reason))
            if status == GONE:
                self.deleted = datetime.now(UTC)
