"""The operations of a service and the types of their arguments, as botocore describes them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from botocore.model import OperationModel, ServiceModel
from botocore.validate import ParamValidator

from cloudknot.aws.sdk.descriptions import shared_loader


def operation_model(service: str, operation: str) -> OperationModel | None:
    """Return the description of an operation, or None if the service has none of that name."""
    model = service_model(service)
    return model.operation_model(operation) if operation in model.operation_names else None


@cache
def service_model(service: str) -> ServiceModel:
    """Return the description of a service."""
    return ServiceModel(shared_loader("").load_service_model(service, "service-2"), service)


def mistakes(service: str, operation: str, arguments: Mapping[str, Any]) -> str:
    """Return the missing and invalid arguments of an operation as lines of text, or an empty string."""
    model = operation_model(service, operation)
    if model is None or model.input_shape is None:
        return ""
    report = ParamValidator().validate(dict(arguments), model.input_shape)
    lines = [report.generate_report()] if report.has_errors() else []
    for name, shape in model.input_shape.members.items():
        values = getattr(shape, "enum", ())
        if values and name in arguments and arguments[name] not in values:
            lines.append(f"{name} must be one of {', '.join(values)}")
    return "\n".join(lines)
