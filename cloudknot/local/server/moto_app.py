"""moto as one WSGI application.

Only moto's server application is used. To find the service that is asked for, its dispatcher looks through moto's
folders at every request, which takes longer than all else that an S3 request does; so S3's go straight to S3.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from cloudknot.local.server.bucket_policies import BucketPolicies

IN_MEMORY = 1024 * 1024
"""Bytes of the largest object that is kept in memory."""
_S3_CONTROL = "/v20180820/"


class Moto:
    """The services that moto emulates, behind one address."""

    def __init__(self) -> None:
        # Before moto is imported: roles may have AWS's own policies, whose documents it brings along.
        os.environ.setdefault("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")
        # Larger objects, and parts of them, are files.
        os.environ.setdefault("MOTO_S3_DEFAULT_KEY_BUFFER_SIZE", str(IN_MEMORY))
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        self._dispatch: WSGIApplication = DomainDispatcherApplication(create_backend_app)
        self._s3: WSGIApplication = BucketPolicies(create_backend_app("s3"))

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if "/s3/aws4_request" in environ.get("HTTP_AUTHORIZATION", "") and not _is_control(environ):
            return self._s3(environ, start_response)
        return self._dispatch(environ, start_response)


def _is_control(environ: WSGIEnvironment) -> bool:
    return bool(environ["PATH_INFO"].startswith(_S3_CONTROL))
