"""The operations of a service and the types of their arguments, as botocore describes them."""

from __future__ import annotations

from functools import cache

from botocore.model import OperationModel, ServiceModel

from cloudknot.aws.sdk.descriptions import shared_loader


def operation_model(service: str, operation: str) -> OperationModel | None:
    """Return the description of an operation, or None if the service has none of that name."""
    model = service_model(service)
    return model.operation_model(operation) if operation in model.operation_names else None


@cache
def service_model(service: str) -> ServiceModel:
    """Return the description of a service."""
    return ServiceModel(shared_loader("").load_service_model(service, "service-2"), service)
