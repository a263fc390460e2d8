"""Calls to AWS are repeated after temporary errors, for a limited time. Clock and random numbers are fakes."""

import random

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    CredentialRetrievalError,
    EndpointConnectionError,
    IncompleteReadError,
    NoCredentialsError,
    ParamValidationError,
    ReadTimeoutError,
    SSLError,
)
from botocore.parsers import ResponseParserError

from cloudknot.worker.s3.answers import WrongAnswer
from cloudknot.worker.s3.retries import FIRST_PAUSE, LONGEST_PAUSE, Persistence, Trouble, trouble_of

NO_CREDENTIALS = Trouble.NO_CREDENTIALS


def error_response(code, status):
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Operation")


@pytest.mark.parametrize(
    ("error", "trouble"),
    [
        (error_response("SlowDown", 503), Trouble.REFUSED),
        (error_response("TooManyRequestsException", 429), Trouble.REFUSED),
        (error_response("Throttling", 400), Trouble.REFUSED),
        (error_response("429", 429), Trouble.REFUSED),
        (error_response("InternalError", 500), Trouble.UNANSWERED),
        (error_response("500", 500), Trouble.UNANSWERED),
        (error_response("ServerException", 500), Trouble.UNANSWERED),
        (error_response("ServiceUnavailable", 503), Trouble.UNANSWERED),
        (error_response("RequestTimeout", 400), Trouble.UNANSWERED),
        (error_response("ExpiredToken", 400), Trouble.NO_CREDENTIALS),
        (error_response("ExpiredTokenException", 403), Trouble.NO_CREDENTIALS),
        (ConnectionClosedError(endpoint_url="http://x"), Trouble.UNANSWERED),
        (ReadTimeoutError(endpoint_url="http://x"), Trouble.UNANSWERED),
        (IncompleteReadError(actual_bytes=1, expected_bytes=2), Trouble.UNANSWERED),
        (ResponseParserError("no XML"), Trouble.UNANSWERED),
        (WrongAnswer("it lacks jobId"), Trouble.WRONG_ANSWER),
        (ConnectionResetError(), Trouble.UNANSWERED),
        (EndpointConnectionError(endpoint_url="http://x"), Trouble.NO_CONNECTION),
        (SSLError(endpoint_url="https://x", error="bad record"), Trouble.INSECURE),
        (CredentialRetrievalError(provider="x", error_msg="busy"), Trouble.NO_CREDENTIALS),
        (RuntimeError("Credentials were refreshed, but the refreshed credentials are still expired."), NO_CREDENTIALS),
        (RuntimeError("unrelated"), None),
        (error_response("AccessDenied", 403), None),
        (error_response("NoSuchKey", 404), None),
        (error_response("ClientException", 400), None),
        (error_response("LimitExceededException", 400), None),
        (NoCredentialsError(), None),
        (ParamValidationError(report="wrong"), None),
        (KeyError("unrelated"), None),
    ],
)
def test_trouble_of_recognises_only_temporary_errors(error, trouble):
    assert trouble_of(error) is trouble


class Time:
    """A clock that moves only during pauses."""

    def __init__(self):
        self.now, self.pauses = 0.0, []

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds


class FailingCall:
    """A call that raises the given errors one after the other, and then returns a value."""

    def __init__(self, *errors):
        self.errors, self.count = list(errors), 0

    def __call__(self):
        self.count += 1
        if self.errors:
            raise self.errors.pop(0)
        return "value"


@pytest.fixture
def time():
    return Time()


def persistence(time, limit=60.0, **choices):
    return Persistence(limit, clock=lambda: time.now, sleep=time.sleep, draw=random.Random(1).random, **choices)


def test_persistence_makes_successful_call_once(time):
    call = FailingCall()
    assert persistence(time).call(call) == "value"
    assert (call.count, time.pauses) == (1, [])


def test_pauses_double_up_to_limit_and_vary_at_random(time):
    call = FailingCall(*[error_response("SlowDown", 503)] * 12)
    assert persistence(time).call(call) == "value"
    for number, pause in enumerate(time.pauses):
        whole = min(FIRST_PAUSE * 2**number, LONGEST_PAUSE)
        assert whole / 2 <= pause <= whole
    assert len({pause / min(FIRST_PAUSE * 2**n, LONGEST_PAUSE) for n, pause in enumerate(time.pauses)}) == 12


def test_persistence_raises_last_error_after_its_time_limit(time):
    call = FailingCall(*[error_response("InternalError", 500)] * 1000)
    with pytest.raises(ClientError):
        persistence(time).call(call)
    assert 60 - LONGEST_PAUSE <= time.now <= 60
    assert 20 <= call.count <= 60


def test_persistence_raises_permanent_error_immediately(time):
    call = FailingCall(error_response("AccessDenied", 403))
    with pytest.raises(ClientError):
        persistence(time).call(call)
    assert call.count == 1


def test_persistence_repeats_unrepeatable_call_only_if_aws_did_not_execute_it(time):
    # TLS may also break after AWS has received the request.
    broken = SSLError(endpoint_url="https://x", error="bad record mac")
    for error in (error_response("InternalError", 500), ConnectionClosedError(endpoint_url="http://x"), broken):
        call = FailingCall(error)
        with pytest.raises(type(error)):
            persistence(time).call(call, repeatable=False)
        assert call.count == 1
    # AWS has done nothing if it refused the call, or if no connection came about.
    refused = FailingCall(
        error_response("TooManyRequestsException", 429), EndpointConnectionError(endpoint_url="http://x")
    )
    assert persistence(time).call(refused, repeatable=False) == "value"


def test_persistence_gives_up_when_keep_trying_returns_false(time):
    troubles = []

    def keep_trying(trouble, passed):
        troubles.append((trouble, passed > 0))
        return len(troubles) < 3

    call = FailingCall(*[EndpointConnectionError(endpoint_url="http://x")] * 5)
    with pytest.raises(EndpointConnectionError):
        persistence(time, keep_trying=keep_trying).call(call)
    assert troubles == [(Trouble.NO_CONNECTION, False), (Trouble.NO_CONNECTION, True), (Trouble.NO_CONNECTION, True)]


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5])
def test_persistence_loses_no_call_at_any_error_rate(time, rate):
    chance = random.Random(3)

    def call():
        if chance.random() < rate:
            raise error_response("SlowDown", 503)
        return "value"

    call_persistently = persistence(time).call
    assert [call_persistently(call) for _ in range(20_000)] == ["value"] * 20_000
    # The pauses stay short on average, even if every second request fails.
    assert time.now < 20_000 * 0.5
