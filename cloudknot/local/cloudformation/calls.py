"""The calls of CloudFormation to the other services, with the permissions of the caller who requested the operation.

A call stays in this process. It passes the same reading, the same permissions and the same services as a request over
HTTP. It needs no client, no signature and no connection, which would take most of the time of a knot's stacks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from wsgiref.types import WSGIApplication

from cloudknot.aws.sdk.service_models import from_wire, to_wire
from cloudknot.local import wsgi
from cloudknot.local.cloudformation.records import Properties
from cloudknot.local.directory.full_disk import CODE, ERRORS
from cloudknot.local.iam.gate import INVALID_SIGNATURE, Gate
from cloudknot.local.iam.keys import AcceptedKey
from cloudknot.local.iam.requests.calls import Call, read_call
from cloudknot.local.iam.requests.received import CALL, PRINCIPAL, RECEIVED, Received
from cloudknot.local.iam.signing import Request
from cloudknot.local.wsgi import ServiceError

STACK_AGENT = "cloudknot-stacks"
"""The user agent of the calls."""


class InProcessServices:
    """The other services, as CloudFormation calls them.

    Parameters
    ----------
    application : WSGI application
        Answers requests that have passed the gate.
    gate : Gate
        Checks the permissions for each call.
    find_key : callable
        Returns an accepted key by its id, or None.
    """

    def __init__(
        self, application: WSGIApplication, gate: Gate, find_key: Callable[[str], AcceptedKey | None]
    ) -> None:
        self.application, self.gate, self._find_key = application, gate, find_key
        self.is_closed = False

    def close(self) -> None:
        """Carry no more calls, since the services end. The next server goes on with the operations."""
        self.is_closed = True

    def calls_of(self, access_key: str) -> StackCalls:
        """Return the calls of an operation that the owner of a key requests now."""
        return StackCalls(self, access_key, self._find_key(access_key))


@dataclass(frozen=True)
class StackCalls:
    """The calls with one key. The key is None if it ended since the operation began: every call is refused."""

    services: InProcessServices
    access_key: str
    key: AcceptedKey | None

    def call(self, service: str, operation: str, arguments: Properties, identifier: str = "") -> Any:
        """Return the answer to a call of an operation such as ``"CreateVpc"``.

        The services carry out calls with the same ``identifier`` once, and repeat their answer.

        Raises
        ------
        ServiceError
            The call was refused.
        """
        if self.services.is_closed:
            raise SystemExit
        try:
            return self._call(service, operation, arguments, identifier)
        except ServiceError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in ERRORS:
                raise ServiceError(CODE, str(error), 507) from error
            # Only this thread ends. The operation is still in progress.
            if self.services.is_closed:
                raise SystemExit from None
            raise

    def _call(self, service: str, operation: str, arguments: Properties, identifier: str) -> Any:
        if self.key is None:
            raise ServiceError("InvalidClientTokenId", INVALID_SIGNATURE, 403)
        found = Received(self.access_key, service, _read(service, operation, arguments))
        environ: dict[str, Any] = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": "/",
            "HTTP_USER_AGENT": STACK_AGENT,
            RECEIVED: found,
            CALL: identifier,
            PRINCIPAL: self.services.gate.permit(self.key, found),
        }
        recorded = wsgi.RecordedAnswer()
        body = wsgi.full_body(self.services.application(environ, recorded))
        return _parse(service, operation, recorded, body)


def _read(service: str, operation: str, arguments: Properties) -> Call:
    """Return a call as the services read it from a request."""
    try:
        method, uri, headers, body = to_wire(service, operation, arguments)
    except ValueError as error:
        raise ServiceError("ValidationException", str(error)) from error
    return read_call(Request(method, uri, headers), service, body)


def _parse(service: str, operation: str, recorded: wsgi.RecordedAnswer, body: bytes) -> Any:
    """Return the content of an answer. Raise `ServiceError` if it is an error."""
    status = int(recorded.status.split()[0])
    headers = {name.lower(): value for name, value in recorded.headers}
    answer = from_wire(service, operation, status, headers, body)
    if status >= 300:
        raise ServiceError(answer["Error"]["Code"], answer["Error"]["Message"], status)
    return answer
