"""Service-linked roles, by which an AWS service acts in the account.

An account has at most one for each service. cloudknot creates a missing one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloudknot.aws import clients
from cloudknot.errors import CloudError

if TYPE_CHECKING:
    from cloudknot.aws.cloud import Cloud

BATCH = "batch.amazonaws.com"
# EC2 starts no Spot instances without this role (EC2 user guide, "Service-linked role for Spot Instance requests").
SPOT = "spot.amazonaws.com"


def linked_role(cloud: Cloud, service: str) -> str:
    """Return the ARN of the account's role for a service, and create the role if necessary.

    Raises
    ------
    PermissionDeniedError
        The role does not exist, and these credentials may not create it.
    """
    if arn := _find(cloud, service):
        return arn
    try:
        return clients.iam(cloud).create_service_linked_role(AWSServiceName=service)["Role"]["Arn"]
    except CloudError:
        # Another session may have created it in the meantime. AWS answers that with InvalidInput.
        if arn := _find(cloud, service):
            return arn
        raise


def _find(cloud: Cloud, service: str) -> str | None:
    roles = clients.iam(cloud).list_roles(PathPrefix=f"/aws-service-role/{service}/")["Roles"]
    return next((role["Arn"] for role in roles), None)
