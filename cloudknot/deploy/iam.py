"""Service-linked roles: what a service of AWS may do in the account. There is one of each, made on the first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloudknot.aws import clients
from cloudknot.errors import CloudError

if TYPE_CHECKING:
    from cloudknot.aws.cloud import Cloud

BATCH = "batch.amazonaws.com"
SPOT = "spot.amazonaws.com"
"""Without its role there are no Spot instances (EC2 user guide, "Service-linked role for Spot Instance requests")."""


def linked_role(cloud: Cloud, service: str) -> str:
    """ARN of the account's role for a service, which is made when the account has none.

    Raises
    ------
    PermissionDeniedError
        There is none, and it may not be made.
    """
    if arn := _find(cloud, service):
        return arn
    try:
        return clients.iam(cloud).create_service_linked_role(AWSServiceName=service)["Role"]["Arn"]
    except CloudError:
        # Another session may have made it just now, which AWS answers with InvalidInput.
        if arn := _find(cloud, service):
            return arn
        raise


def _find(cloud: Cloud, service: str) -> str | None:
    roles = clients.iam(cloud).list_roles(PathPrefix=f"/aws-service-role/{service}/")["Roles"]
    return next((role["Arn"] for role in roles), None)
