"""The work on one stack: creation, update and deletion, each with what happens when a resource fails.

What AWS does resource by resource is done here in the same order and leaves the same events (CloudFormation user
guide, "Stack events", "DeletionPolicy attribute"). Resources are made one after the other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from graphlib import CycleError, TopologicalSorter
from typing import NoReturn

from cloudknot.aws.door import Door
from cloudknot.local.cloudformation.records import (
    GONE,
    Properties,
    Resource,
    ResourceDeclaration,
    ResourceError,
    StackRecord,
    ValidationError,
    Wanted,
)
from cloudknot.local.cloudformation.resource_types import RESOURCE_TYPES, ResourceType, UpdatableType
from cloudknot.local.cloudformation.services import Services
from cloudknot.local.cloudformation.template import Resolver, references

CUSTOM_NAMED = (
    "CloudFormation cannot update a stack when a custom-named resource requires replacing. "
    "Rename {name} and update the stack again."
)


def check(wanted: Wanted, pseudo: Mapping[str, str]) -> None:
    """Refuse a template with unknown kinds, missing references or a circle, before anything is begun."""
    resources = wanted.template["Resources"]
    if unknown := sorted({one.get("Type", "") for one in resources.values()} - set(RESOURCE_TYPES)):
        raise ValidationError(f"Template format error: Unrecognized resource types: [{', '.join(unknown)}]")
    known = {*resources, *wanted.parameters, *pseudo, "AWS::NoValue"}
    missing = {name for one in resources.values() for name in references(one)} - known
    if missing:
        raise ValidationError(
            f"Template format error: Unresolved resource dependencies [{', '.join(sorted(missing))}] "
            "in the Resources block of the template"
        )
    order(resources)


def order(resources: Mapping[str, ResourceDeclaration]) -> list[str]:
    """The logical ids, each behind those that it depends on."""
    graph = {name: [other for other in _dependencies(one) if other in resources] for name, one in resources.items()}
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        circle = ", ".join(dict.fromkeys(error.args[1]))
        raise ValidationError(f"Circular dependency between resources: [{circle}]") from error


def _dependencies(resource: ResourceDeclaration) -> list[str]:
    explicit = resource.get("DependsOn", [])
    return [*([explicit] if isinstance(explicit, str) else explicit), *references(resource.get("Properties", {}))]


class Deployment:
    """One operation on a stack.

    Parameters
    ----------
    record : StackRecord
    door : Door
        Signs with the key of whoever asked.
    pseudo : mapping
        The values of ``AWS::Region`` and so on.
    """

    def __init__(self, record: StackRecord, door: Door, pseudo: Mapping[str, str]) -> None:
        self._record, self._door, self._pseudo = record, door, pseudo

    def create(self) -> None:
        """Make every resource; when one fails, delete those that were made."""
        with self._record.work:
            try:
                for name in self._active(self._record.wanted):
                    if self._record.unwanted:
                        return
                    self._make(name, self._record.wanted)
                self._record.outputs = self._outputs(self._record.wanted)
            except ResourceError as error:
                self._roll_back_creation(error)
            else:
                self._come_into("CREATE_COMPLETE")

    def _come_into(self, status: str, reason: str = "") -> bool:
        """Have the stack come into a state, unless somebody has begun to delete it: then that goes on."""
        with self._record.lock:
            if not self._record.unwanted:
                self._record.become(status, reason)
            return not self._record.unwanted

    def _roll_back_creation(self, error: ResourceError) -> None:
        names = error.args[1] if len(error.args) > 1 else ""
        failed = f"The following resource(s) failed to create: [{names}]. Rollback requested by user."
        if not self._come_into("ROLLBACK_IN_PROGRESS", failed):
            return
        left = self._delete_all(self._record.resources.values(), kept=("Retain",))
        self._record.become("ROLLBACK_FAILED" if left else "ROLLBACK_COMPLETE", _failed_to_delete(left))

    def delete(self) -> None:
        """Delete every resource, in the reverse order of their dependencies."""
        with self._record.work:
            left = self._delete_all(self._record.resources.values(), kept=("Retain", "RetainExceptOnCreate"))
            self._record.become("DELETE_FAILED" if left else GONE, _failed_to_delete(left))

    def changes(self, wanted: Wanted) -> bool:
        """Whether an update would change a resource, or the tags. Outputs alone are not updated (CloudFormation user
        guide, "Outputs"), and of the text of a template only what comes of it counts."""
        there = self._record.resources
        try:
            active = self._active(wanted)
            same = set(active) == set(there) and all(
                self._properties(name, wanted) == there[name].properties for name in active
            )
        except ResourceError:
            return True
        return not same or wanted.tags != self._record.wanted.tags

    def update(self, wanted: Wanted) -> None:
        """Make, change and replace resources; when one fails, bring back how it was."""
        undo: list[Callable[[], None]] = []
        old: list[Resource] = []
        with self._record.work:
            try:
                active = self._active(wanted)
                for name in active:
                    self._bring_up_to_date(name, wanted, undo, old)
                outputs = self._outputs(wanted)
            except ResourceError as error:
                self._roll_back_update(error, undo)
                return
            self._record.wanted, self._record.outputs, self._record.updated = wanted, outputs, datetime.now(UTC)
            self._record.become("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
            dropped = [one for name, one in self._record.resources.items() if name not in active]
            self._delete_all([*dropped, *old], kept=("Retain", "RetainExceptOnCreate"))
            self._record.become("UPDATE_COMPLETE")

    def _roll_back_update(self, error: ResourceError, undo: list[Callable[[], None]]) -> None:
        names = error.args[1] if len(error.args) > 1 else ""
        failed = f"The following resource(s) failed to update: [{names}]."
        self._record.become("UPDATE_ROLLBACK_IN_PROGRESS", failed)
        try:
            for step in reversed(undo):
                step()
        except ResourceError as second:
            self._record.become("UPDATE_ROLLBACK_FAILED", str(second.args[0]))
        else:
            self._record.become("UPDATE_ROLLBACK_COMPLETE")

    def _bring_up_to_date(
        self, name: str, wanted: Wanted, undo: list[Callable[[], None]], old: list[Resource]
    ) -> None:
        before = self._record.resources.get(name)
        if before is None:
            made = self._make(name, wanted)
            undo.append(lambda: self._take_back(made, None))
            return
        properties = self._properties(name, wanted)
        if properties == before.properties:
            return
        kind = RESOURCE_TYPES[before.kind]
        changed = {
            key for key in {*properties, *before.properties} if properties.get(key) != before.properties.get(key)
        }
        if isinstance(kind, UpdatableType) and changed <= kind.in_place:
            undo.append(lambda: self._change(kind, before, before.properties))
            self._change(kind, before, properties)
            return
        if kind.name in properties and kind.name not in changed and not kind.renewed_by_name:
            self._fail(before, "UPDATE_FAILED", CUSTOM_NAMED.format(name=properties[kind.name]))
        made = self._make(name, wanted, "UPDATE")
        undo.append(lambda: self._take_back(made, before))
        if not kind.survives_renewal(before.properties):
            old.append(before)

    def _change(self, kind: UpdatableType, before: Resource, properties: Properties) -> None:
        current = self._record.resources[before.logical_id]
        self._record.note(current, "UPDATE_IN_PROGRESS")
        try:
            made = kind.update(self._services(before.logical_id), current, properties)
        except ResourceError as error:
            self._fail(current, "UPDATE_FAILED", str(error))
        changed = replace(current, properties=properties, attributes=made.attributes)
        self._record.resources[before.logical_id] = changed
        self._record.note(changed, "UPDATE_COMPLETE")

    def _take_back(self, made: Resource, before: Resource | None) -> None:
        if left := self._delete_all([made], kept=()):
            raise ResourceError(_failed_to_delete(left))
        if before is not None:
            self._record.resources[before.logical_id] = before

    def _make(self, name: str, wanted: Wanted, verb: str = "CREATE") -> Resource:
        declared = wanted.template["Resources"][name]
        kind, policy = declared["Type"], declared.get("DeletionPolicy", "Delete")
        begun = Resource(name, kind, {}, "", {}, policy)
        self._record.note(begun, f"{verb}_IN_PROGRESS")
        services = self._services(name)
        try:
            properties = self._properties(name, wanted)
            made = RESOURCE_TYPES[kind].create(services, properties)
        except ResourceError as error:
            if services.begun is not None:
                half = Resource(name, kind, properties, services.begun.physical_id, services.begun.attributes)
                self._undo_half(half)
            self._fail(begun, f"{verb}_FAILED", str(error))
        resource = Resource(name, kind, properties, made.physical_id, made.attributes, policy)
        self._record.resources[name] = resource
        self._record.note(resource, f"{verb}_COMPLETE")
        return resource

    def _undo_half(self, resource: Resource) -> None:
        """Delete what was made but not finished; if that fails, it stays the stack's, to be deleted with it."""
        if not self._delete(resource, RESOURCE_TYPES[resource.kind]):
            self._record.resources.setdefault(resource.logical_id, resource)

    def _fail(self, resource: Resource, status: str, reason: str) -> NoReturn:
        self._record.note(resource, status, reason)
        raise ResourceError(reason, resource.logical_id)

    def _delete_all(self, resources: Iterable[Resource], kept: tuple[str, ...]) -> list[str]:
        """Delete resources, the last made first; gives the logical ids of those that stayed."""
        left = []
        for resource in reversed(list(resources)):
            if resource.policy in kept:
                self._record.note(resource, "DELETE_SKIPPED")
            elif not self._delete(resource, RESOURCE_TYPES[resource.kind]):
                left.append(resource.logical_id)
                continue
            if self._record.resources.get(resource.logical_id) is resource:
                del self._record.resources[resource.logical_id]
        return left

    def _delete(self, resource: Resource, kind: ResourceType) -> bool:
        self._record.note(resource, "DELETE_IN_PROGRESS")
        try:
            kind.delete(self._services(resource.logical_id), resource)
        except ResourceError as error:
            self._record.note(resource, "DELETE_FAILED", str(error))
            return False
        self._record.note(resource, GONE)
        return True

    def _active(self, wanted: Wanted) -> list[str]:
        resources = wanted.template["Resources"]
        resolver = self._resolver(wanted)
        return [name for name in order(resources) if resolver.condition(resources[name].get("Condition"))]

    def _properties(self, name: str, wanted: Wanted) -> Properties:
        properties = wanted.template["Resources"][name].get("Properties", {})
        try:
            return self._resolver(wanted).members(properties)
        except ValidationError as error:
            raise ResourceError(str(error)) from error

    def _outputs(self, wanted: Wanted) -> dict[str, str]:
        resolver = self._resolver(wanted)
        declared = wanted.template.get("Outputs", {})
        return {
            name: str(resolver.value(one["Value"]))
            for name, one in declared.items()
            if resolver.condition(one.get("Condition"))
        }

    def _resolver(self, wanted: Wanted) -> Resolver:
        return Resolver(wanted.template, {**self._pseudo, **wanted.parameters}, self._look_up)

    def _look_up(self, name: str, attribute: str) -> str:
        resource = self._record.resources.get(name)
        if resource is None:
            raise ResourceError(f"Unresolved resource dependency {name}")
        if not attribute:
            return resource.physical_id
        if attribute not in resource.attributes:
            raise ResourceError(f"Requested attribute {attribute} does not exist in schema for {resource.kind}")
        return resource.attributes[attribute]

    def _services(self, logical_id: str) -> Services:
        return Services(self._door, self._record.name, logical_id)


def run(work: Callable[[], None], record: StackRecord) -> None:
    """An operation as a thread has it: whatever happens, the stack ends in a state that can be deleted."""
    try:
        work()
    except Exception as error:
        logging.getLogger(__name__).exception("The work on the stack %s failed", record.name)
        verb = record.status.partition("_")[0]
        record.become(
            "UPDATE_ROLLBACK_FAILED" if verb == "UPDATE" else f"{verb}_FAILED", f"Internal Failure: {error!r}"
        )


def _failed_to_delete(names: list[str]) -> str:
    return f"The following resource(s) failed to delete: [{', '.join(names)}]." if names else ""
