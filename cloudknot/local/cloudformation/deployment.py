"""The operations on a stack: creation, update and deletion, and the rollback after a failure.

They handle resources in AWS's order and report the same events (CloudFormation user guide, "Stack events" and
"DeletionPolicy attribute"). Unlike AWS, they handle one resource at a time.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from graphlib import CycleError, TopologicalSorter
from typing import NoReturn

from cloudknot.local.cloudformation import handlers
from cloudknot.local.cloudformation.calls import StackCalls
from cloudknot.local.cloudformation.kinds import KINDS
from cloudknot.local.cloudformation.reads import reads
from cloudknot.local.cloudformation.records import (
    DELETED,
    Creation,
    Properties,
    Resource,
    ResourceDeclaration,
    ResourceError,
    StackRecord,
    StackSpec,
    UndoStep,
    ValidationError,
)
from cloudknot.local.cloudformation.services import Services
from cloudknot.local.cloudformation.template import Resolver, references

CUSTOM_NAMED = (
    "CloudFormation cannot update a stack when a custom-named resource requires replacing. "
    "Rename {name} and update the stack again."
)


def check(spec: StackSpec, pseudo_parameters: Mapping[str, str]) -> None:
    """Refuse a template with unknown resource types, unresolved references or circular dependencies."""
    resources = spec.template["Resources"]
    if unknown := sorted({resource.get("Type", "") for resource in resources.values()} - set(KINDS)):
        raise ValidationError(f"Template format error: Unrecognized resource types: [{', '.join(unknown)}]")
    names = {*resources, *spec.parameters, *pseudo_parameters, "AWS::NoValue"}
    missing = {name for resource in resources.values() for name in references(resource)} - names
    if missing:
        raise ValidationError(
            f"Template format error: Unresolved resource dependencies [{', '.join(sorted(missing))}] "
            "in the Resources block of the template"
        )
    order(resources)


def order(resources: Mapping[str, ResourceDeclaration]) -> list[str]:
    """Return the logical ids of the resources, each one after its dependencies."""
    # References include parameters. These need no order.
    graph = {
        name: [dependency for dependency in _dependencies(resource) if dependency in resources]
        for name, resource in resources.items()
    }
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        cycle = ", ".join(dict.fromkeys(error.args[1]))
        raise ValidationError(f"Circular dependency between resources: [{cycle}]") from error


def _dependencies(resource: ResourceDeclaration) -> list[str]:
    explicit = resource.get("DependsOn", [])
    return [*([explicit] if isinstance(explicit, str) else explicit), *references(resource.get("Properties", {}))]


class Deployment:
    """One operation on a stack.

    Parameters
    ----------
    record : StackRecord
    calls : StackCalls
        Makes calls with the key of the caller who requested the operation.
    pseudo_parameters : mapping
        The values of ``AWS::Region`` and the like.
    reads : bool
        Whether to make the handlers' reads, too. They can only fail for a caller with limited permissions.
    """

    def __init__(
        self, record: StackRecord, calls: StackCalls, pseudo_parameters: Mapping[str, str], *, reads: bool = True
    ) -> None:
        self._record, self._calls, self._pseudo_parameters = record, calls, pseudo_parameters
        self._reads = reads

    def create(self) -> None:
        """Create all resources. If one fails, delete those that were created."""
        with self._record.work:
            try:
                for name in self._active(self._record.spec):
                    # The creation of a stack goes on after the end of the server.
                    if name in self._record.resources:
                        continue
                    # The thread of the deletion waits for `record.work`, and deletes the resources created so far.
                    if self._record.deletion_requested:
                        return
                    self._create_resource(name, self._record.spec)
                self._record.outputs = self._outputs(self._record.spec)
            except ResourceError as error:
                self._roll_back_creation(error)
            else:
                self._set_status("CREATE_COMPLETE")

    def _set_status(self, status: str, reason: str = "") -> bool:
        """Set the status of the stack and return True. Do nothing and return False if its deletion was requested."""
        with self._record.lock:
            if not self._record.deletion_requested:
                self._record.set_status(status, reason)
            return not self._record.deletion_requested

    def _roll_back_creation(self, error: ResourceError) -> None:
        names = error.args[1] if len(error.args) > 1 else ""
        reason = f"The following resource(s) failed to create: [{names}]. Rollback requested by user."
        if self._set_status("ROLLBACK_IN_PROGRESS", reason):
            self._delete_created()

    def _delete_created(self) -> None:
        # RetainExceptOnCreate keeps a resource in every deletion but this one.
        remaining = self._delete_all(self._record.resources.values(), retained=("Retain",))
        self._record.set_status("ROLLBACK_FAILED" if remaining else "ROLLBACK_COMPLETE", _failed_to_delete(remaining))

    def delete(self) -> None:
        """Delete all resources, in the reverse order of their dependencies."""
        with self._record.work:
            remaining = self._delete_all(self._record.resources.values(), retained=("Retain", "RetainExceptOnCreate"))
            self._record.set_status("DELETE_FAILED" if remaining else DELETED, _failed_to_delete(remaining))

    def has_changes(self, spec: StackSpec) -> bool:
        """Return whether an update to ``spec`` would change a resource, its metadata or the tags."""
        # As on AWS, a change of outputs alone is no update (CloudFormation user guide, "Outputs"). The text of the
        # template does not count either, only the resources that result from it.
        existing = self._record.resources
        try:
            active = self._active(spec)
            same = set(active) == set(existing) and all(
                self._properties(name, spec) == existing[name].properties for name in active
            )
        # An expression that refers to a new resource has no value yet.
        except ResourceError:
            return True
        before = self._record.spec
        return not same or spec.tags != before.tags or self._metadata(spec) != self._metadata(before)

    def update(self, spec: StackSpec) -> None:
        """Create, change and replace resources. If one fails, restore the previous state."""
        undo, replaced = self._record.rollback, self._record.superseded
        undo.clear()
        replaced.clear()
        with self._record.work:
            try:
                active = self._active(spec)
                for name in active:
                    self._update_resource(name, spec, undo, replaced)
                outputs = self._outputs(spec)
            except ResourceError as error:
                self._roll_back_update(error)
                return
            self._record.spec, self._record.outputs, self._record.updated = spec, outputs, datetime.now(UTC)
            # Deletions come last, after the last step that can fail: a deleted resource could not be restored.
            removed = [resource for name, resource in self._record.resources.items() if name not in active]
            self._record.superseded = [*removed, *replaced]
            self._record.set_status("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
            self._clean_up()

    def _clean_up(self) -> None:
        """Delete the resources that an update has removed or replaced."""
        self._delete_all(self._record.superseded, retained=("Retain", "RetainExceptOnCreate"))
        self._record.superseded = []
        self._record.set_status("UPDATE_COMPLETE")

    def resume(self) -> None:
        """Finish an operation that the end of the server has interrupted, or roll it back."""
        status = self._record.status
        if status == "CREATE_IN_PROGRESS":
            self.create()
        elif status == "DELETE_IN_PROGRESS":
            self.delete()
        elif status == "ROLLBACK_IN_PROGRESS":
            with self._record.work:
                self._delete_created()
        elif status == "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS":
            with self._record.work:
                self._clean_up()
        elif status == "UPDATE_IN_PROGRESS":
            with self._record.work:
                self._roll_back_update(ResourceError("The embedded cloud ended during the update"))
        else:
            self.continue_rollback(frozenset())

    def finish_creation(self) -> None:
        """Delete the resource whose creation the end of the server has interrupted."""
        # Its calls so far are repeated first, by which the services report what they made.
        begun = self._record.creation
        if begun is None:
            return
        services = Services(self._calls, self._record.name, begun.logical_id, begun.token)
        physical_id = handlers.planned_id(services, begun.kind, begun.properties)
        made = Resource(begun.logical_id, begun.kind, begun.properties, physical_id, {})
        try:
            if made.physical_id:
                handlers.delete(services, made)
            else:
                created = handlers.create(services, begun.kind, begun.properties)
                handlers.delete(services, replace(made, physical_id=created.physical_id))
        except ResourceError as error:
            if services.created is not None:
                self._delete_partial(replace(made, physical_id=services.created.physical_id))
            logging.getLogger(__name__).warning("The resource %s was not cleaned up: %s", begun.logical_id, error)
        self._record.creation = None

    def _roll_back_update(self, error: ResourceError) -> None:
        names = error.args[1] if len(error.args) > 1 else ""
        reason = f"The following resource(s) failed to update: [{names}]."
        self._record.set_status("UPDATE_ROLLBACK_IN_PROGRESS", reason)
        self._undo(frozenset())

    def continue_rollback(self, skipped: Collection[str]) -> None:
        """Undo the rest of an update, except for the resources with the logical ids ``skipped``."""
        with self._record.work:
            self._undo(skipped)

    def _undo(self, skipped: Collection[str]) -> None:
        steps = self._record.rollback
        try:
            while steps:
                step = steps[-1]
                if step.logical_id in skipped:
                    self._record.set_resource_status(self._record.resources[step.logical_id], "UPDATE_COMPLETE")
                elif step.created is not None:
                    self._restore(step.created, step.before)
                elif step.before is not None:
                    self._record.resources[step.logical_id] = replace(
                        self._record.resources[step.logical_id], properties=step.attempted
                    )
                    self._update_in_place(step.before, step.before.properties)
                steps.pop()
                self._record.save(self._record)
        except ResourceError as error:
            self._record.set_status("UPDATE_ROLLBACK_FAILED", str(error.args[0]))
        else:
            self._record.set_status("UPDATE_ROLLBACK_COMPLETE")

    def _update_resource(self, name: str, spec: StackSpec, undo: list[UndoStep], replaced: list[Resource]) -> None:
        """Create, update or replace one resource. Append the step of a rollback to ``undo``."""
        before = self._record.resources.get(name)
        if before is None:
            self._create_resource(name, spec, undo=undo)
            return
        properties = self._properties(name, spec)
        if properties == before.properties:
            return
        kind = KINDS[before.kind]
        changed = {
            key for key in {*properties, *before.properties} if properties.get(key) != before.properties.get(key)
        }
        if changed <= kind.in_place:
            # Appended before the change, because an update that fails may have been applied in part.
            undo.append(UndoStep(name, None, before, properties))
            self._update_in_place(before, properties)
            return
        # The replacement exists beside the old resource for a while, and two resources cannot have the same name.
        if kind.name in properties and kind.name not in changed and not kind.has_revisions:
            self._fail(before, "UPDATE_FAILED", CUSTOM_NAMED.format(name=properties[kind.name]))
        self._create_resource(name, spec, "UPDATE", undo)
        if not handlers.outlives_replacement(before.properties):
            replaced.append(before)
        self._record.save(self._record)

    def _update_in_place(self, before: Resource, properties: Properties) -> None:
        current = self._record.resources[before.logical_id]
        self._record.set_resource_status(current, "UPDATE_IN_PROGRESS")
        try:
            updated = handlers.update(self._services(before.logical_id), current, properties)
            changed = replace(current, properties=properties, attributes=updated.attributes)
            self._read("update", changed)
        except ResourceError as error:
            self._fail(current, "UPDATE_FAILED", str(error))
        self._record.resources[before.logical_id] = changed
        self._record.set_resource_status(changed, "UPDATE_COMPLETE")

    def _restore(self, created: Resource, before: Resource | None) -> None:
        """Delete a created resource, and put the one before it back."""
        if remaining := self._delete_all([created], retained=()):
            raise ResourceError(_failed_to_delete(remaining))
        if before is not None:
            self._record.resources[before.logical_id] = before

    def _create_resource(
        self, name: str, spec: StackSpec, verb: str = "CREATE", undo: list[UndoStep] | None = None
    ) -> None:
        declaration = spec.template["Resources"][name]
        kind, policy = declaration["Type"], declaration.get("DeletionPolicy", "Delete")
        # The first event of a resource has neither a physical id nor properties.
        planned = Resource(name, kind, {}, "", {}, policy)
        self._record.set_resource_status(planned, f"{verb}_IN_PROGRESS")
        token = secrets.token_hex(16)
        services = Services(self._calls, self._record.name, name, token)
        try:
            properties = self._properties(name, spec)
            # Stored before the first call, so that nothing half-made is left if the server ends during it.
            self._record.creation = Creation(name, kind, properties, token)
            self._record.save(self._record)
            created = handlers.create(services, kind, properties)
            resource = Resource(name, kind, properties, created.physical_id, created.attributes, policy)
            self._read("create", resource)
        except ResourceError as error:
            if services.created is not None:
                partial = Resource(name, kind, properties, services.created.physical_id, services.created.attributes)
                self._delete_partial(partial)
            self._record.creation = None
            self._fail(planned, f"{verb}_FAILED", str(error))
        # Stored together with the resource: without its step, a rollback would leave the resource behind.
        if undo is not None:
            undo.append(UndoStep(name, resource, self._record.resources.get(name)))
        self._record.creation = None
        self._record.resources[name] = resource
        self._record.set_resource_status(resource, f"{verb}_COMPLETE")

    def _delete_partial(self, resource: Resource) -> None:
        """Delete a resource that was created in part. If that fails, keep it in the stack, to be deleted with it."""
        if not self._delete(resource):
            self._record.resources.setdefault(resource.logical_id, resource)

    def _fail(self, resource: Resource, status: str, reason: str) -> NoReturn:
        self._record.set_resource_status(resource, status, reason)
        # The reason of the stack's rollback names the resource by its logical id.
        raise ResourceError(reason, resource.logical_id)

    def _delete_all(self, resources: Iterable[Resource], retained: tuple[str, ...]) -> list[str]:
        """Delete resources, the newest first, except those with a ``retained`` DeletionPolicy.

        Return the logical ids of the resources that could not be deleted.
        """
        remaining = []
        # As on AWS, a resource stays untouched as long as another one depends on it.
        needed: set[str] = set()
        for resource in reversed(list(resources)):
            if resource.logical_id in needed:
                needed |= self._dependencies_of(resource)
                continue
            if resource.policy in retained:
                self._record.set_resource_status(resource, "DELETE_SKIPPED")
            elif not self._delete(resource):
                remaining.append(resource.logical_id)
                needed |= self._dependencies_of(resource)
                continue
            # After a replacement, the logical id belongs to the new resource already.
            current = self._record.resources.get(resource.logical_id)
            if current is not None and current.physical_id == resource.physical_id:
                del self._record.resources[resource.logical_id]
            self._record.save(self._record)
        return remaining

    def _dependencies_of(self, resource: Resource) -> set[str]:
        declaration = self._record.spec.template["Resources"].get(resource.logical_id)
        return set(_dependencies(declaration)) if declaration else set()

    def _delete(self, resource: Resource) -> bool:
        self._record.set_resource_status(resource, "DELETE_IN_PROGRESS")
        try:
            self._read("delete", resource)
            handlers.delete(self._services(resource.logical_id), resource)
        except ResourceError as error:
            self._record.set_resource_status(resource, "DELETE_FAILED", str(error))
            return False
        self._record.set_resource_status(resource, DELETED)
        return True

    def _read(self, operation: str, resource: Resource) -> None:
        """Make the reads of the resource's handler around an operation. Raise `ResourceError` if one is denied."""
        if not self._reads:
            return
        services = self._services(resource.logical_id)
        place = f"{self._pseudo_parameters['AWS::Region']}:{self._pseudo_parameters['AWS::AccountId']}"
        for service, name, arguments in reads(operation, resource, place):
            services.read(service, name, arguments)

    def _active(self, spec: StackSpec) -> list[str]:
        """Return the logical ids of the resources with a true condition, in the order of their dependencies."""
        resources = spec.template["Resources"]
        resolver = self._resolver(spec)
        return [name for name in order(resources) if resolver.condition(resources[name].get("Condition"))]

    def _metadata(self, spec: StackSpec) -> dict[str, object]:
        resources, resolver = spec.template["Resources"], self._resolver(spec)
        return {name: resolver.value(resources[name].get("Metadata", {})) for name in self._active(spec)}

    def _properties(self, name: str, spec: StackSpec) -> Properties:
        properties = spec.template["Resources"][name].get("Properties", {})
        try:
            return self._resolver(spec).members(properties)
        except ValidationError as error:
            raise ResourceError(str(error)) from error

    def _outputs(self, spec: StackSpec) -> dict[str, str]:
        resolver = self._resolver(spec)
        declarations = spec.template.get("Outputs", {})
        return {
            name: str(resolver.value(declaration["Value"]))
            for name, declaration in declarations.items()
            if resolver.condition(declaration.get("Condition"))
        }

    def _resolver(self, spec: StackSpec) -> Resolver:
        return Resolver(spec.template, {**self._pseudo_parameters, **spec.parameters}, self._look_up)

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
        return Services(self._calls, self._record.name, logical_id)


def run(work: Callable[[], None], record: StackRecord) -> None:
    """Run an operation on a stack in this thread. After any error, the stack is in a status that permits deletion."""
    try:
        work()
    # A bug must not leave the stack in progress. Its callers would wait forever, and could not delete it.
    except Exception as error:
        logging.getLogger(__name__).exception("The operation on the stack %s failed", record.name)
        verb = record.status.partition("_")[0]
        record.set_status(
            "UPDATE_ROLLBACK_FAILED" if verb == "UPDATE" else f"{verb}_FAILED", f"Internal Failure: {error!r}"
        )


def _failed_to_delete(names: list[str]) -> str:
    return f"The following resource(s) failed to delete: [{', '.join(names)}]." if names else ""
