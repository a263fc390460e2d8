"""EC2's security groups, with their rules."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from cloudknot.local.directory.documents import Document
from cloudknot.local.directory.state import ACCOUNT
from cloudknot.local.iam.requests.operations import Operation, Request
from cloudknot.local.server.services.ec2.resources import Ec2Resources
from cloudknot.local.wsgi import Answer, ServiceError

_TARGETS = ("IpRanges", "Ipv6Ranges", "UserIdGroupPairs", "PrefixListIds")
_PORTS = ("IpProtocol", "FromPort", "ToPort")
EVERYTHING = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
_DIRECTIONS = {"Ingress": "IpPermissions", "Egress": "IpPermissionsEgress"}


class SecurityGroups:
    """The operations on security groups.

    Parameters
    ----------
    resources : Ec2Resources
    """

    def __init__(self, resources: Ec2Resources) -> None:
        self._resources = resources
        self.operations: dict[str, Operation] = {
            "CreateSecurityGroup": self._create,
            "DeleteSecurityGroup": self._delete,
            **{f"AuthorizeSecurityGroup{name}": partial(self._authorize, key) for name, key in _DIRECTIONS.items()},
            **{f"RevokeSecurityGroup{name}": partial(self._revoke, key) for name, key in _DIRECTIONS.items()},
        }

    def make(self, name: str, description: str, vpc: str, request: Request) -> Document:
        """Store a new group, which allows all connections to the outside."""
        document = {
            "GroupName": name,
            "Description": description,
            "VpcId": vpc,
            "OwnerId": ACCOUNT,
            "IpPermissions": [],
            "IpPermissionsEgress": list(_rules({"IpPermissions": [EVERYTHING]})),
        }
        return self._resources.add("security-group", document, request)

    def _create(self, request: Request) -> Answer:
        name, vpc = request["GroupName"], request.get("VpcId")
        if vpc is None:
            default = self._resources.matching("vpc", IsDefault=True)
            if not default:
                raise ServiceError("VPCIdNotSpecified", "No default VPC for this user")
            vpc = default[0]["VpcId"]
        self._resources.get("vpc", vpc)
        if self._resources.matching("security-group", VpcId=vpc, GroupName=name):
            raise ServiceError("InvalidGroup.Duplicate", f"The security group '{name}' already exists for VPC '{vpc}'")
        group = self.make(name, request["Description"], vpc, request)
        return {"GroupId": group["GroupId"], "Tags": group["Tags"]}

    def _delete(self, request: Request) -> Answer:
        group = self._resources.get("security-group", str(request.get("GroupId")))
        if group["GroupName"] == "default":
            message = f'the specified group: "{group["GroupId"]}" name: "default" cannot be deleted by a user'
            raise ServiceError("CannotDelete", message)
        self._resources.delete("security-group", group["GroupId"])
        return {"Return": True, "GroupId": group["GroupId"]}

    def _authorize(self, key: str, request: Request) -> Answer:
        group = self._resources.get("security-group", str(request.get("GroupId")))
        for rule in _rules(request):
            if rule in group[key]:
                raise ServiceError("InvalidPermission.Duplicate", "the specified rule already exists")
            group[key].append(rule)
        self._resources.put("security-group", group)
        return {"Return": True}

    def _revoke(self, key: str, request: Request) -> Answer:
        group = self._resources.get("security-group", str(request.get("GroupId")))
        for rule in _rules(request):
            found = [item for item in group[key] if _without_text(item) == _without_text(rule)]
            if not found:
                message = "The specified rule does not exist in this security group."
                raise ServiceError("InvalidPermission.NotFound", message)
            group[key].remove(found[0])
        self._resources.put("security-group", group)
        return {"Return": True}


def _rules(request: Request) -> Iterator[Document]:
    """Yield the rules in a request, each with one protocol, range of ports and peer."""
    # EC2 still accepts one rule as plain arguments.
    plain = {name: request[name] for name in _PORTS if name in request}
    ranges = {"IpRanges": [{"CidrIp": request["CidrIp"]}]} if "CidrIp" in request else {}
    for permission in [*request.get("IpPermissions", ()), *([{**plain, **ranges}] if plain else [])]:
        ports = {name: permission[name] for name in _PORTS if name in permission}
        for target in _TARGETS:
            empty: dict[str, list[object]] = {name: [] for name in _TARGETS}
            yield from ({**ports, **empty, target: [peer]} for peer in permission.get(target, ()))


def _without_text(rule: Document) -> Document:
    # The description of a rule does not distinguish it.
    peers = {
        name: [{key: value for key, value in peer.items() if key != "Description"} for peer in rule[name]]
        for name in _TARGETS
    }
    return {**rule, **peers}
