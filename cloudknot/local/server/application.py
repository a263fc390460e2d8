"""The embedded cloud as a WSGI application: signatures first, then our routes, the Batch job API, and moto."""

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
    """Everything that the cloud's port answers.

    Parameters
    ----------
    gate : Gate
        Lets requests in.
    credentials : TaskCredentials
        Gives jobs the credentials of their roles.
    batch : Batch
    catalog : Catalog
        Told when what it knows may have changed.
    moto : WSGI application
        Answers what is not ours.
    about : mapping
        Constant part of the status answer.
    plane : ControlPlane
        Calls that the cloud makes of itself.
    stacks : CloudFormation
    faults : FaultRoute
        What is to go wrong.
    on_stop : callable
        Called when somebody asks the cloud to end.
    """

    def __init__(
        self,
        gate: Gate,
        credentials: TaskCredentials,
        batch: Batch,
        catalog: Catalog,
        moto: WSGIApplication,
        about: wsgi.Answer,
        plane: ControlPlane,
        stacks: CloudFormation,
        faults: FaultRoute,
        on_stop: Callable[[], None],
    ) -> None:
        self._gate, self._credentials = gate, credentials
        self._batch, self._catalog, self._moto = batch, catalog, moto
        self._about, self._plane, self._on_stop = about, plane, on_stop
        self._stacks, self._faults = stacks, faults
        self._counters = Counters()
        self._started = self._last_used = time.monotonic()
        self._in_use = 0
        self._lock = threading.Lock()

    @property
    def idle(self) -> float:
        """Seconds since the last request or live job; asking for the status is no use."""
        with self._lock:
            if self._in_use or self._batch.live:
                self._last_used = time.monotonic()
            return time.monotonic() - self._last_used

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith(CREDENTIALS_PATH):
            return self._credentials.answer(environ, start_response)
        service = wsgi.service_of(environ)
        refusal = self._gate.refusal(environ, service)
        if refusal is not None:
            return wsgi.refuse(environ, start_response, service, refusal.status, refusal.code, refusal.message)
        if environ["PATH_INFO"] == STATUS_PATH:
            return wsgi.send_json(start_response, self._status())
        if environ["PATH_INFO"] == STOP_PATH and environ["REQUEST_METHOD"] == "POST":
            self._on_stop()
            return wsgi.send_json(start_response, {})
        with self._lock:
            self._in_use += 1
        try:
            if environ["PATH_INFO"] in (LOG_PATH, FAULTS_PATH):
                return self._own(environ, start_response)
            of_job = getattr(environ["cloudknot.principal"], "kind", "") == "Role"
            counted = self._counters.counting(environ, start_response, service)
            return self._faults.answer(environ, counted, self._for_whom_it_is, service, of_job)
        finally:
            with self._lock:
                self._in_use -= 1
                self._last_used = time.monotonic()

    def _own(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """What is no service of AWS, and meets no faults."""
        if environ["PATH_INFO"] == FAULTS_PATH:
            try:
                return wsgi.send_json(start_response, self._faults.respond(environ["wsgi.input"].read()))
            except ClientException as error:
                return wsgi.refuse_client(start_response, error)
        asked = dict(parse_qsl(environ["QUERY_STRING"]))
        stream = LogStream(asked.get("group", LOG_GROUP), asked.get("name", ""))
        text = "".join(f"{line}\n" for line in self._plane.log_lines(stream))
        return wsgi.send(start_response, text.encode(), "text/plain; charset=utf-8")

    def _for_whom_it_is(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        principal = environ["cloudknot.principal"]
        if principal is None or wsgi.service_of(environ) != "s3":
            return self._dispatch(environ, start_response)
        return self._gate.hide_missing(principal, environ, start_response, self._dispatch)

    def _dispatch(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if self._batch.handles(environ["REQUEST_METHOD"], path):
            try:
                return wsgi.send_json(start_response, self._batch.respond(path, environ["wsgi.input"].read()))
            except ClientException as error:
                return wsgi.refuse_client(start_response, error)
        if wsgi.service_of(environ) == "cloudformation":
            return self._answer_of_stacks(environ, start_response)
        environ["RAW_URI"] = environ["REQUEST_URI"]
        if not _may_change_batch(environ):
            return self._moto(environ, start_response)
        self._catalog.forget()
        try:
            return self._moto(environ, start_response)
        finally:
            self._catalog.forget()

    def _answer_of_stacks(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            body = self._stacks.respond(environ["wsgi.input"].read(), wsgi.scope_of(environ)[0])
        except ValidationError as error:
            _, body = wsgi.error_body("cloudformation", error.code, str(error))
            return wsgi.send(start_response, body, "text/xml", 400)
        return wsgi.send(start_response, body, "text/xml")

    def _status(self) -> wsgi.Answer:
        uptime = time.monotonic() - self._started
        counts = {"jobs": self._batch.counts(), "requests": self._counters.counts()}
        return {**self._about, "uptime": uptime, "idle": self.idle, **counts}


def _may_change_batch(environ: WSGIEnvironment) -> bool:
    return wsgi.service_of(environ) == "batch" and not environ["PATH_INFO"].startswith("/v1/describe")
