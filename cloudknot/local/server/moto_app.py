"""moto as one WSGI application. cloudknot uses nothing else of moto."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from cloudknot.local import wsgi
from cloudknot.local.iam.requests.received import received
from cloudknot.local.iam.requests.rendered import service_environ

_EC2 = "http://ec2.amazonaws.com/doc/2016-11-15/"
_EMPTY: Mapping[tuple[str, str], bytes] = {
    ("ec2", "DescribeVpcEncryptionControls"): (
        f'<DescribeVpcEncryptionControlsResponse xmlns="{_EC2}"><vpcEncryptionControlSet/>'
        "</DescribeVpcEncryptionControlsResponse>"
    ).encode(),
}
"""Answers to CloudFormation's reads that moto lacks. No resource of the embedded cloud has these properties."""


class Moto:
    """The services that moto emulates, as one WSGI application."""

    def __init__(self) -> None:
        # Set before the import of moto. It then knows the documents of AWS's managed policies, which roles may have.
        os.environ.setdefault("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        self._dispatch: WSGIApplication = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        call = received(environ).call
        if call is not None and (empty := _EMPTY.get((call.service, call.operation))) is not None:
            return wsgi.send(start_response, empty, "text/xml")
        # moto reads the service, the region and the arguments from any of a dozen places, for example from a browser's
        # form and from User-Agent. So it gets nothing but the request that the gate has read.
        return self._dispatch(service_environ(environ), start_response)
