"""The faults that are on, applied to requests: errors, lost answers, delays, silence. All off until told otherwise.

Random numbers come from a seed. What was injected is counted, so that a test can tell that it tested something.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from waitress.channel import ClientDisconnected

from cloudknot.local import wsgi
from cloudknot.local.faults.plan import Faults, Kill

Refusal = tuple[int, str, str]
"""HTTP status, code and message of an error."""

OFF = Faults()
_EXPIRED = "The security token included in the request is expired"


class Injector:
    """The faults that are on.

    Parameters
    ----------
    sleep : callable
        Waits for some seconds.
    """

    def __init__(self, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep = sleep
        self._lock = threading.Lock()
        self._faults, self._random, self._left = OFF, random.Random(0), 0
        self._injected: Counter[str] = Counter()
        self.on_stored: Callable[[str], None] = lambda path: None
        """Told the path of each object that was stored."""

    def set(self, faults: Faults) -> None:
        """Have these faults from now on, and count from zero."""
        with self._lock:
            self._faults, self._random = OFF if faults == OFF else faults, random.Random(faults.seed)
            self._left = -1 if faults.limit is None else faults.limit
            self._injected = Counter()

    def counts(self) -> dict[str, int]:
        """How often each fault was injected since they were set last."""
        with self._lock:
            return dict(self._injected)

    def count(self, what: str) -> None:
        """Note that a fault was injected."""
        with self._lock:
            self._injected[what] += 1

    def kill_for(self, child: int, attempt: int) -> Kill | None:
        """How an attempt that starts is to be ended; None lets it live."""
        with self._lock:
            kill = next((kill for kill in self._faults.kills if kill.is_meant(child, attempt)), None)
            return kill if kill is not None and self._random.random() < kill.share else None

    def answer(
        self,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        carry_out: WSGIApplication,
        service: str,
        of_job: bool,
    ) -> Iterable[bytes]:
        """Answer a request that ``carry_out`` would answer, or have it go wrong."""
        faults = self._faults
        if faults is OFF:
            return carry_out(environ, start_response)
        if faults.silent:
            self.count("silence")
            raise ClientDisconnected
        if refusal := self._refusal(faults, service, of_job):
            return wsgi.refuse(environ, start_response, service, *refusal)
        for name in self._drawn(faults, environ, service):
            if name != "slow":
                return _gone_wrong(name, environ, start_response, carry_out, service)
            self._sleep(faults.delay)
        return self._stored(environ, start_response, carry_out)

    def _refusal(self, faults: Faults, service: str, of_job: bool) -> Refusal | None:
        """Return the error with which a service refuses every request."""
        if faults.expired and (faults.jobs_expired or not of_job):
            self.count("expired")
            return _expired(service)
        if faults.refused and service in faults.services and not of_job:
            self.count("refused")
            status = 404 if faults.refused.startswith("NoSuch") else 403
            return status, faults.refused, "Not for you, for a while."
        return None

    def _drawn(self, faults: Faults, environ: WSGIEnvironment, service: str) -> list[str]:
        """What happens to a request, counted."""
        possible = []
        what = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
        if service in faults.services and faults.only in what:
            possible += [("slow", faults.slow), ("error", faults.errors), ("dropped", faults.dropped)]
            if what.startswith("GET") and service == "s3":
                possible.append(("truncated", faults.truncated))
        if service == "batch":
            possible.append(("throttled", faults.throttled))
        drawn: list[str] = []
        with self._lock:
            for name, rate in possible:
                # One that is only slow can go wrong as well.
                if drawn in ([], ["slow"]) and rate and self._left and self._random.random() < rate:
                    self._left -= 1
                    drawn.append(f"{name} {self._random.choice((500, 503))}" if name == "error" else name)
            self._injected.update(drawn)
        return drawn

    def _stored(
        self, environ: WSGIEnvironment, start_response: StartResponse, carry_out: WSGIApplication
    ) -> Iterable[bytes]:
        """Carry a request out, and tell of the object that it stored."""
        if not self._faults.kills or environ["REQUEST_METHOD"] != "PUT":
            return carry_out(environ, start_response)
        recorded = wsgi.Recorded()
        answer = carry_out(environ, recorded)
        recorded.pass_on(start_response)
        if recorded.status.startswith("200"):
            self.on_stored(environ["PATH_INFO"])
        return answer


_ERRORS: Mapping[tuple[str, bool], Refusal] = {
    ("error 500", True): (500, "InternalError", "We encountered an internal error. Please try again."),
    ("error 503", True): (503, "SlowDown", "Please reduce your request rate."),
    ("error 500", False): (500, "InternalFailure", "The request processing has failed because of an unknown error."),
    ("error 503", False): (503, "ServiceUnavailable", "The service is temporarily unavailable."),
    ("throttled", False): (429, "TooManyRequestsException", "Too Many Requests"),
}
"""By the fault, and whether S3 says it."""


def _gone_wrong(
    name: str, environ: WSGIEnvironment, start_response: StartResponse, carry_out: WSGIApplication, service: str
) -> Iterable[bytes]:
    """Answer a request that a fault was drawn for."""
    if name == "dropped":
        wsgi.ask(carry_out, environ, {})
        raise ClientDisconnected
    if name == "truncated":
        return _truncated(environ, start_response, carry_out)
    return wsgi.refuse(environ, start_response, service, *_ERRORS[name, service == "s3"])


def _expired(service: str) -> Refusal:
    if service == "s3":
        return 400, "ExpiredToken", "The provided token has expired."
    if wsgi.is_xml(service):
        return 403, "ExpiredToken", _EXPIRED
    return wsgi.denied_status(service), "ExpiredTokenException", _EXPIRED


def _truncated(environ: WSGIEnvironment, start_response: StartResponse, carry_out: WSGIApplication) -> Iterator[bytes]:
    """The first half of an answer, and then the end of the connection."""
    data = wsgi.whole(carry_out(environ, start_response))
    yield data[: len(data) // 2]
    raise ClientDisconnected
