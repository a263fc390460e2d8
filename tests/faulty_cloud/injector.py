"""Faults in requests: errors, lost answers, delays, silence. All are off until a session sets them."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from waitress.channel import ClientDisconnected

from cloudknot.local import wsgi
from cloudknot.local.cloudformation.calls import STACK_AGENT
from cloudknot.local.iam.requests.received import PRINCIPAL, received
from tests.faulty_cloud import answers
from tests.faulty_cloud.plan import Faults, Kill

"""HTTP status, code and message of an error."""

OFF = Faults()
_EXPIRED = "The security token included in the request is expired"


class Injector:
    """The current faults, the random numbers that choose among them, and the counts of injected ones.

    Parameters
    ----------
    sleep : callable
        Waits for some seconds.
    """

    def __init__(self, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep = sleep
        self._lock = threading.Lock()
        self._faults, self._random, self._remaining = OFF, random.Random(0), 0
        # A test can check with these counts that its faults really happened.
        self._injected: Counter[str] = Counter()
        self.on_stored: Callable[[str], None] = lambda path: None
        """Called with the path of each stored object."""

    def set(self, faults: Faults) -> None:
        """Replace the current faults, and set all counts to zero."""
        with self._lock:
            # Always the same object for "no faults": `answer` compares by identity, at every request.
            self._faults, self._random = OFF if faults == OFF else faults, random.Random(faults.seed)
            # Counted down from -1, the number never reaches 0: no limit.
            self._remaining = -1 if faults.limit is None else faults.limit
            self._injected = Counter()

    def counts(self) -> dict[str, int]:
        """Return the number of injections of each fault since the last `set`."""
        with self._lock:
            return dict(self._injected)

    def count(self, fault: str) -> None:
        """Count one injection of a fault."""
        with self._lock:
            self._injected[fault] += 1

    def kill_for(self, child: int, attempt: int) -> Kill | None:
        """Return the fault that ends a starting attempt, or None if none does."""
        with self._lock:
            kill = next((kill for kill in self._faults.kills if kill.affects(child, attempt)), None)
            return kill if kill is not None and self._random.random() < kill.share else None

    def answer(
        self,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        carry_out: WSGIApplication,
    ) -> Iterable[bytes]:
        """Answer a request with ``carry_out``, or inject a fault."""
        # Read once: a session may replace the faults while this request is answered.
        faults = self._faults
        if faults is OFF:
            return carry_out(environ, start_response)
        service = received(environ).service
        from_job = getattr(environ[PRINCIPAL], "kind", "") == "Role"
        if faults.silent:
            self.count("silence")
            # waitress closes the connection without an answer.
            raise ClientDisconnected
        if refusal := self._refusal(faults, service, from_job):
            return wsgi.refuse(environ, start_response, service, refusal)
        # CloudFormation's own calls do not cross the network of a session, so they meet no rates.
        if STACK_AGENT in environ.get("HTTP_USER_AGENT", ""):
            return carry_out(environ, start_response)
        names, chance = self._draw(faults, environ, service)
        for name in names:
            if name in answers.SPOILS:
                exchange = answers.Exchange(environ, start_response, carry_out, service, faults.cut, chance)
                return answers.SPOILS[name](exchange)
            if name != "slow":
                error = wsgi.ServiceError(*_ERRORS[name, service == "s3"])
                return wsgi.refuse(environ, start_response, service, error)
            self._sleep(faults.delay)
        return self._carry_out(environ, start_response, carry_out)

    def _refusal(self, faults: Faults, service: str, from_job: bool) -> wsgi.ServiceError | None:
        """Return the error for every request to a service, or None."""
        if faults.expired and (faults.jobs_expired or not from_job):
            self.count("expired")
            return _expired(service)
        if faults.refused and service in faults.services and not from_job:
            self.count("refused")
            # Like S3: HTTP 404 for a missing bucket, HTTP 403 for any other refusal.
            status = 404 if faults.refused.startswith("NoSuch") else 403
            message = "The embedded cloud refuses this request because of Faults(refused=...)."
            return wsgi.ServiceError(faults.refused, message, status)
        return None

    def _draw(self, faults: Faults, environ: WSGIEnvironment, service: str) -> tuple[list[str], random.Random]:
        """Draw the faults for a request, and count them. Return also random numbers for use by these faults."""
        possible = []
        request = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
        if service in faults.services and faults.only in request:
            possible += [("slow", faults.slow), ("error", faults.errors)]
            possible += [(name, getattr(faults, name)) for name in answers.SPOILS]
        if service == "batch":
            possible.append(("throttled", faults.throttled))
        drawn: list[str] = []
        # All threads share the random numbers and the limit.
        with self._lock:
            for name, rate in possible:
                # A slow request can meet a second fault, any other request only one.
                if drawn in ([], ["slow"]) and rate and self._remaining and self._random.random() < rate:
                    self._remaining -= 1
                    drawn.append(f"{name} {self._random.choice((500, 503))}" if name == "error" else name)
            self._injected.update(drawn)
            chance = random.Random(self._random.random()) if drawn else self._random
        return drawn, chance

    def _carry_out(
        self, environ: WSGIEnvironment, start_response: StartResponse, carry_out: WSGIApplication
    ) -> Iterable[bytes]:
        """Carry out a request, and report the object that it stored."""
        if not self._faults.kills or environ["REQUEST_METHOD"] != "PUT":
            return carry_out(environ, start_response)
        recorded = wsgi.RecordedAnswer()
        answer = carry_out(environ, recorded)
        recorded.pass_on(start_response)
        # Before the answer is sent: the object is stored, and the worker may die without knowing it.
        if recorded.status.startswith("200"):
            self.on_stored(environ["PATH_INFO"])
        return answer


_ERRORS: Mapping[tuple[str, bool], tuple[str, str, int]] = {
    ("error 500", True): ("InternalError", "We encountered an internal error. Please try again.", 500),
    ("error 503", True): ("SlowDown", "Please reduce your request rate.", 503),
    ("error 500", False): ("InternalFailure", "The request processing has failed because of an unknown error.", 500),
    ("error 503", False): ("ServiceUnavailable", "The service is temporarily unavailable.", 503),
    ("throttled", False): ("TooManyRequestsException", "Too Many Requests", 429),
}
"""By the fault, and whether the service is S3."""


def _expired(service: str) -> wsgi.ServiceError:
    """Return a service's error for expired credentials."""
    if service == "s3":
        return wsgi.ServiceError("ExpiredToken", "The provided token has expired.")
    if wsgi.is_xml(service):
        return wsgi.ServiceError("ExpiredToken", _EXPIRED, 403)
    return wsgi.ServiceError("ExpiredTokenException", _EXPIRED, wsgi.denied_status(service))
