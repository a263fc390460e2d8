"""The server process of `FaultyCloud`: ``python -m tests.faulty_cloud``, with the options of the product's server."""

from __future__ import annotations

import argparse
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from cloudknot.aws.images.registry.client import Registry
from cloudknot.local.batch.runner import Runner
from cloudknot.local.iam.requests.objects import S3Request
from cloudknot.local.iam.requests.received import received
from cloudknot.local.server.__main__ import main
from cloudknot.local.server.assembly import Server
from cloudknot.local.wsgi import FileBody, send
from cloudknot.worker.s3.owners import HEADER
from tests.faulty_cloud.faulty_runner import FaultyRunner
from tests.faulty_cloud.injector import Injector
from tests.faulty_cloud.route import FAULTS_PATH, FaultRoute

ACCOUNT_HEADER = "HTTP_X_CLOUDKNOT_ACCOUNT"
"""The WSGI variable of the header with the number of the account for which a bucket is created."""

OWNER_HEADER = f"HTTP_{HEADER.upper().replace('-', '_')}"
"""The WSGI variable of the header with the owner whom a client expects."""


class FaultyServer(Server):
    """The server of the embedded cloud, with faults in front of its services and of its runner.

    It also creates buckets for other accounts, which are open to all accounts, as those of an attacker would be, and
    counts the requests to S3 that do not name the owner whom they expect.
    """

    def __init__(self, options: argparse.Namespace, scratch: Path) -> None:
        self._injector = Injector()
        self._ownerless: Counter[str] = Counter()
        self._lock = threading.Lock()
        super().__init__(options, scratch)

    def runner(self, scratch: Path, registry: Registry | None) -> Runner:
        self._faulty_runner = FaultyRunner(super().runner(scratch, registry), self._injector, self._stored)
        return self._faulty_runner

    def services(self, services: WSGIApplication) -> WSGIApplication:
        def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            request, account = received(environ).target, environ.get(ACCOUNT_HEADER)
            if account and isinstance(request, S3Request) and request.operation.name == "CreateBucket":
                self._store.create_bucket(request.bucket, account)
                return send(start_response, b"")
            if isinstance(request, S3Request) and OWNER_HEADER not in environ:
                with self._lock:
                    self._ownerless[request.operation.name] += 1
            return self._injector.answer(environ, start_response, services)

        return answer

    def routes(self) -> Mapping[str, WSGIApplication]:
        batch, runner = self._batch, self._faulty_runner
        route = FaultRoute(self._injector, runner, batch.forget, self._ownerless, lambda: batch.live)
        return {**super().routes(), FAULTS_PATH: route}

    def _stored(self, path: str) -> bytes:
        """Return the S3 object at a path, ``/bucket/key``, in the form of ``PATH_INFO``."""
        # WSGI has the bytes of a path as Latin-1.
        bucket, _, key = path[1:].encode("latin-1").decode().partition("/")
        # Not over HTTP: with all threads in this method, none would be left for an answer.
        version = self._store.get(bucket, key)
        return version.content or b"".join(FileBody(self._store.segments(version, 0, version.size)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], FaultyServer))
