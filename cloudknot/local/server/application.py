"""The embedded cloud as one WSGI application: signatures first, then our own routes, then AWS's services."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from cloudknot.local import wsgi
from cloudknot.local.admin import STATUS_PATH, STOP_PATH
from cloudknot.local.batch.job_api import Batch
from cloudknot.local.iam.gate import Admission, Gate
from cloudknot.local.iam.requests.received import OWN_SERVICE, PRINCIPAL, RECEIVED, OwnRoute
from cloudknot.local.iam.signed_bodies import body_length
from cloudknot.local.iam.task_credentials import TaskCredentials
from cloudknot.local.server.counters import Counters
from cloudknot.local.wsgi import ADMISSION, ServiceError


class Application:
    """The WSGI application behind the cloud's port.

    Parameters
    ----------
    gate : Gate
        Checks signatures and permissions.
    credentials : TaskCredentials
        Gives jobs the credentials of their roles.
    services : WSGI application
        Answers the requests to AWS's services that have passed the gate.
    routes : mapping
        The WSGI applications of the cloud's own routes, by their path, besides status and stop.
    batch : Batch
        Knows the live jobs, and counts them for the status.
    constants : mapping
        The constant part of the status.
    on_stop : callable
        Called when the owner stops the cloud.
    """

    def __init__(
        self,
        gate: Gate,
        credentials: TaskCredentials,
        services: WSGIApplication,
        routes: Mapping[str, WSGIApplication],
        batch: Batch,
        constants: wsgi.Answer,
        on_stop: Callable[[], None],
    ) -> None:
        self._gate, self._credentials = gate, credentials
        self._services, self._routes = services, routes
        self._batch, self._constants, self._on_stop = batch, constants, on_stop
        self._counters = Counters()
        self._started = self._last_used = time.monotonic()
        self._active_requests = 0
        self._lock = threading.Lock()

    @property
    def idle(self) -> float:
        """The seconds since the last request or live job. Requests for the status do not count."""
        with self._lock:
            if self._active_requests or self._batch.live:
                self._last_used = time.monotonic()
            return time.monotonic() - self._last_used

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        admission: Admission = environ[ADMISSION]
        if admission.refusal is None and admission.claim is None:
            # A job has no key yet to sign this request with, and presents its token instead.
            return self._credentials.answer(environ, start_response)
        try:
            if admission.refusal is not None:
                raise admission.refusal
            return self._answer(environ, start_response, admission)
        except ServiceError as error:
            return wsgi.refuse(environ, start_response, admission.service, error)

    def _answer(
        self, environ: WSGIEnvironment, start_response: StartResponse, admission: Admission
    ) -> Iterable[bytes]:
        """Answer an admitted request. Its body may turn out to be wrong while it is read, and raise `ServiceError`."""
        # The only reading of the request: everything behind this line uses its result.
        found, principal, body = self._gate.receive(admission, environ["wsgi.input"])
        length = body_length(admission.request)
        environ |= {wsgi.BODY_LENGTH: length, "CONTENT_LENGTH": str(length), "wsgi.input": body}
        # Later layers read it, for example AssumeRole, which checks the trust policy.
        environ |= {RECEIVED: found, PRINCIPAL: principal}
        route = found.target if isinstance(found.target, OwnRoute) else None
        if route is not None and route.path == STATUS_PATH:
            return wsgi.send_json(start_response, self._status())
        if route is not None and route.path == STOP_PATH and route.method == "POST":
            self._on_stop()
            return wsgi.send_json(start_response, {})
        # From here on a request counts as use. A session that only watches the status must not keep the cloud alive.
        with self._lock:
            self._active_requests += 1
        try:
            if route is not None:
                return self._answer_own_route(route, environ, start_response)
            return self._services(environ, self._counters.counting(environ, start_response, found.service))
        finally:
            with self._lock:
                self._active_requests -= 1
                self._last_used = time.monotonic()

    def _answer_own_route(
        self, route: OwnRoute, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Answer a request to one of the cloud's own routes, which are no services of AWS."""
        answer = self._routes.get(route.path)
        if answer is not None:
            return answer(environ, start_response)
        message = f"The embedded cloud has no route {route.method} {route.path}."
        return wsgi.refuse(environ, start_response, OWN_SERVICE, ServiceError("NotFound", message, 404))

    def _status(self) -> wsgi.Answer:
        uptime = time.monotonic() - self._started
        counts = {"jobs": self._batch.counts(), "requests": self._counters.counts()}
        return {**self._constants, "uptime": uptime, "idle": self.idle, **counts}
