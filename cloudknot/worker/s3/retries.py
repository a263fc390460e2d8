"""Retry requests that fail for a moment. Decide which errors to retry, how long to pause, and when to give up.

Client and worker make every request to AWS through this module.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from botocore.config import _RetryDict
    from botocore.exceptions import ClientError

T = TypeVar("T")

# botocore's own retries share one quota among all calls of a client. It runs dry when many calls fail: of 600 uploads,
# with half of all requests failing, 119 were lost. The adaptive mode slows down all calls instead. botocore also
# repeats calls that must not be made twice, such as SubmitJob.
NO_RETRIES: _RetryDict = {"mode": "standard", "total_max_attempts": 1}
"""Turns botocore's own retries off, for ``Config(retries=...)``."""
PRECONDITION_FAILED = "PreconditionFailed"
"""S3's code for a conditional write to a key that exists (HTTP 412)."""
BUG_HEADER = "x-cloudknot-bug"
"""The header by which the embedded cloud marks a failure of its own code. It has the message."""
REPEATED_BUGS = 2
"""Repetitions of a call that meets a bug. A bug may show at some moments only, such as two calls at a time."""
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 3.0
"""Seconds."""

_THROTTLED = frozenset(
    {
        "BandwidthLimitExceeded",
        "ConditionalRequestConflict",
        "EC2ThrottledException",
        "OperationAborted",
        "PriorRequestNotComplete",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_UNANSWERED = frozenset({"InternalError", "InternalFailure", "RequestTimeout", "RequestTimeoutException"})
_UNANSWERED_STATUS = frozenset({500, 502, 503, 504})
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})


class Trouble(Enum):
    """A reason why a failed call may succeed when it is repeated."""

    REFUSED = "AWS asked to come back later: nothing was done"
    UNANSWERED = "no answer, or an unclear one: it may have been done"
    BUG = "the embedded cloud failed because of a bug in it: it may have been done"
    WRONG_ANSWER = "another server than AWS's answered, or AWS's answer was changed on its way: it may have been done"
    NO_CONNECTION = "no server was reached: nothing was done"
    INSECURE = "TLS failed, at the start or later: it may have been done"
    NO_CREDENTIALS = "the credentials have expired or cannot be fetched: nothing was done"

    @property
    def may_be_done(self) -> bool:
        """Whether AWS may have carried out the call."""
        return self not in (Trouble.REFUSED, Trouble.NO_CONNECTION, Trouble.NO_CREDENTIALS)


def trouble_of(error: BaseException) -> Trouble | None:
    """Return the trouble behind an error, or None if repeating the call would not help."""
    from botocore import exceptions
    from botocore.parsers import ResponseParserError

    from .answers import WrongAnswer

    if isinstance(error, exceptions.ClientError):
        return _trouble_of_answer(error)
    if isinstance(error, WrongAnswer):
        return Trouble.WRONG_ANSWER
    # First, because botocore's SSLError is a ConnectionError too, but a broken TLS connection may have carried a call.
    if isinstance(error, exceptions.SSLError):
        return Trouble.INSECURE
    if isinstance(error, exceptions.ConnectionError):
        return Trouble.NO_CONNECTION
    lost = isinstance(error, exceptions.CredentialRetrievalError | exceptions.MetadataRetrievalError)
    if lost or is_failed_renewal(error):
        return Trouble.NO_CREDENTIALS
    # Of the errors of the system, only those about a file have its name: a file that AWS settings name is missing.
    if isinstance(error, OSError) and error.filename:
        return None
    unanswered = exceptions.HTTPClientError | exceptions.IncompleteReadError | ResponseParserError | OSError
    return Trouble.UNANSWERED if isinstance(error, unanswered) else None


def is_botocore_error(error: BaseException) -> bool:
    """Return whether botocore raises such an error: for refusals, lost answers and malformed answers."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    return isinstance(error, BotoCoreError | ClientError | ResponseParserError | OSError) or is_failed_renewal(error)


def code_of(error: BaseException) -> str:
    """Return AWS's error code from boto3's or cloudknot's exception; empty for any other error."""
    response: Mapping[str, Mapping[str, object]] = getattr(error, "response", {})
    # The status is enough, should the body with the code be lost.
    if response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 412:
        return PRECONDITION_FAILED
    return str(getattr(error, "code", "") or response.get("Error", {}).get("Code", ""))


def bug_of(error: ClientError) -> str:
    """Return the embedded cloud's message about a bug in it; empty for any other answer."""
    return str(error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get(BUG_HEADER, ""))


def is_failed_renewal(error: BaseException) -> bool:
    """Return whether renewed credentials had expired as well."""
    # botocore raises a bare RuntimeError for this, so only the text identifies it.
    return isinstance(error, RuntimeError) and "refreshed credentials are still expired" in str(error)


def _trouble_of_answer(error: ClientError) -> Trouble | None:
    # Codes and statuses: AWS General Reference, "Error retries", and "Common errors" of each service.
    code, status = code_of(error), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if bug_of(error):
        return Trouble.BUG
    if code in _THROTTLED or status == 429:
        return Trouble.REFUSED
    if code in _EXPIRED:
        return Trouble.NO_CREDENTIALS
    return Trouble.UNANSWERED if code in _UNANSWERED or status in _UNANSWERED_STATUS else None


@dataclass(frozen=True)
class Persistence:
    """A policy that repeats calls until they succeed, for a limited time.

    Parameters
    ----------
    limit : float
        Seconds from the first failure of a call until its next error is final.
    keep_trying : callable
        Returns whether to go on. Called after each failure with its trouble and the seconds since the first one.
    clock, sleep, draw : callable
        Returns the time in seconds; pauses for some seconds; returns a random number from 0 to 1.

    Notes
    -----
    Pauses double from `FIRST_PAUSE` to `LONGEST_PAUSE`. A call that meets a bug is repeated `REPEATED_BUGS` times.
    """

    limit: float
    keep_trying: Callable[[Trouble, float], bool] = lambda trouble, passed: True
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    draw: Callable[[], float] = random.random

    def call(self, attempt: Callable[[], T], *, repeatable: bool = True) -> T:
        """Call ``attempt`` until it succeeds, and return its result.

        Raises the last error unchanged. With ``repeatable=False``, repeats only a call that AWS cannot have carried
        out.
        """
        begun, bugs = None, 0
        for pause in self._pauses():
            try:
                return attempt()
            except Exception as error:
                trouble = trouble_of(error)
                if trouble is None or (trouble.may_be_done and not repeatable):
                    raise
                bugs += trouble is Trouble.BUG
                if bugs > REPEATED_BUGS:
                    raise
                now = self.clock()
                begun = now if begun is None else begun
                passed = now - begun
                if passed + pause > self.limit or not self.keep_trying(trouble, passed):
                    raise
            self.sleep(pause)
        raise AssertionError("unreachable: the pauses have no end")

    def _pauses(self) -> Iterator[float]:
        pause = FIRST_PAUSE
        while True:
            # Between half and all of the pause, at random, so that many callers do not come back at the same moment.
            yield pause * (1 + self.draw()) / 2
            pause = min(2 * pause, LONGEST_PAUSE)
