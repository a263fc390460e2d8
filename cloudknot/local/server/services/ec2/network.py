"""EC2's networks: VPCs, subnets, gateways, route tables and endpoints. They only exist: jobs use this machine's."""

from __future__ import annotations

import ipaddress

from cloudknot.local.directory.documents import Document
from cloudknot.local.directory.state import ACCOUNT, REGION
from cloudknot.local.iam.requests.operations import Operation, Request
from cloudknot.local.server.services.ec2.catalog import ZONES
from cloudknot.local.server.services.ec2.groups import SecurityGroups
from cloudknot.local.server.services.ec2.resources import Ec2Resources, new_id, now
from cloudknot.local.wsgi import Answer, ServiceError

RESERVED = 5
"""Addresses of each subnet that AWS keeps for itself (VPC user guide, "Subnet sizing")."""
_SWITCHES = ("EnableDnsSupport", "EnableDnsHostnames", "EnableNetworkAddressUsageMetrics")


class Networks:
    """The operations on networks.

    Parameters
    ----------
    resources : Ec2Resources
    groups : SecurityGroups
        Makes the default group of a new VPC.
    """

    def __init__(self, resources: Ec2Resources, groups: SecurityGroups) -> None:
        self._resources, self._groups = resources, groups
        self.operations: dict[str, Operation] = {
            "CreateVpc": lambda request: {"Vpc": self._new_vpc(request)},
            "DeleteVpc": self._delete_vpc,
            "ModifyVpcAttribute": self._modify_vpc,
            "DescribeVpcAttribute": self._vpc_attribute,
            "CreateSubnet": lambda request: {"Subnet": self._new_subnet(request)},
            "DeleteSubnet": self._delete_subnet,
            "ModifySubnetAttribute": self._modify_subnet,
            "CreateInternetGateway": self._create_gateway,
            "AttachInternetGateway": self._attach,
            "DetachInternetGateway": self._detach,
            "DeleteInternetGateway": self._delete_gateway,
            "CreateRouteTable": self._create_table,
            "DeleteRouteTable": self._delete_table,
            "CreateRoute": self._create_route,
            "DeleteRoute": self._delete_route,
            "AssociateRouteTable": self._associate,
            "DisassociateRouteTable": self._disassociate,
            "CreateVpcEndpoint": self._create_endpoint,
            "DeleteVpcEndpoints": self._delete_endpoints,
        }

    def make_default(self) -> None:
        """Make the default VPC of an account, with a subnet in each zone (VPC user guide, "Default VPCs")."""
        vpc = self._new_vpc({"CidrBlock": "172.31.0.0/16"}, is_default=True)
        for number, zone in enumerate(ZONES):
            cidr = f"172.31.{16 * number}.0/20"
            subnet = self._new_subnet({"VpcId": vpc["VpcId"], "CidrBlock": cidr, "AvailabilityZone": zone})
            subnet.update(MapPublicIpOnLaunch=True, DefaultForAz=True)
            self._resources.put("subnet", subnet)

    def _new_vpc(self, request: Request, *, is_default: bool = False) -> Document:
        cidr = _network(str(request.get("CidrBlock")), "InvalidVpc.Range")
        vpc = self._resources.add(
            "vpc",
            {
                "CidrBlock": str(cidr),
                "State": "available",
                "IsDefault": is_default,
                "InstanceTenancy": request.get("InstanceTenancy", "default"),
                "DhcpOptionsId": "default",
                "OwnerId": ACCOUNT,
                "CidrBlockAssociationSet": [
                    {
                        "AssociationId": new_id("vpc-cidr-assoc"),
                        "CidrBlock": str(cidr),
                        "CidrBlockState": {"State": "associated"},
                    }
                ],
                "EnableDnsSupport": True,
                "EnableDnsHostnames": is_default,
                "EnableNetworkAddressUsageMetrics": False,
            },
            request,
        )
        self._groups.make("default", "default VPC security group", vpc["VpcId"], {})
        self._new_table(vpc, {}, is_main=True)
        return vpc

    def _delete_vpc(self, request: Request) -> Answer:
        vpc = self._resources.get("vpc", request["VpcId"])
        identifier = vpc["VpcId"]
        groups = self._resources.matching("security-group", VpcId=identifier)
        tables = self._resources.matching("route-table", VpcId=identifier)
        own = [item for item in groups if item["GroupName"] == "default"]
        main = [item for item in tables if _is_main(item)]
        gateways = [item for item in self._resources.of["internet-gateway"].all() if _attached(item) == identifier]
        others = len(groups) - len(own) + len(tables) - len(main) + len(gateways)
        for tag in ("subnet", "vpc-endpoint"):
            others += len(self._resources.matching(tag, VpcId=identifier))
        if others:
            raise _in_use(f"The vpc '{identifier}'")
        for item in own:
            self._resources.delete("security-group", item["GroupId"])
        for item in main:
            self._resources.delete("route-table", item["RouteTableId"])
        self._resources.delete("vpc", identifier)
        return {}

    def _modify_vpc(self, request: Request) -> Answer:
        vpc = self._resources.get("vpc", request["VpcId"])
        vpc.update({name: request[name]["Value"] for name in _SWITCHES if name in request})
        self._resources.put("vpc", vpc)
        return {}

    def _vpc_attribute(self, request: Request) -> Answer:
        vpc = self._resources.get("vpc", request["VpcId"])
        name = request["Attribute"][:1].upper() + request["Attribute"][1:]
        return {"VpcId": vpc["VpcId"], name: {"Value": vpc[name]}}

    def _new_subnet(self, request: Request) -> Document:
        vpc = self._resources.get("vpc", request["VpcId"])
        text = str(request.get("CidrBlock"))
        cidr = _network(text, "InvalidSubnet.Range")
        if not cidr.subnet_of(ipaddress.IPv4Network(vpc["CidrBlock"])):
            raise ServiceError("InvalidSubnet.Range", f"The CIDR '{text}' is invalid.")
        others = self._resources.matching("subnet", VpcId=vpc["VpcId"])
        if any(cidr.overlaps(ipaddress.IPv4Network(other["CidrBlock"])) for other in others):
            raise ServiceError("InvalidSubnet.Conflict", f"The CIDR '{text}' conflicts with another subnet")
        zone = request.get("AvailabilityZone", next(iter(ZONES)))
        if zone not in ZONES:
            raise ServiceError(
                "InvalidParameterValue",
                f"Value ({zone}) for parameter availabilityZone is invalid. "
                f"Subnets can currently only be created in the following availability zones: {', '.join(ZONES)}.",
            )
        document = {
            "VpcId": vpc["VpcId"],
            "CidrBlock": str(cidr),
            "AvailabilityZone": zone,
            "AvailabilityZoneId": ZONES[zone],
            "AvailableIpAddressCount": cidr.num_addresses - RESERVED,
            "DefaultForAz": False,
            "MapPublicIpOnLaunch": False,
            "AssignIpv6AddressOnCreation": False,
            "State": "available",
            "OwnerId": ACCOUNT,
        }
        subnet = self._resources.add("subnet", document, request)
        subnet["SubnetArn"] = f"arn:aws:ec2:{REGION}:{ACCOUNT}:subnet/{subnet['SubnetId']}"
        self._resources.put("subnet", subnet)
        return subnet

    def _delete_subnet(self, request: Request) -> Answer:
        subnet = self._resources.get("subnet", request["SubnetId"])
        for table in self._resources.matching("route-table", VpcId=subnet["VpcId"]):
            table["Associations"] = [
                link for link in table["Associations"] if link.get("SubnetId") != subnet["SubnetId"]
            ]
            self._resources.put("route-table", table)
        self._resources.delete("subnet", subnet["SubnetId"])
        return {}

    def _modify_subnet(self, request: Request) -> Answer:
        subnet = self._resources.get("subnet", request["SubnetId"])
        for name in ("MapPublicIpOnLaunch", "AssignIpv6AddressOnCreation"):
            if name in request:
                subnet[name] = request[name]["Value"]
        self._resources.put("subnet", subnet)
        return {}

    def _create_gateway(self, request: Request) -> Answer:
        gateway = self._resources.add("internet-gateway", {"Attachments": [], "OwnerId": ACCOUNT}, request)
        return {"InternetGateway": gateway}

    def _attach(self, request: Request) -> Answer:
        gateway = self._resources.get("internet-gateway", request["InternetGatewayId"])
        vpc = self._resources.get("vpc", request["VpcId"])["VpcId"]
        taken = [item for item in self._resources.of["internet-gateway"].all() if _attached(item) == vpc]
        if gateway["Attachments"] or taken:
            identifier = gateway["InternetGatewayId"] if gateway["Attachments"] else vpc
            raise ServiceError(
                "Resource.AlreadyAssociated", f"resource {identifier} is already attached to network {vpc}"
            )
        gateway["Attachments"] = [{"State": "available", "VpcId": vpc}]
        self._resources.put("internet-gateway", gateway)
        return {}

    def _detach(self, request: Request) -> Answer:
        gateway = self._resources.get("internet-gateway", request["InternetGatewayId"])
        if _attached(gateway) != request["VpcId"]:
            raise ServiceError(
                "Gateway.NotAttached",
                f"resource {request['InternetGatewayId']} is not attached to network {request['VpcId']}",
            )
        gateway["Attachments"] = []
        self._resources.put("internet-gateway", gateway)
        return {}

    def _delete_gateway(self, request: Request) -> Answer:
        if self._resources.get("internet-gateway", request["InternetGatewayId"])["Attachments"]:
            raise _in_use(f"The internetGateway '{request['InternetGatewayId']}'")
        self._resources.delete("internet-gateway", request["InternetGatewayId"])
        return {}

    def _create_table(self, request: Request) -> Answer:
        return {"RouteTable": self._new_table(self._resources.get("vpc", request["VpcId"]), request)}

    def _new_table(self, vpc: Document, request: Request, *, is_main: bool = False) -> Document:
        local = {
            "DestinationCidrBlock": vpc["CidrBlock"],
            "GatewayId": "local",
            "Origin": "CreateRouteTable",
            "State": "active",
        }
        document = {"VpcId": vpc["VpcId"], "OwnerId": ACCOUNT, "Routes": [local], "Associations": []}
        table = self._resources.add("route-table", {**document, "PropagatingVgws": []}, request)
        if is_main:
            self._link(table, {"Main": True})
        return table

    def _link(self, table: Document, link: Document) -> str:
        identifier = new_id("rtbassoc")
        state = {"AssociationState": {"State": "associated"}, "RouteTableId": table["RouteTableId"]}
        table["Associations"].append({"RouteTableAssociationId": identifier, **state, **link})
        self._resources.put("route-table", table)
        return identifier

    def _delete_table(self, request: Request) -> Answer:
        table = self._resources.get("route-table", request["RouteTableId"])
        if table["Associations"]:
            raise _in_use(f"The routeTable '{table['RouteTableId']}'")
        self._resources.delete("route-table", table["RouteTableId"])
        return {}

    def _create_route(self, request: Request) -> Answer:
        table = self._resources.get("route-table", request["RouteTableId"])
        destination = request["DestinationCidrBlock"]
        if any(route["DestinationCidrBlock"] == destination for route in table["Routes"]):
            raise ServiceError("RouteAlreadyExists", f"The route identified by {destination} already exists.")
        if str(request.get("GatewayId", "")).startswith("igw-"):
            self._resources.get("internet-gateway", request["GatewayId"])
        target = {name: value for name, value in request.items() if name != "RouteTableId"}
        table["Routes"].append({**target, "Origin": "CreateRoute", "State": "active"})
        self._resources.put("route-table", table)
        return {"Return": True}

    def _delete_route(self, request: Request) -> Answer:
        table = self._resources.get("route-table", request["RouteTableId"])
        destination = request.get("DestinationCidrBlock")
        remaining = [route for route in table["Routes"] if route["DestinationCidrBlock"] != destination]
        if remaining == table["Routes"]:
            raise ServiceError(
                "InvalidRoute.NotFound",
                f"no route with destination-cidr-block {destination} in route table {table['RouteTableId']}",
            )
        table["Routes"] = remaining
        self._resources.put("route-table", table)
        return {}

    def _associate(self, request: Request) -> Answer:
        table = self._resources.get("route-table", request["RouteTableId"])
        subnet = self._resources.get("subnet", request["SubnetId"])["SubnetId"]
        for other in self._resources.matching("route-table", VpcId=table["VpcId"]):
            if any(link.get("SubnetId") == subnet for link in other["Associations"]):
                raise ServiceError(
                    "Resource.AlreadyAssociated", f"the specified association for {subnet} conflicts with another one"
                )
        identifier = self._link(table, {"Main": False, "SubnetId": subnet})
        return {"AssociationId": identifier, "AssociationState": {"State": "associated"}}

    def _disassociate(self, request: Request) -> Answer:
        identifier = request["AssociationId"]
        for table in self._resources.of["route-table"].all():
            links = [link for link in table["Associations"] if link["RouteTableAssociationId"] != identifier]
            if links != table["Associations"]:
                self._resources.put("route-table", {**table, "Associations": links})
                return {}
        raise ServiceError("InvalidAssociationID.NotFound", f"The association ID '{identifier}' does not exist")

    def _create_endpoint(self, request: Request) -> Answer:
        self._resources.get("vpc", request["VpcId"])
        for table in request.get("RouteTableIds", ()):
            self._resources.get("route-table", table)
        document = {
            "VpcEndpointType": request.get("VpcEndpointType", "Gateway"),
            "VpcId": request["VpcId"],
            "ServiceName": request["ServiceName"],
            "State": "available",
            "PolicyDocument": request.get("PolicyDocument", ""),
            "RouteTableIds": request.get("RouteTableIds", []),
            "SubnetIds": request.get("SubnetIds", []),
            "Groups": [],
            "PrivateDnsEnabled": request.get("PrivateDnsEnabled", False),
            "CreationTimestamp": now(),
            "OwnerId": ACCOUNT,
        }
        return {"VpcEndpoint": self._resources.add("vpc-endpoint", document, request)}

    def _delete_endpoints(self, request: Request) -> Answer:
        failures = []
        for identifier in request["VpcEndpointIds"]:
            try:
                self._resources.delete("vpc-endpoint", identifier)
            except ServiceError as error:
                failures.append({"ResourceId": identifier, "Error": {"Code": error.code, "Message": str(error)}})
        return {"Unsuccessful": failures}


def _network(text: str, code: str) -> ipaddress.IPv4Network:
    """Return the addresses of a VPC or subnet (VPC user guide, "VPC CIDR blocks": between /16 and /28)."""
    try:
        network = ipaddress.IPv4Network(text, strict=False)
    except ValueError as error:
        raise ServiceError(
            "InvalidParameterValue",
            f"Value ({text}) for parameter cidrBlock is invalid. This is not a valid CIDR block.",
        ) from error
    if not 16 <= network.prefixlen <= 28:
        raise ServiceError(code, f"The CIDR '{text}' is invalid.")
    return network


def _is_main(table: Document) -> bool:
    return any(link["Main"] for link in table["Associations"])


def _attached(gateway: Document) -> str:
    return str(gateway["Attachments"][0]["VpcId"]) if gateway["Attachments"] else ""


def _in_use(subject: str) -> ServiceError:
    return ServiceError("DependencyViolation", f"{subject} has dependencies and cannot be deleted.")
