"""The server's route for faults, open to the cloud's owner only: set and count them, kill attempts, forget jobs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from wsgiref.types import StartResponse, WSGIEnvironment

from cloudknot.errors import CloudknotInputError
from cloudknot.local import wsgi
from cloudknot.local.wsgi import Answer, ClientException
from tests.faulty_cloud.faulty_runner import FaultyRunner
from tests.faulty_cloud.injector import Injector
from tests.faulty_cloud.plan import Faults

FAULTS_PATH = "/_cloudknot/faults"


class FaultRoute:
    """The WSGI application behind the route.

    Parameters
    ----------
    injector : Injector
        Injects faults into requests.
    runner : FaultyRunner
        Injects faults into attempts.
    forget : callable
        Removes a job from Batch, by its id.
    ownerless : mapping
        The numbers of requests to S3 that named no owner, by operation.
    live : callable
        Returns whether Batch has jobs that have not ended.
    """

    def __init__(
        self,
        injector: Injector,
        runner: FaultyRunner,
        forget: Callable[[str], None],
        ownerless: Mapping[str, int],
        live: Callable[[], bool],
    ) -> None:
        self._injector, self._runner, self._forget = injector, runner, forget
        self._ownerless, self._live = ownerless, live

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            return wsgi.send_json(start_response, self._respond(environ["wsgi.input"].read()))
        except ClientException as error:
            return wsgi.refuse(environ, start_response, "batch", error)

    def _respond(self, body: bytes) -> Answer:
        """Handle a request, and return the counts of injected faults since the last change of faults.

        ``{"set": {...}}`` sets the attributes of `Faults`. ``{"kill": {"job": id, "how": ...}}`` kills the running
        attempt of a job. ``{"forget": id}`` removes a job from Batch.

        Raises
        ------
        ClientException
            The request is malformed, or a value in it is refused.
        """
        # One error for every malformed request: only tests send requests, signed with the owner's key.
        try:
            request = json.loads(body or b"{}")
            if "set" in request:
                self._injector.set(Faults.from_dict(request["set"]))
            if "kill" in request:
                self._runner.kill(request["kill"]["job"], request["kill"]["how"])
            if "forget" in request:
                self._forget(request["forget"])
                self._injector.count("forgotten")
        except (CloudknotInputError, TypeError, KeyError, ValueError) as error:
            raise ClientException(f"The request for faults is not valid: {error}") from error
        work = {"jobs": int(self._live()), "tasks": self._runner.running}
        return {"injected": self._injector.counts(), "ownerless": dict(self._ownerless), "work": work}
