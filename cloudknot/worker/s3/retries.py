"""What goes wrong for a moment is tried again: which errors those are, how long to pause, when to give up.

Client and worker make every request to AWS through this. botocore is told not to repeat anything: its own retries
share one quota among all calls of a client, which runs dry when many fail, and it repeats what must not be done twice.
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

NO_RETRIES: _RetryDict = {"mode": "standard", "total_max_attempts": 1}
"""botocore's own, for ``Config(retries=...)``."""
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 3.0

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
    """Why a call may succeed when it is made again."""

    REFUSED = "asked to come back later: nothing was done"
    UNANSWERED = "no answer, or none that tells: it may have been done"
    NO_CONNECTION = "nobody was reached: nothing was done"
    INSECURE = "the connection could not be secured, or broke off as one that was: it may have been done"
    NO_CREDENTIALS = "the credentials have expired, or could not be had: nothing was done"

    @property
    def may_be_done(self) -> bool:
        """Whether the call may have been carried out."""
        return self in (Trouble.UNANSWERED, Trouble.INSECURE)


def trouble_of(error: BaseException) -> Trouble | None:
    """What kind of passing trouble an error is; None when making the call again would not help.

    Codes and statuses: AWS General Reference, "Error retries", and each service's "Common errors".
    """
    from botocore import exceptions
    from botocore.parsers import ResponseParserError

    if isinstance(error, exceptions.ClientError):
        return _trouble_of_answer(error)
    if isinstance(error, exceptions.SSLError):
        return Trouble.INSECURE
    if isinstance(error, exceptions.ConnectionError):
        return Trouble.NO_CONNECTION
    lost = isinstance(error, exceptions.CredentialRetrievalError | exceptions.MetadataRetrievalError)
    if lost or are_still_expired(error):
        return Trouble.NO_CREDENTIALS
    unanswered = exceptions.HTTPClientError | exceptions.IncompleteReadError | ResponseParserError | OSError
    return Trouble.UNANSWERED if isinstance(error, unanswered) else None


def is_foreign(error: BaseException) -> bool:
    """Whether botocore raises that: for refusals, requests without an answer, and answers that make no sense."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    return isinstance(error, BotoCoreError | ClientError | ResponseParserError | OSError) or are_still_expired(error)


def code_of(error: BaseException) -> str:
    """Return the code of AWS's refusal, from boto3's error or from one of ours; empty for any other error."""
    response: Mapping[str, Mapping[str, object]] = getattr(error, "response", {})
    return str(getattr(error, "code", "") or response.get("Error", {}).get("Code", ""))


def are_still_expired(error: BaseException) -> bool:
    """Whether credentials were fetched anew and had expired as well, for which botocore has no class of its own."""
    return isinstance(error, RuntimeError) and "refreshed credentials are still expired" in str(error)


def _trouble_of_answer(error: ClientError) -> Trouble | None:
    code, status = code_of(error), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if code in _THROTTLED or status == 429:
        return Trouble.REFUSED
    if code in _EXPIRED:
        return Trouble.NO_CREDENTIALS
    return Trouble.UNANSWERED if code in _UNANSWERED or status in _UNANSWERED_STATUS else None


@dataclass(frozen=True)
class Persistence:
    """Makes calls until they succeed, for a bounded time.

    Parameters
    ----------
    limit : float
        Seconds from the first failure of a call after which its error is final.
    worth : callable
        Whether to go on, asked after each failure with its trouble and the seconds since the first.
    clock, sleep, draw : callable
        Seconds now; a pause of some seconds; a random number from 0 to 1.

    Pauses grow twofold from `FIRST_PAUSE` to `LONGEST_PAUSE`, each between a half and the whole of that, so that many
    callers do not come back at once.
    """

    limit: float
    worth: Callable[[Trouble, float], bool] = lambda trouble, passed: True
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    draw: Callable[[], float] = random.random

    def call(self, attempt: Callable[[], T], *, repeatable: bool = True) -> T:
        """Call ``attempt`` until it returns, and give what that is.

        Without ``repeatable`` it is called again only when nothing can have been done so far. The last error is
        raised as it is.
        """
        begun = None
        for pause in self._pauses():
            try:
                return attempt()
            except Exception as error:
                trouble = trouble_of(error)
                if trouble is None or (trouble.may_be_done and not repeatable):
                    raise
                now = self.clock()
                begun = now if begun is None else begun
                passed = now - begun
                if passed + pause > self.limit or not self.worth(trouble, passed):
                    raise
            self.sleep(pause)
        raise AssertionError("unreachable: the pauses have no end")

    def _pauses(self) -> Iterator[float]:
        pause = FIRST_PAUSE
        while True:
            yield pause * (1 + self.draw()) / 2
            pause = min(2 * pause, LONGEST_PAUSE)
