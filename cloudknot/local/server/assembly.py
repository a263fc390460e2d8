"""Server: assembles the parts of the embedded cloud, and runs them."""

from __future__ import annotations

import argparse
import logging
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from cloudknot.local.admin import LOG_PATH, SHRINK_PATH
from cloudknot.local.batch import catalog, job_store
from cloudknot.local.batch.job_api import Batch
from cloudknot.local.batch.logs import GROUP, LogShipper
from cloudknot.local.batch.runner import Runner
from cloudknot.local.cloudformation.api import CloudFormation
from cloudknot.local.cloudformation.calls import InProcessServices
from cloudknot.local.cloudformation.stack_store import StackStore
from cloudknot.local.codebuild.api import CodeBuild
from cloudknot.local.directory.database import Database
from cloudknot.local.directory.documents import Documents, cloud_database
from cloudknot.local.directory.files import JOBS, LOGS, log_file, server_lock, state_file
from cloudknot.local.directory.full_disk import FullDisk
from cloudknot.local.directory.identity import Identity
from cloudknot.local.directory.state import REGION, VERSION, CloudState, write_state
from cloudknot.local.iam.gate import Admission
from cloudknot.local.iam.requests.calls import load_ahead
from cloudknot.local.iam.signing import AccessKey
from cloudknot.local.runners.choice import RUNNERS, RunnerSettings
from cloudknot.local.s3.application import S3Application
from cloudknot.local.s3.store import ObjectStore
from cloudknot.local.server.access_control import AccessControl
from cloudknot.local.server.application import Application
from cloudknot.local.server.dispatch import Dispatch
from cloudknot.local.server.failures import Failures
from cloudknot.local.server.http.server import http_server
from cloudknot.local.server.logs import store as log_store
from cloudknot.local.server.logs.api import Logs
from cloudknot.local.server.logs.page import LogPage
from cloudknot.local.server.logs.store import LogStore
from cloudknot.local.server.process.ending import exit_on_signals, ignore_signals, kill_self_after, terminate
from cloudknot.local.server.services.iam.records import new_key
from cloudknot.local.server.shrinking import Shrinking
from cloudknot.local.wsgi import Answer

if TYPE_CHECKING:
    from cloudknot.aws.images.registry.client import Registry

FIRST_SERVICES = ("cloudformation", "ecr", "iam", "batch", "sts", "ec2", "logs")
"""The services that a session calls first, in the order of their calls. The last ones only for a new knot."""
CHECK_PAUSE = 2.0
"""Seconds between two checks for idleness, and for the cloud's directory."""
END_TIMEOUT = 20
"""Seconds that the end of all jobs may take."""


