"""EC2, as far as knots use it: networks, security groups, launch templates, and what EC2 offers."""

from __future__ import annotations

from cloudknot.local.directory.database import Database
from cloudknot.local.directory.documents import Documents
from cloudknot.local.iam.keys import Principal
from cloudknot.local.server.services.ec2.catalog import Offers
from cloudknot.local.server.services.ec2.groups import SecurityGroups
from cloudknot.local.server.services.ec2.network import Networks
from cloudknot.local.server.services.ec2.resources import Ec2Resources
from cloudknot.local.server.services.ec2.templates import LaunchTemplates
from cloudknot.local.server.services.service import Answer, Operation, Request, run


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
        return run(self._operations, "ec2", operation, request)
