"""The resource handlers: they create, update, delete and read the resources of each kind in the table.

They use the public APIs of the services only.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from cloudknot.local.cloudformation.kinds import KINDS, ResourceType
from cloudknot.local.cloudformation.records import Properties, Resource
from cloudknot.local.cloudformation.services import CreatedResource, Services
from cloudknot.local.cloudformation.steps import only, tag_changes, without


def create(services: Services, kind_name: str, properties: Properties) -> CreatedResource:
    """Create a resource. `Services.created` is set by the first call that leaves something to delete."""
    kind = KINDS[kind_name]
    if not kind.service:
        return services.mark_created(f"https://cloudformation/{uuid.uuid4()}")
    arguments = {kind.renamed.get(name, name): value for name, value in without(properties, *kind.apart).items()}
    if kind.name:
        arguments[kind.name] = planned_name(services, kind, properties)
    if kind.tags and (tags := arguments.pop("Tags", None)):
        arguments["TagSpecifications"] = [{"ResourceType": kind.tags, "Tags": tags}]
    known = {**arguments, **services.call(kind.service, kind.create, arguments)}
    created = services.mark_created(kind.id.format_map(known), _filled(kind.attributes, known))
    kind.settle(services, created.physical_id, {}, properties)
    return created


def update(services: Services, resource: Resource, properties: Properties) -> CreatedResource:
    """Set the properties that change in place to their new values."""
    kind, attributes = KINDS[resource.kind], resource.attributes
    if kind.update:
        arguments = {**_key(kind, resource), **only(properties, kind.updated)}
        if "Tags" in kind.updated:
            # Without the argument, the resource would keep its tags.
            arguments["Tags"] = properties.get("Tags", [])
        answer = services.call(kind.service, kind.update, arguments)
        attributes = {**attributes, **_filled(kind.updated_attributes, answer)}
    kind.settle(services, resource.physical_id, resource.properties, properties)
    if kind.tags:
        removed, changed = tag_changes(resource.properties, properties)
        if removed:
            keys = [{"Key": key} for key in removed]
            services.call("ec2", "DeleteTags", {"Resources": [resource.physical_id], "Tags": keys})
        if changed:
            services.call("ec2", "CreateTags", {"Resources": [resource.physical_id], "Tags": properties["Tags"]})
    return CreatedResource(resource.physical_id, attributes)


def delete(services: Services, resource: Resource) -> None:
    """Delete a resource. A missing resource is no error."""
    kind = KINDS[resource.kind]
    kind.empty(services, resource.physical_id, resource.properties, {})
    if kind.service:
        services.delete(kind.service, kind.delete, _key(kind, resource))


def planned_name(services: Services, kind: ResourceType, properties: Properties) -> str:
    """Return the name in the properties, or a new one."""
    return properties.get(kind.name) or services.new_name(kind.longest_name)


def planned_id(services: Services, kind_name: str, properties: Properties) -> str:
    """Return the id by which a resource can be deleted before the answer to its creation; empty if there is none.

    Without one, its service recognises the repeated calls of an interrupted creation.
    """
    kind = KINDS[kind_name]
    return planned_name(services, kind, properties) if kind.name_is_enough else ""


def outlives_replacement(properties: Properties) -> bool:
    """Return whether a resource stays after its replacement."""
    policy: Properties = properties.get("ResourceRetentionPolicy", {})
    return str(policy.get("SkipDeregisterOnUpdate", False)).lower() == "true"


def _key(kind: ResourceType, resource: Resource) -> Properties:
    """Return the arguments that name a resource."""
    if len(kind.key) > 1:
        return only(resource.properties, kind.key)
    [name] = kind.key
    # EC2 deletes several endpoints in one call.
    return {name: [resource.physical_id] if name.endswith("Ids") else resource.physical_id}


def _filled(formats: Mapping[str, str], known: Properties) -> dict[str, str]:
    return {name: text.format_map(known) for name, text in formats.items()}
