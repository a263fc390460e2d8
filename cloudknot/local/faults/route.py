"""The server's end of the faults: one route of the cloud's owner, to set them, count them, kill, and forget."""

from __future__ import annotations

import json
from collections.abc import Callable

from cloudknot.errors import CloudknotInputError
from cloudknot.local.faults.faulty_runner import FaultyRunner
from cloudknot.local.faults.plan import Faults
from cloudknot.local.faults.requests import Injector
from cloudknot.local.wsgi import Answer, ClientException


class FaultRoute:
    """What a request to the route asks for.

    Parameters
    ----------
    injector : Injector
    runner : FaultyRunner
    forget : callable
        Takes a job id, of which Batch is to know no more.
    """

    def __init__(self, injector: Injector, runner: FaultyRunner, forget: Callable[[str], None]) -> None:
        self._injector, self._runner, self._forget = injector, runner, forget
        self.answer = injector.answer

    def respond(self, body: bytes) -> Answer:
        """Do what is asked for, and give the counts since the faults were set last.

        ``{"set": {...}}`` takes the members of `Faults`, ``{"kill": {"job": id, "how": ...}}`` kills the attempt that
        runs now, ``{"forget": id}`` has Batch know a job no more. Raises `ClientException` for what is refused.
        """
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
            raise ClientException(f"These faults cannot be injected: {error}") from error
        return {"injected": self._injector.counts()}
