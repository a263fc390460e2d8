"""The operations of a service, the types of their arguments and their wire format, as botocore describes them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlencode

from botocore.exceptions import ParamValidationError
from botocore.model import OperationModel, ServiceModel

from cloudknot.aws.sdk.descriptions import shared_loader

if TYPE_CHECKING:
    from botocore.model import StructureShape


def operation_model(service: str, operation: str) -> OperationModel | None:
    """Return the description of an operation, or None if the service has none of that name."""
    model = service_model(service)
    return model.operation_model(operation) if operation in model.operation_names else None


def service_model(service: str) -> ServiceModel:
    """Return the description of a service."""
    # The lock, since loading takes up to a tenth of a second, and a second thread would take as long again.
    with _lock:
        return _load(service)


@cache
def _load(service: str) -> ServiceModel:
    return ServiceModel(shared_loader("").load_service_model(service, "service-2"), service)


_lock = threading.Lock()


def to_wire(service: str, operation: str, arguments: Mapping[str, Any]) -> tuple[str, str, dict[str, str], bytes]:
    """Return method, raw path and query, headers and body of a request. Headers have names in lower case.

    Raises
    ------
    ValueError
        Arguments are missing or invalid.
    """
    from botocore.serialize import create_serializer

    model = service_model(service)
    serializer = create_serializer(_protocol(model))
    try:
        request = serializer.serialize_to_request(dict(arguments), model.operation_model(operation))
    except ParamValidationError as error:
        raise ValueError(str(error)) from None
    content, query = request["body"], urlencode(request["query_string"], doseq=True)
    body = urlencode(content).encode() if isinstance(content, dict) else content
    headers = {name.lower(): value for name, value in request["headers"].items()}
    return request["method"], request["url_path"] + (f"?{query}" if query else ""), headers, body


def from_wire(service: str, operation: str, status: int, headers: Mapping[str, str], body: bytes) -> Any:
    """Return the content of an answer. That of an error is its ``"Error"``, with ``"Code"`` and ``"Message"``."""
    from botocore.parsers import create_parser

    model = service_model(service)
    # botocore's type stubs require the shape that operations without an answer lack.
    shape = cast("StructureShape", model.operation_model(operation).output_shape)
    answer = {"status_code": status, "headers": dict(headers), "body": body}
    return create_parser(_protocol(model)).parse(answer, shape)


def _protocol(model: ServiceModel) -> str:
    """Return the protocol in which the embedded cloud reads the requests to a service. Some have several."""
    known = {*model.metadata.get("protocols", ()), model.metadata["protocol"]}
    return next(name for name in ("rest-json", "query", "ec2", "json") if name in known)
