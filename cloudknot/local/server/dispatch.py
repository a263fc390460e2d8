"""AWS's services behind the gate: each request goes to the part of the embedded cloud that owns its service."""

from __future__ import annotations

from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from cloudknot.local import wsgi
from cloudknot.local.batch.job_api import Batch
from cloudknot.local.cloudformation.api import CloudFormation
from cloudknot.local.cloudformation.records import ValidationError
from cloudknot.local.codebuild.api import CodeBuild
from cloudknot.local.iam.gate import Gate
from cloudknot.local.iam.requests.calls import Call
from cloudknot.local.iam.requests.objects import S3Request
from cloudknot.local.iam.requests.received import received
from cloudknot.local.server.logs.api import Logs
from cloudknot.local.wsgi import ClientException, JsonRefusal


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
            principal = environ["cloudknot.principal"]
            if principal is None:
                return self._s3(environ, start_response)
            # A principal must not learn more about missing objects than its policies allow.
            return self._gate.hide_missing(principal, environ, start_response, self._s3)
        call = received(environ).call
        if call is not None and call.service == "cloudformation":
            return self._answer_stack_request(call, received(environ).access_key, start_response)
        respond = self._json.get(call.service) if call else None
        if call is None or respond is None:
            return self._services(environ, start_response)
        try:
            return wsgi.send_json(start_response, respond(call.operation, call.arguments))
        except ClientException as error:
            return wsgi.refuse_client(start_response, error)
        except JsonRefusal as error:
            return wsgi.refuse(environ, start_response, call.service, 400, error.code, str(error))

    def _answer_stack_request(self, call: Call, access_key: str, start_response: StartResponse) -> Iterable[bytes]:
        try:
            body = self._stacks.respond(call.operation, call.arguments, access_key)
        except ValidationError as error:
            _, body = wsgi.error_body("cloudformation", error.code, str(error))
            return wsgi.send(start_response, body, "text/xml", 400)
        return wsgi.send(start_response, body, "text/xml")
