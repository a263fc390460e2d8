"""The embedded cloud as one WSGI application: signatures first, then our own routes, Batch's job API, and moto."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from urllib.parse import parse_qsl
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from cloudknot.aws.batch import LOG_GROUP, LogStream
from cloudknot.local import wsgi
from cloudknot.local.admin import FAULTS_PATH, LOG_PATH, STATUS_PATH, STOP_PATH
from cloudknot.local.batch.catalog import Catalog
from cloudknot.local.batch.job_api import Batch
from cloudknot.local.cloudformation.api import CloudFormation
from cloudknot.local.cloudformation.records import ValidationError
from cloudknot.local.faults.route import FaultRoute
from cloudknot.local.iam.gate import Gate
from cloudknot.local.iam.task_credentials import PATH as CREDENTIALS_PATH
from cloudknot.local.iam.task_credentials import TaskCredentials
from cloudknot.local.server.control_plane import ControlPlane
from cloudknot.local.server.counters import Counters
from cloudknot.local.wsgi import ClientException


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
        # Before the gate: a job has no key yet to sign this request with, and presents its token instead.
        if environ["PATH_INFO"].startswith(CREDENTIALS_PATH):
            return self._credentials.answer(environ, start_response)
        service = wsgi.signed_service(environ)
        refusal = self._gate.refusal(environ, service)
        if refusal is not None:
            return wsgi.refuse(environ, start_response, service, refusal.status, refusal.code, refusal.message)
        if environ["PATH_INFO"] == STATUS_PATH:
            return wsgi.send_json(start_response, self._status())
        if environ["PATH_INFO"] == STOP_PATH and environ["REQUEST_METHOD"] == "POST":
            self._on_stop()
            return wsgi.send_json(start_response, {})
        # From here on a request counts as use. A session that only watches the status must not keep the cloud alive.
        with self._lock:
            self._active_requests += 1
        try:
            if environ["PATH_INFO"] in (LOG_PATH, FAULTS_PATH):
                return self._answer_own_route(environ, start_response)
            from_job = getattr(environ["cloudknot.principal"], "kind", "") == "Role"
            counted = self._counters.counting(environ, start_response, service)
            return self._faults.answer(environ, counted, self._answer_principal, service, from_job)
        finally:
            with self._lock:
                self._active_requests -= 1
                self._last_used = time.monotonic()

    def _answer_own_route(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer the routes for faults and logs, which are no service of AWS and meet no faults."""
        if environ["PATH_INFO"] == FAULTS_PATH:
            try:
                return wsgi.send_json(start_response, self._faults.respond(environ["wsgi.input"].read()))
            except ClientException as error:
                return wsgi.refuse_client(start_response, error)
        query = dict(parse_qsl(environ["QUERY_STRING"]))
        stream = LogStream(query.get("group", LOG_GROUP), query.get("name", ""))
        text = "".join(f"{line}\n" for line in self._plane.log_lines(stream))
        return wsgi.send(start_response, text.encode(), "text/plain; charset=utf-8")

    def _answer_principal(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request, without showing a principal more about missing objects than its policies allow."""
        principal = environ["cloudknot.principal"]
        if principal is None or wsgi.signed_service(environ) != "s3":
            return self._dispatch(environ, start_response)
        return self._gate.hide_missing(principal, environ, start_response, self._dispatch)

    def _dispatch(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request by the part that owns its service."""
        path = environ["PATH_INFO"]
        if self._batch.handles(environ["REQUEST_METHOD"], path):
            try:
                return wsgi.send_json(start_response, self._batch.respond(path, environ["wsgi.input"].read()))
            except ClientException as error:
                return wsgi.refuse_client(start_response, error)
        if wsgi.signed_service(environ) == "cloudformation":
            return self._answer_stack_request(environ, start_response)
        # moto reads the raw path from RAW_URI, werkzeug's name for it. waitress calls it REQUEST_URI.
        environ["RAW_URI"] = environ["REQUEST_URI"]
        if not _may_change_batch(environ):
            return self._moto(environ, start_response)
        # Before and after: a submission may fill the catalog again while moto carries out the change.
        self._catalog.forget()
        try:
            return self._moto(environ, start_response)
        finally:
            self._catalog.forget()

    def _answer_stack_request(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            body = self._stacks.respond(environ["wsgi.input"].read(), wsgi.signature_scope(environ)[0])
        except ValidationError as error:
            _, body = wsgi.error_body("cloudformation", error.code, str(error))
            return wsgi.send(start_response, body, "text/xml", 400)
        return wsgi.send(start_response, body, "text/xml")

    def _status(self) -> wsgi.Answer:
        uptime = time.monotonic() - self._started
        counts = {"jobs": self._batch.counts(), "requests": self._counters.counts()}
        return {**self._constants, "uptime": uptime, "idle": self.idle, **counts}


def _may_change_batch(environ: WSGIEnvironment) -> bool:
    """Return whether a request may change job definitions, queues or compute environments."""
    return wsgi.signed_service(environ) == "batch" and not environ["PATH_INFO"].startswith("/v1/describe")
