"""The operations of a service: each call goes to the function for it, after the checks by AWS's description."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from cloudknot.local.iam.requests.shapes import broken_constraints
from cloudknot.local.wsgi import Answer, ServiceError

Request = Mapping[str, Any]
"""The arguments of an operation, by the names in AWS's description of it."""
Operation = Callable[[Any], Answer]
"""Answers a `Request`. Raises `ServiceError` to refuse it."""
Row = TypeVar("Row")
_INVALID = partial(ServiceError, "ValidationError")


def carry_out(
    service: str,
    operations: Mapping[str, Operation],
    operation: str,
    request: Request,
    invalid: Callable[[str], ServiceError] = _INVALID,
) -> Answer:
    """Answer a call by the function for its operation.

    Parameters
    ----------
    service : str
    operations : mapping
        The functions by the names of the operations.
    operation : str
    request : mapping
    invalid : callable
        Returns the service's error for arguments that break a constraint, from its message.
    """
    function = operations.get(operation)
    if function is None:
        message = f"The embedded cloud does not support {service}:{operation}, which needs AWS itself."
        raise ServiceError("InvalidAction", message)
    if broken := broken_constraints(service, operation, request):
        raise invalid(broken)
    return function(request)


def page(rows: Sequence[Row], token: str | None, limit: int | None) -> tuple[Sequence[Row], str | None]:
    """Return one page of rows, and the token for the next one. A token is the number of rows before the page."""
    start = int(token) if token and token.isdigit() else 0
    end = start + (limit or len(rows))
    return rows[start:end], str(end) if end < len(rows) else None
