"""EC2, as far as knots use it: networks, security groups, launch templates, and what EC2 offers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from cloudknot.local.directory.database import Database
from cloudknot.local.directory.documents import Documents
from cloudknot.local.iam.keys import Principal
from cloudknot.local.iam.requests.operations import Operation, Request, carry_out
from cloudknot.local.server.services.ec2.catalog import Offers
from cloudknot.local.server.services.ec2.groups import SecurityGroups
from cloudknot.local.server.services.ec2.network import Networks
from cloudknot.local.server.services.ec2.resources import Ec2Resources
from cloudknot.local.server.services.ec2.templates import LaunchTemplates
from cloudknot.local.wsgi import Answer, ServiceError


class Ec2:
    """The service EC2. A new account has a default VPC.

    Parameters
    ----------
    database : Database
    """

    waits = False

    def __init__(self, database: Database) -> None:
        resources = Ec2Resources(database)
        groups = SecurityGroups(resources)
        networks = Networks(resources, groups)
        self._operations: dict[str, Operation] = {**resources.operations}
        for part in (groups, networks, LaunchTemplates(resources), Offers(resources)):
            self._operations |= part.operations
        accounts = Documents(database, "ec2:account")
        # Only once: the default VPC can be deleted.
        if "default-vpc" not in accounts:
            with database.transaction():
                networks.make_default()
                accounts["default-vpc"] = {}

    def answer(self, operation: str, request: Request, caller: Principal | None) -> Answer:
        """Answer a call."""
        return carry_out("ec2", self._operations, operation, _Arguments(request))


class _Arguments(dict[str, Any]):
    """Arguments, or a structure in them. AWS's description does not show which ones an operation needs."""

    def __init__(self, members: Mapping[str, Any]) -> None:
        super().__init__({name: _complete(value) for name, value in members.items()})

    def __missing__(self, name: str) -> NoReturn:
        raise ServiceError("MissingParameter", f"The request must contain the parameter {name}")


def _complete(value: Any) -> Any:
    if isinstance(value, list):
        return [_complete(item) for item in value]
    return _Arguments(value) if isinstance(value, dict) else value
