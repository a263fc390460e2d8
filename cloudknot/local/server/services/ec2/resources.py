"""The resources of EC2 in the cloud's database: look-up, descriptions with filters, and tags."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from cloudknot.local.directory.database import Database
from cloudknot.local.directory.documents import Document, Documents
from cloudknot.local.iam.requests.operations import Operation, Request, page
from cloudknot.local.iam.requests.shapes import known
from cloudknot.local.server.services.service import with_tags, without_tags
from cloudknot.local.wsgi import Answer, ServiceError


@dataclass(frozen=True)
class ResourceKind:
    """A kind of resource. ``tag`` is its name for tags, ``rows`` that of its list in the answer of Describe."""

    tag: str
    prefix: str
    rows: str
    id: str
    missing: str
    words: str

    @property
    def describe(self) -> str:
        """The operation that describes resources of this kind."""
        return f"Describe{self.rows}"


KINDS = {
    kind.tag: kind
    for kind in (
        ResourceKind("vpc", "vpc", "Vpcs", "VpcId", "InvalidVpcID.NotFound", "vpc ID"),
        ResourceKind("subnet", "subnet", "Subnets", "SubnetId", "InvalidSubnetID.NotFound", "subnet ID"),
        ResourceKind(
            "internet-gateway",
            "igw",
            "InternetGateways",
            "InternetGatewayId",
            "InvalidInternetGatewayID.NotFound",
            "internetGateway ID",
        ),
        ResourceKind(
            "route-table", "rtb", "RouteTables", "RouteTableId", "InvalidRouteTableID.NotFound", "routeTable ID"
        ),
        ResourceKind(
            "vpc-endpoint", "vpce", "VpcEndpoints", "VpcEndpointId", "InvalidVpcEndpointId.NotFound", "VpcEndpoint Id"
        ),
        ResourceKind("security-group", "sg", "SecurityGroups", "GroupId", "InvalidGroup.NotFound", "security group"),
        ResourceKind(
            "launch-template",
            "lt",
            "LaunchTemplates",
            "LaunchTemplateId",
            "InvalidLaunchTemplateId.NotFound",
            "launch template ID",
        ),
        ResourceKind("key-pair", "key", "KeyPairs", "KeyPairId", "InvalidKeyPair.NotFound", "key pair"),
        ResourceKind("image", "ami", "Images", "ImageId", "InvalidAMIID.NotFound", "image id"),
    )
}
"""The kinds of resources (EC2 API reference, "Error codes for the Amazon EC2 API")."""
NONE = ("Instances", "NetworkAcls", "NetworkInterfaces", "Volumes", "VpcEncryptionControls", "VpnGateways")
"""Kinds of which the embedded cloud never has a resource: jobs run on this machine, in the network of this machine."""


def new_id(prefix: str) -> str:
    """Return a new id in EC2's form, for example ``"vpc-0123456789abcdef0"``."""
    return f"{prefix}-{secrets.token_hex(9)[:17]}"


