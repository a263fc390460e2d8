"""The embedded cloud as one WSGI application: signatures first, then our own routes, Batch's job API, and moto."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from cloudknot.aws.batch import LOG_GROUP, LogStream
from cloudknot.local import wsgi
from cloudknot.local.admin import FAULTS_PATH, LOG_PATH, STATUS_PATH, STOP_PATH
from cloudknot.local.batch.catalog import Catalog
from cloudknot.local.batch.job_api import Batch
from cloudknot.local.cloudformation.api import CloudFormation
from cloudknot.local.cloudformation.records import ValidationError
from cloudknot.local.faults.route import FaultRoute
from cloudknot.local.iam.gate import Admission, Gate
from cloudknot.local.iam.requests.calls import Call
from cloudknot.local.iam.requests.objects import S3Request
from cloudknot.local.iam.requests.received import OWN_SERVICE, RECEIVED, OwnRoute, received
from cloudknot.local.iam.requests.refusals import Refused
from cloudknot.local.iam.task_credentials import TaskCredentials
from cloudknot.local.server.control_plane import ControlPlane
from cloudknot.local.server.counters import Counters
from cloudknot.local.wsgi import ADMISSION, ClientException


class Application:
    """The WSGI application behind the cloud's port.

    Parameters
    ----------
    gate : Gate
        Checks signatures and permissions.
    credentials : TaskCredentials
        Gives jobs the credentials of their roles.
    batch : Batch
        Answers Batch's job operations.
    catalog : Catalog
        Caches Batch's resources; cleared at every request that may change them.
    moto : WSGI application
        Answers all other requests to AWS's services.
    constants : mapping
        The constant part of the status.
    plane : ControlPlane
        Makes the cloud's calls to its own services.
    stacks : CloudFormation
        Answers requests to CloudFormation.
    faults : FaultRoute
        Injects faults, and answers the route that sets them.
    on_stop : callable
        Called when the owner stops the cloud.
    """

    def __init__(
        self,
        gate: Gate,
        credentials: TaskCredentials,
        batch: Batch,
        catalog: Catalog,
        moto: WSGIApplication,
        constants: wsgi.Answer,
        plane: ControlPlane,
        stacks: CloudFormation,
        faults: FaultRoute,
        on_stop: Callable[[], None],
    ) -> None:
        self._gate, self._credentials = gate, credentials
        self._batch, self._catalog, self._moto = batch, catalog, moto
        self._constants, self._plane, self._on_stop = constants, plane, on_stop
        self._stacks, self._faults = stacks, faults
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
        service = admission.service
        try:
            if admission.refusal is not None:
                raise Refused(**asdict(admission.refusal))
            # The only reading of the request: everything behind this line uses its result.
            found, principal = self._gate.receive(admission, environ["wsgi.input"])
        except Refused as error:
            refusal = error.refusal
            return wsgi.refuse(environ, start_response, service, refusal.status, refusal.code, refusal.message)
        # Later layers read it. Faults distinguish jobs from sessions, and AssumeRole checks the trust policy.
        environ |= {RECEIVED: found, "cloudknot.principal": principal}
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
            from_job = getattr(principal, "kind", "") == "Role"
            counted = self._counters.counting(environ, start_response, service)
            return self._faults.answer(environ, counted, self._answer_principal, service, from_job)
        finally:
            with self._lock:
                self._active_requests -= 1
                self._last_used = time.monotonic()

    def _answer_own_route(
        self, route: OwnRoute, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Answer the routes for faults and logs, which are no service of AWS and meet no faults."""
        if route.path == FAULTS_PATH:
            try:
                return wsgi.send_json(start_response, self._faults.respond(environ["wsgi.input"].read()))
            except ClientException as error:
                return wsgi.refuse_client(start_response, error)
        if route.path != LOG_PATH:
            message = f"The embedded cloud has no route {route.method} {route.path}."
            return wsgi.refuse(environ, start_response, OWN_SERVICE, 404, "NotFound", message)
        stream = LogStream(route.query.get("group", LOG_GROUP), route.query.get("name", ""))
        text = "".join(f"{line}\n" for line in self._plane.log_lines(stream))
        return wsgi.send(start_response, text.encode(), "text/plain; charset=utf-8")

    def _answer_principal(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request, without showing a principal more about missing objects than its policies allow."""
        principal = environ["cloudknot.principal"]
        if principal is None or not isinstance(received(environ).target, S3Request):
            return self._dispatch(environ, start_response)
        return self._gate.hide_missing(principal, environ, start_response, self._dispatch)

    def _dispatch(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request by the part that owns its service."""
        call = received(environ).call
        if call is None or call.service not in ("batch", "cloudformation"):
            return self._moto(environ, start_response)
        if call.service == "cloudformation":
            return self._answer_stack_request(call, received(environ).access_key, start_response)
        if self._batch.handles(call.method, call.uri):
            try:
                return wsgi.send_json(start_response, self._batch.respond(call.uri, call.body))
            except ClientException as error:
                return wsgi.refuse_client(start_response, error)
        if call.operation.startswith("Describe"):
            return self._moto(environ, start_response)
        # Before and after: a submission may fill the catalog again while moto carries out the change.
        self._catalog.forget()
        try:
            return self._moto(environ, start_response)
        finally:
            self._catalog.forget()

    def _answer_stack_request(self, call: Call, access_key: str, start_response: StartResponse) -> Iterable[bytes]:
        try:
            body = self._stacks.respond(call.body, access_key)
        except ValidationError as error:
            _, body = wsgi.error_body("cloudformation", error.code, str(error))
            return wsgi.send(start_response, body, "text/xml", 400)
        return wsgi.send(start_response, body, "text/xml")

    def _status(self) -> wsgi.Answer:
        uptime = time.monotonic() - self._started
        counts = {"jobs": self._batch.counts(), "requests": self._counters.counts()}
        counts["ownerless"] = self._counters.without_owner()
        return {**self._constants, "uptime": uptime, "idle": self.idle, **counts}
