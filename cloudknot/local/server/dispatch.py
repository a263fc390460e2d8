"""AWS's services behind the gate: each request goes to the part of the embedded cloud that owns its service."""

from __future__ import annotations

from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from cloudknot.local import wsgi
from cloudknot.local.batch.job_api import Batch
from cloudknot.local.cloudformation.api import CloudFormation
from cloudknot.local.codebuild.api import CodeBuild
from cloudknot.local.iam.gate import Gate
from cloudknot.local.iam.requests.objects import S3Request
from cloudknot.local.iam.requests.received import PRINCIPAL, received
from cloudknot.local.server.logs.api import Logs
from cloudknot.local.wsgi import ServiceError


class Dispatch:
    """The WSGI application that answers the requests that have passed the gate.

    Parameters
    ----------
    gate : Gate
        Hides missing objects from principals that may not list them.
    batch : Batch
    logs : Logs
    builds : CodeBuild
    s3 : WSGI application
        Answers requests to S3.
    services : WSGI application
        Answers all other requests.
    stacks : CloudFormation
        Answers requests to CloudFormation.
    """

    def __init__(
        self,
        gate: Gate,
        batch: Batch,
        logs: Logs,
        builds: CodeBuild,
        s3: WSGIApplication,
        services: WSGIApplication,
        stacks: CloudFormation,
    ) -> None:
        self._gate, self._s3, self._services, self._stacks = gate, s3, services, stacks
        self._json = {"batch": batch.respond, "logs": logs.respond, "codebuild": builds.respond}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if isinstance(received(environ).target, S3Request):
            principal = environ[PRINCIPAL]
            if principal is None:
                return self._s3(environ, start_response)
            # A principal must not learn more about missing objects than its policies allow.
            return self._gate.hide_missing(principal, environ, start_response, self._s3)
        call = received(environ).call
        assert call is not None
        try:
            if call.service == "cloudformation":
                key = received(environ).access_key
                return wsgi.send(start_response, self._stacks.respond(call.operation, call.arguments, key), "text/xml")
            if respond := self._json.get(call.service):
                return wsgi.send_json(start_response, respond(call.operation, call.arguments))
            return self._services(environ, start_response)
        except ServiceError as error:
            return wsgi.refuse(environ, start_response, call.service, error)
