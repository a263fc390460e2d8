"""moto as one WSGI application. cloudknot uses nothing else of moto."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from cloudknot.local import wsgi
from cloudknot.local.server.s3.bucket_policies import BucketPolicies
from cloudknot.local.server.s3.plain_s3 import PlainS3

IN_MEMORY = 1024 * 1024
"""Bytes. moto keeps larger S3 objects, and larger parts of them, in files."""
_S3_CONTROL = "/v20180820/"
_EC2 = "http://ec2.amazonaws.com/doc/2016-11-15/"
_EMPTY: Mapping[tuple[str, str], bytes] = {
    ("ec2", "DescribeVpcEncryptionControls"): (
        f'<DescribeVpcEncryptionControlsResponse xmlns="{_EC2}"><vpcEncryptionControlSet/>'
        "</DescribeVpcEncryptionControlsResponse>"
    ).encode(),
    ("logs", "DescribeIndexPolicies"): b'{"indexPolicies": []}',
    ("logs", "GetDataProtectionPolicy"): b"{}",
}
"""Answers to CloudFormation's reads that moto lacks. No resource of the embedded cloud has these properties."""


class Moto:
    """The services that moto emulates, as one WSGI application."""

    def __init__(self) -> None:
        # Set before the import of moto. It then knows the documents of AWS's managed policies, which roles may have.
        os.environ.setdefault("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")
        os.environ.setdefault("MOTO_S3_DEFAULT_KEY_BUFFER_SIZE", str(IN_MEMORY))
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        self._dispatch: WSGIApplication = DomainDispatcherApplication(create_backend_app)
        s3 = create_backend_app("s3")
        # Flask would turn the error for a full disk into a status that clients take for a passing one.
        s3.config["PROPAGATE_EXCEPTIONS"] = True
        self._s3: WSGIApplication = BucketPolicies(PlainS3(s3))

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # moto's dispatcher lists moto's folders at every request to find the service. That takes longer than the rest
        # of an S3 request. Bypassing it halves the server's CPU time for an element, from 12.5 ms to 6 ms.
        if "/s3/aws4_request" in environ.get("HTTP_AUTHORIZATION", "") and not _is_control(environ):
            return self._s3(environ, start_response)
        if (empty := _EMPTY.get(_operation(environ))) is not None:
            return wsgi.send(start_response, empty, "text/xml" if empty.startswith(b"<") else "application/json")
        return self._dispatch(environ, start_response)


def _operation(environ: WSGIEnvironment) -> tuple[str, str]:
    """Return the service and the operation of a request to EC2 or CloudWatch Logs."""
    service = wsgi.signed_service(environ)
    if service == "ec2":
        return service, wsgi.parse_form(wsgi.read_body(environ)).get("Action", "")
    return service, str(environ.get("HTTP_X_AMZ_TARGET", "")).rpartition(".")[2]


def _is_control(environ: WSGIEnvironment) -> bool:
    """Return whether a request is for S3 Control, which is signed for S3 but is a service of its own in moto."""
    return bool(environ["PATH_INFO"].startswith(_S3_CONTROL))
