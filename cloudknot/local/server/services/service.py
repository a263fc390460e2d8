"""ControlPlane: the WSGI application that answers calls to the control plane's services."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Protocol
from wsgiref.types import StartResponse, WSGIEnvironment

from cloudknot.local import wsgi
from cloudknot.local.directory.database import Database
from cloudknot.local.directory.documents import CALLS, Document, Documents
from cloudknot.local.iam.keys import Principal
from cloudknot.local.iam.requests.calls import Call
from cloudknot.local.iam.requests.operations import Request
from cloudknot.local.iam.requests.query_protocol import write_answer
from cloudknot.local.iam.requests.received import CALL, PRINCIPAL, received
from cloudknot.local.wsgi import Answer, ServiceError


class Service(Protocol):
    """A service of AWS."""

    @property
    def waits(self) -> bool:
        """Whether operations wait for other servers. They then run without the lock of all services."""

    def answer(self, operation: str, request: Request, caller: Principal | None) -> Answer:
        """Answer a call. The caller None stands for the cloud's owner."""


class ControlPlane:
    """The WSGI application for calls to several services.

    Parameters
    ----------
    services : mapping
        The services by their names in signatures.
    database : Database
        The database of their resources.
    on_change : mapping
        Functions to call after each operation of a service that is no read, by the name of the service.
    """

    def __init__(
        self,
        services: Mapping[str, Service],
        database: Database,
        on_change: Mapping[str, Callable[[], None]],
    ) -> None:
        self._services, self._database, self._on_change = services, database, on_change
        # One operation at a time: a check and the change after it belong together. They take microseconds.
        self._lock = threading.RLock()
        self._answered = Documents(database, CALLS)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        call = received(environ).call
        # `Dispatch` answers all others.
        assert call is not None
        answer = self._respond(call, environ.get(PRINCIPAL), environ.get(CALL, ""))
        return wsgi.send(start_response, *answer)

    def call(self, service: str, operation: str, **arguments: object) -> Any:
        """Return the answer to a call by the server itself, as the cloud's owner."""
        return self._run(service, operation, arguments, None)

    def _respond(self, call: Call, caller: Principal | None, identifier: str) -> tuple[bytes, str]:
        # The gate has checked the permissions.
        if call.arguments.get("DryRun"):
            raise ServiceError("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)
        answer = self._run(call.service, call.operation, call.arguments, caller, identifier)
        if not wsgi.is_xml(call.service):
            return json.dumps(answer).encode(), "application/x-amz-json-1.1"
        return write_answer(call.service, call.operation, answer), "text/xml"

    def _run(
        self, service: str, operation: str, request: Request, caller: Principal | None, identifier: str = ""
    ) -> Answer:
        answering = self._services[service]
        if answering.waits:
            return answering.answer(operation, request, caller)
        if operation.startswith(_READS):
            with self._lock:
                return answering.answer(operation, request, caller)
        try:
            with self._lock, self._database.transaction():
                answered = self._answered.get(identifier) if identifier else None
                # Many operations have an empty answer.
                if answered is not None:
                    return answered
                answer = answering.answer(operation, request, caller)
                if identifier:
                    self._answered[identifier] = dict(answer)
                return answer
        finally:
            # Also after an error: reading once more does no harm.
            self._on_change.get(service, _nothing)()


_READS = ("Describe", "Get", "List")


def _nothing() -> None:
    pass


def with_tags(document: Document, name: str, request: Request) -> Document:
    """Return a document with the tags in a request, in place of its own ones of the same keys."""
    given = {tag["Key"]: tag for tag in request.get(name, ())}
    return {**document, name: [*(tag for tag in document[name] if tag["Key"] not in given), *given.values()]}


def without_tags(document: Document, name: str, keys: Collection[str]) -> Document:
    """Return a document without its tags of some keys."""
    return {**document, name: [tag for tag in document[name] if tag["Key"] not in keys]}
