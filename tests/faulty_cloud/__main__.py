"""The server process of `FaultyCloud`: ``python -m tests.faulty_cloud``, with the options of the product's server."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from cloudknot.aws.images.registry.client import Registry
from cloudknot.local.batch.runner import Runner
from cloudknot.local.iam.requests.objects import S3Request
from cloudknot.local.iam.requests.received import RECEIVED, Received
from cloudknot.local.iam.requests.s3_operations import OPERATIONS
from cloudknot.local.server.__main__ import Server, main
from cloudknot.local.wsgi import ask
from tests.faulty_cloud.faulty_runner import FaultyRunner
from tests.faulty_cloud.injector import Injector
from tests.faulty_cloud.route import FAULTS_PATH, FaultRoute


class FaultyServer(Server):
    """The server of the embedded cloud, with faults in front of its services and of its runner."""

    def __init__(self, options: argparse.Namespace, scratch: Path) -> None:
        self._injector = Injector()
        super().__init__(options, scratch)

    def runner(self, scratch: Path, registry: Registry | None) -> Runner:
        self._faulty_runner = FaultyRunner(super().runner(scratch, registry), self._injector, self._stored)
        return self._faulty_runner

    def services(self, services: WSGIApplication) -> WSGIApplication:
        self._carry_out = services

        def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            return self._injector.answer(environ, start_response, services)

        return answer

    def routes(self) -> Mapping[str, WSGIApplication]:
        route = FaultRoute(self._injector, self._faulty_runner, self._batch.forget)
        return {**super().routes(), FAULTS_PATH: route}

    def _stored(self, path: str) -> bytes:
        """Return the S3 object at a path, ``/bucket/key``, in the form of ``PATH_INFO``."""
        # WSGI has the bytes of a path as Latin-1.
        bucket, _, key = path[1:].encode("latin-1").decode().partition("/")
        request = S3Request("GET", bucket, key, {}, {}, OPERATIONS["object", "GET", ""])
        # Not over HTTP: with all threads in this method, none would be left for an answer.
        environ = {
            RECEIVED: Received(self._key.access_key, "s3", request),
            "REQUEST_METHOD": "GET",
            "wsgi.input": io.BytesIO(),
            "cloudknot.principal": None,
        }
        status, body = ask(self._carry_out, environ, {})
        assert status.startswith("2"), f"{path} cannot be read: {status}"
        return body


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], FaultyServer))
