"""The embedded cloud's own process: ``python -m cloudknot.local.server --directory D``.

Serves HTTP on 127.0.0.1, with a key made at start and written to ``D/cloud.json``. It ends on SIGTERM, when asked to
by a signed request, and by itself after ``--idle`` seconds without requests and without live jobs; with it end all
job processes.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import resource
import secrets
import shutil
import signal
import string
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from wsgiref.types import StartResponse, WSGIEnvironment

from cloudknot.errors import CKTimeoutError, CloudknotInputError
from cloudknot.local.admin import LOG_PATH
from cloudknot.local.batch.catalog import Catalog
from cloudknot.local.batch.job_api import Batch
from cloudknot.local.batch.logs import GROUP, LogShipper
from cloudknot.local.batch.resource_api import QUOTA, BatchResources
from cloudknot.local.batch.runner import Runner
from cloudknot.local.cloudformation.api import CloudFormation
from cloudknot.local.faults.faulty_runner import FaultyRunner
from cloudknot.local.faults.requests import Injector
from cloudknot.local.faults.route import FaultRoute
from cloudknot.local.iam.signing import AccessKey
from cloudknot.local.runners.choice import DEFAULT, RUNNERS, RunnerSettings
from cloudknot.local.server.access_control import AccessControl
from cloudknot.local.server.application import Application
from cloudknot.local.server.ecr import RegistryEcr
from cloudknot.local.server.http_server import http_server
from cloudknot.local.server.moto_app import Moto
from cloudknot.local.server.registry import PASSWORD_VARIABLE, USERNAME_VARIABLE, Registry, login_from_environment
from cloudknot.local.state import (
    ACCOUNT,
    REGION,
    VERSION,
    CloudState,
    claim,
    locked,
    server_lock,
    state_file,
    write_state,
)
from cloudknot.local.wsgi import Answer

DAY = 24 * 3600.0
IDLE_CHECK = 60.0
LOCK_PATIENCE = 1.0
"""Seconds; whoever asks whether a cloud runs holds its lock for a moment."""
END_TIMEOUT = 20
"""Seconds that ending every job may take."""
SCRATCH = ".cloudknot-scratch"


def main(argv: Sequence[str]) -> int:
    """Serve until told to stop."""
    options = _parse(argv)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
    # Its warning of a queue of requests is no news: clients keep 64 connections, and 16 threads answer them.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    _raise_file_limit()
    try:
        claim(options.directory)
    except CloudknotInputError as error:
        print(error, file=sys.stderr)
        return 1
    if options.detach and os.fork():
        os._exit(0)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(server_lock(options.directory), LOCK_PATIENCE))
        except CKTimeoutError:
            print(f"{options.directory} already has a running cloud", file=sys.stderr)
            return 1
        # A cloud that was killed left it; its process id is nobody's now, or somebody else's.
        state_file(options.directory).unlink(missing_ok=True)
        Server(options, stack.enter_context(_scratch(options.directory))).run()
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m cloudknot.local.server", description=__doc__)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0, help="default: any free one")
    parser.add_argument("--vcpus", type=float, default=os.cpu_count() or 1, help="default: the machine's")
    parser.add_argument("--quota", type=int, default=QUOTA, help="queues, and compute environments; default: AWS's")
    parser.add_argument("--runner", choices=tuple(RUNNERS), default=DEFAULT, help="what a job is")
    parser.add_argument("--registry", metavar="HOST:PORT", help="where images are; needed for --runner docker")
    parser.add_argument(
        "--iam", action="store_true", help="accept keys that are made by IAM, and hold them to policies"
    )
    parser.add_argument("--idle", type=float, default=DAY, metavar="SECONDS")
    parser.add_argument("--detach", action="store_true", help="serve in a process of its own")
    parser.add_argument("--ready-fd", type=int, help="written to, and closed, when requests are answered")
    options = parser.parse_args(argv)
    if RUNNERS[options.runner].needs_registry != bool(options.registry):
        parser.error("--runner docker and --registry go together")
    return options


def _registry(options: argparse.Namespace) -> Registry | None:
    """The registry of the images. Its login is passed on to no process."""
    if options.registry is None:
        return None
    login = login_from_environment(options.registry)
    for name in (USERNAME_VARIABLE, PASSWORD_VARIABLE):
        os.environ.pop(name, None)
    return Registry(login)


class Server:
    """The parts of the cloud, put together. Its life is `run`."""

    def __init__(self, options: argparse.Namespace, scratch: Path) -> None:
        self._options = options
        self._key = _new_key()
        self._http = http_server(self._answer, options.port)
        self._endpoint = f"http://127.0.0.1:{self._http.effective_port}"
        registry = _registry(options)
        services = BatchResources(Moto(), options.quota)
        others = services if registry is None else RegistryEcr(services, registry)
        self._access = AccessControl(others, self._key, self._endpoint, scratch, takes_keys=options.iam)
        moto, self._control_plane = self._access.application, self._access.plane
        self._shipper = LogShipper(self._control_plane.logs)
        injector = Injector()
        runner = FaultyRunner(self._runner(scratch, registry), injector, self._control_plane.stored)
        catalog = Catalog(self._control_plane.batch)
        self._batch = Batch(catalog, runner, options.vcpus)
        stacks = CloudFormation(self._access.door_of, ACCOUNT, REGION, catalog.forget)
        faults = FaultRoute(injector, runner, self._batch.forget)
        self._application = Application(
            self._access.gate(LOG_PATH),
            self._access.credentials,
            self._batch,
            catalog,
            moto,
            self._about(),
            self._control_plane,
            stacks,
            faults,
            _terminate,
        )

    def _about(self) -> Answer:
        """The constant part of the status."""
        options = self._options
        return {
            "version": VERSION,
            "endpoint": self._endpoint,
            "pid": os.getpid(),
            "vcpus": options.vcpus,
            "runner": options.runner,
            "registry": options.registry,
            "iam": options.iam,
        }

    def run(self) -> None:
        """Serve until SIGTERM, then end every job."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _exit)
        try:
            self._control_plane.logs("CreateLogGroup", logGroupName=GROUP)
            self._let_clients_in()
            threading.Thread(target=self._watch_idleness, name="idleness", daemon=True).start()
            self._http.run()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            _limit(END_TIMEOUT)
            state_file(self._options.directory).unlink(missing_ok=True)
            # First, so that whoever asks now is refused, and does not wait for an answer.
            self._http.close()
            self._batch.close()
            self._shipper.close()

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return self._application(environ, start_response)

    def _runner(self, scratch: Path, registry: Registry | None) -> Runner:
        settings = RunnerSettings(
            self._options.directory,
            scratch,
            self._job_variables(),
            self._access.credentials.variables,
            self._shipper.follow,
            registry.login if registry else None,
        )
        return RUNNERS[self._options.runner].make(settings)

    def _job_variables(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self._endpoint,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def _let_clients_in(self) -> None:
        """The socket listens already, so whoever reads ``cloud.json`` now is answered."""
        key, options = self._key, self._options
        state = CloudState(
            self._endpoint,
            os.getpid(),
            key.access_key,
            key.secret_key,
            runner=options.runner,
            registry=options.registry,
            iam=options.iam,
        )
        write_state(self._options.directory, state)
        if self._options.ready_fd is not None:
            os.write(self._options.ready_fd, b"\n")
            os.close(self._options.ready_fd)

    def _watch_idleness(self) -> None:
        pause = threading.Event()
        while self._application.idle < self._options.idle:
            pause.wait(min(IDLE_CHECK, self._options.idle / 4))
        _terminate()


def _new_key() -> AccessKey:
    alphabet = string.ascii_uppercase + "234567"
    return AccessKey("AKIA" + "".join(secrets.choice(alphabet) for _ in range(16)), secrets.token_urlsafe(30))


@contextlib.contextmanager
def _scratch(directory: Path) -> Iterator[Path]:
    """An empty directory for what jobs leave behind, and for as long as this process lives."""
    scratch = directory / SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o700, exist_ok=True)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else hard
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _limit(seconds: int) -> None:
    """Have the kernel kill this process then, whatever its threads wait for.

    Its fork servers see their sockets close, kill their jobs and end.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)


def _terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _exit(*_: object) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
