"""StackStore: the records of stacks in the cloud's database."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from cloudknot.local.cloudformation.records import (
    DELETED,
    Creation,
    Resource,
    StackEvent,
    StackRecord,
    StackSpec,
    UndoStep,
)
from cloudknot.local.directory.database import Database
from cloudknot.local.directory.documents import CALLS, Document, Documents

DELETED_KEPT = 100
"""Deleted stacks whose records are kept. AWS keeps them for 90 days."""
_TIMES = ("created", "updated", "deleted")
_PLAIN = ("name", "id", "status", "reason", "outputs", "deletion_requested", "access_key")


class StackStore:
    """The stacks that survive the server, also deleted ones.

    Parameters
    ----------
    database : Database
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._documents, self._calls = Documents(database, "stack"), Documents(database, CALLS)
        self._tokens: dict[str, str] = {}

    def load(self) -> dict[str, StackRecord]:
        """Return all stacks by their ids, the oldest first. Forget the oldest of the deleted ones."""
        documents = dict(self._documents.items())
        deleted = [name for name, document in documents.items() if document["status"] == DELETED]
        for name in deleted[:-DELETED_KEPT]:
            del documents[name], self._documents[name]
        records = {name: _record(document, self.save) for name, document in documents.items()}
        self._tokens = {name: record.creation.token for name, record in records.items() if record.creation}
        return records

    def save(self, record: StackRecord) -> None:
        """Store a stack. It is on the disk when this returns."""
        token = record.creation.token if record.creation else ""
        with record.lock, self._database.transaction():
            # Nobody repeats the calls of a finished creation.
            if (before := self._tokens.get(record.id, token)) != token:
                self._calls.delete_all(before)
            self._tokens[record.id] = token
            self._documents[record.id] = {
                **{name: getattr(record, name) for name in _PLAIN},
                **{name: _text(getattr(record, name)) for name in _TIMES},
                "spec": _spec(record.spec),
                "resources": [_resource(resource) for resource in record.resources.values()],
                "events": [{**asdict(event), "time": _text(event.time)} for event in record.events],
                "rollback": [
                    {
                        "logical_id": step.logical_id,
                        "created": _resource(step.created) if step.created else None,
                        "before": _resource(step.before) if step.before else None,
                        "attempted": step.attempted,
                    }
                    for step in record.rollback
                ],
                "superseded": [_resource(resource) for resource in record.superseded],
                "creation": asdict(record.creation) if record.creation else None,
            }


def _record(document: Document, save: Callable[[StackRecord], None]) -> StackRecord:
    resources = [_loaded(resource) for resource in document["resources"]]
    return StackRecord(
        **{name: document[name] for name in _PLAIN},
        **{name: _time(document[name]) for name in _TIMES},
        spec=StackSpec(**document["spec"]),
        resources={resource.logical_id: resource for resource in resources},
        events=[StackEvent(**{**event, "time": _time(event["time"])}) for event in document["events"]],
        rollback=[
            UndoStep(
                step["logical_id"],
                _loaded(step["created"]) if step["created"] else None,
                _loaded(step["before"]) if step["before"] else None,
                step["attempted"],
            )
            for step in document["rollback"]
        ],
        superseded=[_loaded(resource) for resource in document["superseded"]],
        creation=Creation(**document["creation"]) if document["creation"] else None,
        save=save,
    )


def _spec(spec: StackSpec) -> Document:
    # With the parsed template: parsing YAML takes longer than all the rest. A date in it becomes a text.
    template = json.loads(json.dumps(spec.template, default=str))
    return {"text": spec.text, "template": template, "parameters": dict(spec.parameters), "tags": dict(spec.tags)}


def _resource(resource: Resource) -> Document:
    return {**vars(resource), "changed": _text(resource.changed)}


def _loaded(document: Mapping[str, Any]) -> Resource:
    return Resource(**{**document, "changed": _time(document["changed"])})


def _text(time: datetime | None) -> str | None:
    return time.isoformat() if time else None


def _time(text: str | None) -> Any:
    return datetime.fromisoformat(text) if text else None