class Server:
    """The server: assembles the parts of the cloud, and runs them.

    A server with further parts overrides `runner`, `services` or `routes`, which are called once, at the assembly.
    """

    def __init__(self, options: argparse.Namespace, scratch: Path) -> None:
        self._options = options
        self._is_idle = False
        self._database = cloud_database(options.directory)
        self._key, self._http = self._kept_key(), self._listen()
        self._disk = FullDisk(scratch)
        # Its lock stands for the directory, which no other cloud can have while this file is there.
        self._place = Identity(server_lock(options.directory))
        self._endpoint = f"http://127.0.0.1:{self._http.effective_port}"
        registry = _registry(options)
        self._store = ObjectStore(options.directory)
        s3 = S3Application(self._store)
        self._access = AccessControl(
            self._database,
            self._key,
            self._endpoint,
            scratch,
            s3.bucket_owner,
            registry,
            takes_keys=options.iam,
        )
        # Without a sync for each attempt: after a power cut, an attempt that is missing here was lost with its host.
        schema = catalog.SCHEMA + job_store.SCHEMA
        self._jobs = Database(options.directory / JOBS, schema, is_synced=False)
        self._log_database = Database(options.directory / LOGS, log_store.SCHEMA, is_synced=False)
        self._log_store = LogStore(self._log_database)
        self._logs = Logs(self._log_store)
        self._shipper = LogShipper(self._log_store.append)
        self._builds = CodeBuild(
            self._database,
            scratch / "builds",
            lambda role: {**self._job_variables(), **self._access.credentials.variables(role)},
            partial(self._log_store.append, adds_group=True),
        )
        self._batch = Batch(
            self._jobs, self.runner(scratch, registry), self._access.services.call, options.vcpus, options.quota
        )
        self._gate = self._access.gate(LOG_PATH)
        # With the key of each caller, so that CloudFormation can do no more than its caller, as on AWS.
        self._called_by_stacks = InProcessServices(self._answer_for_stacks, self._gate, self._access.on_behalf_of)
        store = StackStore(self._database)
        self._stacks = CloudFormation(store, self._called_by_stacks.calls_of, self._access.is_owner)
        self._services = self.services(
            Dispatch(self._gate, self._batch, self._logs, self._builds, s3, self._access.services, self._stacks)
        )
        self._application = application = Application(
            self._gate,
            self._access.credentials,
            self._services,
            self.routes(),
            self._batch,
            self._constant_status(),
            terminate,
        )
        self._answers = Failures(application, self._disk, log_file(options.directory))

    def _kept_key(self) -> AccessKey:
        """Return the owner's key of this directory, so that open sessions can go on after a restart."""
        kept = Documents(self._database, "server")
        if "owner" not in kept:
            kept["owner"] = asdict(new_key())
        return AccessKey(**kept["owner"])

    def _listen(self) -> Any:
        """Return the HTTP server, on the port of the last start if that is still free and no other is requested."""
        kept = Documents(self._database, "server")
        port = self._options.port or kept.get("port", {}).get("number", 0)
        try:
            server = http_server(self._answer, self._admit, port)
        except OSError:
            if self._options.port or not port:
                raise
            server = http_server(self._answer, self._admit, 0)
        kept["port"] = {"number": server.effective_port}
        return server

    def _constant_status(self) -> Answer:
        """Return the constant part of the status."""
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
        """Serve until SIGTERM or SIGINT, then end all jobs."""
        exit_on_signals()
        try:
            self._log_store.add_group(GROUP, {}, {})
            self._announce()
            # Not before: the first thing that a job does is a request.
            self._batch.start()
            self._stacks.start()
            # The starting session still makes its own imports.
            threading.Thread(target=load_ahead, args=[FIRST_SERVICES], name="descriptions", daemon=True).start()
            threading.Thread(target=self._watch_idleness, name="watch", daemon=True).start()
            self._http.run()
        finally:
            # A second signal must not interrupt this block: it would leave job processes behind.
            ignore_signals()
            kill_self_after(END_TIMEOUT)
            # Not the file of another cloud, whose directory took the place of a deleted one. After an idle end it
            # stays, as after a crash, so that an open session starts the cloud again by itself.
            if self._place.remains() and not self._is_idle:
                state_file(self._options.directory).unlink(missing_ok=True)
            # The socket first: new clients are refused at once, and do not wait for an answer that never comes.
            self._http.close()
            self._called_by_stacks.close()
            self._batch.close()
            self._builds.close()
            # After the jobs, so that it ships the rest of their output.
            self._shipper.close()
            self._answers.end()
            self._log_store.close()
            self._log_database.close()
            self._jobs.close()
            self._store.close()
            self._database.close()

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # The HTTP server needs a callable before the application exists, because that needs the server's port.
        return self._answers(environ, start_response)

    def _answer_for_stacks(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # CloudFormation is one of the services that it calls.
        return self._services(environ, start_response)

    def _admit(self, method: str, uri: str, headers: Mapping[str, str]) -> Admission:
        return self._gate.admit(method, uri, headers)

    def runner(self, scratch: Path, registry: Registry | None) -> Runner:
        """Return the runner that executes attempts."""
        settings = RunnerSettings(
            self._options.directory,
            scratch,
            self._job_variables(),
            self._access.credentials.variables,
            self._shipper.follow,
            self._disk,
            registry.login if registry else None,
        )
        return RUNNERS[self._options.runner].make(settings)

    def services(self, services: WSGIApplication) -> WSGIApplication:
        """Return the application that answers the requests to AWS's services."""
        return services

    def routes(self) -> Mapping[str, WSGIApplication]:
        """Return the applications of the cloud's own routes, by their path."""
        databases = (self._database, self._jobs, self._log_database, self._store)
        return {
            LOG_PATH: LogPage(self._logs),
            SHRINK_PATH: Shrinking([database.shrink for database in databases]),
        }

    def _job_variables(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self._endpoint,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            # Without this, boto3 in a job without a role would ask the network for the credentials of this machine.
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def _announce(self) -> None:
        """Write ``cloud.json``, and report to the starting session that the cloud is ready."""
        # The socket already listens, so a session that reads the file at this moment is answered.
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
        """End this process when the cloud has been idle for long enough, or when its directory was deleted."""
        pause = threading.Event()
        while self._application.idle < self._options.idle:
            pause.wait(min(CHECK_PAUSE, self._options.idle / 4))
            # No session could find such a cloud, and no command could stop it.
            if not self._place.remains():
                logging.error("The directory of this cloud was deleted. The cloud and its jobs end.")
                break
        else:
            self._is_idle = True
        terminate()


def _registry(options: argparse.Namespace) -> Registry | None:
    """Return the registry of the images, or None without one."""
    if options.registry is None:
        return None
    # The other clouds need no client of registries, whose import takes a tenth of their start.
    from cloudknot.local.server.registry import registry_of, take_login

    return registry_of(take_login(options.registry))