def now() -> str:
    """Return the time in the form of AWS's answers."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


class Ec2Resources:
    """The resources of EC2.

    Parameters
    ----------
    database : Database
    """

    def __init__(self, database: Database) -> None:
        self.of = {tag: Documents(database, f"ec2:{tag}") for tag in KINDS}
        """The documents of each kind, by id. A document has the members of EC2's description."""
        self.operations: dict[str, Operation] = {
            **{kind.describe: partial(self._describe, kind) for kind in KINDS.values()},
            **{f"Describe{rows}": partial(self._none, rows) for rows in NONE},
            "CreateTags": self._create_tags,
            "DeleteTags": self._delete_tags,
            "DescribeTags": self._describe_tags,
        }

    def add(self, tag: str, document: Document, request: Request) -> Document:
        """Store a new resource with an id of its own, and the tags in a request to create it."""
        kind = KINDS[tag]
        identifier = new_id(kind.prefix)
        specifications = request.get("TagSpecifications", ())
        tags = [item for entry in specifications if entry["ResourceType"] == tag for item in entry.get("Tags", ())]
        stored = {kind.id: identifier, **document, "Tags": tags}
        self.of[tag][identifier] = stored
        return stored

    def get(self, tag: str, identifier: str) -> Document:
        """Return a resource; raise `ServiceError` if it is missing."""
        try:
            return self.of[tag][identifier]
        except KeyError as error:
            kind = KINDS[tag]
            raise ServiceError(kind.missing, f"The {kind.words} '{identifier}' does not exist") from error

    def put(self, tag: str, document: Document) -> None:
        """Store a changed resource."""
        self.of[tag][document[KINDS[tag].id]] = document

    def delete(self, tag: str, identifier: str) -> None:
        """Delete a resource; raise `ServiceError` if it is missing."""
        self.get(tag, identifier)
        del self.of[tag][identifier]

    def matching(self, tag: str, **values: object) -> list[Document]:
        """Return the resources whose members have these values."""
        return [item for item in self.of[tag].all() if values.items() <= item.items()]

    def _describe(self, kind: ResourceKind, request: Request) -> Answer:
        names = [value for name, value in request.items() if isinstance(value, list) and name.endswith("Ids")]
        rows = [self.get(kind.tag, identifier) for identifier in names[0]] if names else self.of[kind.tag].all()
        return described(kind.describe, kind.rows, rows, request)

    def _none(self, rows: str, request: Request) -> Answer:
        return {"Reservations" if rows == "Instances" else rows: []}

    def _create_tags(self, request: Request) -> Answer:
        for tag, document in self._tagged(request):
            self.put(tag, with_tags(document, "Tags", request))
        return {}

    def _delete_tags(self, request: Request) -> Answer:
        keys = {item["Key"] for item in request.get("Tags", ())}
        for tag, document in self._tagged(request):
            # Without tags in the request, all tags go.
            self.put(tag, without_tags(document, "Tags", keys or {item["Key"] for item in document["Tags"]}))
        return {}

    def _tagged(self, request: Request) -> Iterator[tuple[str, Document]]:
        tags = {kind.prefix: kind.tag for kind in KINDS.values()}
        for identifier in request["Resources"]:
            tag = tags.get(identifier.partition("-")[0])
            if tag is None:
                raise ServiceError("InvalidID", f"The ID '{identifier}' is not valid")
            yield tag, self.get(tag, identifier)

    def _describe_tags(self, request: Request) -> Answer:
        rows = [
            {"ResourceId": identifier, "ResourceType": tag, **item}
            for tag, documents in self.of.items()
            for identifier, document in documents.items()
            for item in document["Tags"]
        ]
        return described("DescribeTags", "Tags", rows, request)


def described(operation: str, rows: str, documents: Iterable[Document], request: Request) -> Answer:
    """Return one page of the documents that match the filters in a request."""
    shape = known("ec2", operation).output_shape.members[rows].member
    filters = [(item["Name"], item.get("Values", [])) for item in request.get("Filters", ())]
    found = [
        document for document in documents if all(_matches(document, shape, name, values) for name, values in filters)
    ]
    shown, token = page(found, request.get("NextToken"), request.get("MaxResults"))
    return {rows: shown, "NextToken": token}


def _matches(document: Document, shape: Any, name: str, values: list[str]) -> bool:
    if name.startswith("tag:"):
        found = [item["Value"] for item in document.get("Tags", ()) if item["Key"] == name[4:]]
    elif name == "tag-key":
        found = [item["Key"] for item in document.get("Tags", ())]
    else:
        found = [_text(value) for value in _values(document, shape, name.split("."), name)]
    return any(fnmatchcase(text, value) for text in found for value in values)


def _values(document: Mapping[str, Any], shape: Any, path: list[str], name: str) -> Iterator[object]:
    """Yield the values at a path such as ``["attachment", "vpc-id"]``, the form of members' names in filters."""
    word = "".join(part[:1].upper() + part[1:] for part in _ALIASES.get(path[0], path[0]).split("-"))
    member = next((each for each in (word, f"{word}s", f"{word}Set") if each in shape.members), None)
    if member is None:
        raise ServiceError("InvalidParameterValue", f"The filter '{name}' is invalid")
    inner = shape.members[member]
    value = document.get(member)
    items = value if inner.type_name == "list" else [value]
    inner = inner.member if inner.type_name == "list" else inner
    for item in items or ():
        if len(path) > 1 and item is not None:
            yield from _values(item, inner, path[1:], name)
        elif item is not None:
            yield item


_ALIASES = {"cidr": "cidr-block"}
"""Names in filters that differ from the members."""


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
