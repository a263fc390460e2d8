"""Calls that fail for a moment: which errors those are, how long they are made again. Time and chance are given."""

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

from cloudknot.worker.s3.retries import FIRST_PAUSE, LONGEST_PAUSE, Persistence, Trouble, trouble_of

NO_CREDENTIALS = Trouble.NO_CREDENTIALS


def answer(code, status):
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Operation")


@pytest.mark.parametrize(
    ("error", "trouble"),
    [
        (answer("SlowDown", 503), Trouble.REFUSED),
        (answer("TooManyRequestsException", 429), Trouble.REFUSED),
        (answer("Throttling", 400), Trouble.REFUSED),
        (answer("429", 429), Trouble.REFUSED),
        (answer("InternalError", 500), Trouble.UNANSWERED),
        (answer("500", 500), Trouble.UNANSWERED),
        (answer("ServerException", 500), Trouble.UNANSWERED),
        (answer("ServiceUnavailable", 503), Trouble.UNANSWERED),
        (answer("RequestTimeout", 400), Trouble.UNANSWERED),
        (answer("ExpiredToken", 400), Trouble.NO_CREDENTIALS),
        (answer("ExpiredTokenException", 403), Trouble.NO_CREDENTIALS),
        (ConnectionClosedError(endpoint_url="http://x"), Trouble.UNANSWERED),
        (ReadTimeoutError(endpoint_url="http://x"), Trouble.UNANSWERED),
        (IncompleteReadError(actual_bytes=1, expected_bytes=2), Trouble.UNANSWERED),
        (ResponseParserError("no XML"), Trouble.UNANSWERED),
        (ConnectionResetError(), Trouble.UNANSWERED),
        (EndpointConnectionError(endpoint_url="http://x"), Trouble.NO_CONNECTION),
        (SSLError(endpoint_url="https://x", error="bad record"), Trouble.INSECURE),
        (CredentialRetrievalError(provider="x", error_msg="busy"), Trouble.NO_CREDENTIALS),
        (RuntimeError("Credentials were refreshed, but the refreshed credentials are still expired."), NO_CREDENTIALS),
        (RuntimeError("ours"), None),
        (answer("AccessDenied", 403), None),
        (answer("NoSuchKey", 404), None),
        (answer("ClientException", 400), None),
        (answer("LimitExceededException", 400), None),
        (NoCredentialsError(), None),
        (ParamValidationError(report="wrong"), None),
        (KeyError("ours"), None),
    ],
)
def test_what_is_worth_another_try(error, trouble):
    assert trouble_of(error) is trouble


class Time:
    """A clock that only pauses move."""

    def __init__(self):
        self.now, self.pauses = 0.0, []

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds


class Calls:
    """A call that raises the given errors one after the other, and then gives a value."""

    def __init__(self, *errors):
        self.errors, self.made = list(errors), 0

    def __call__(self):
        self.made += 1
        if self.errors:
            raise self.errors.pop(0)
        return "value"


@pytest.fixture
def time():
    return Time()


def persistence(time, limit=60.0, **choices):
    return Persistence(limit, clock=lambda: time.now, sleep=time.sleep, draw=random.Random(1).random, **choices)


def test_a_call_that_succeeds_is_made_once(time):
    call = Calls()
    assert persistence(time).call(call) == "value"
    assert (call.made, time.pauses) == (1, [])


def test_pauses_double_up_to_the_longest_and_are_not_all_alike(time):
    call = Calls(*[answer("SlowDown", 503)] * 12)
    assert persistence(time).call(call) == "value"
    for number, pause in enumerate(time.pauses):
        whole = min(FIRST_PAUSE * 2**number, LONGEST_PAUSE)
        assert whole / 2 <= pause <= whole
    assert len({pause / min(FIRST_PAUSE * 2**n, LONGEST_PAUSE) for n, pause in enumerate(time.pauses)}) == 12


def test_the_last_error_is_raised_when_the_time_is_over(time):
    call = Calls(*[answer("InternalError", 500)] * 1000)
    with pytest.raises(ClientError):
        persistence(time).call(call)
    assert 60 - LONGEST_PAUSE <= time.now <= 60
    assert 20 <= call.made <= 60


def test_what_does_not_pass_is_raised_at_once(time):
    call = Calls(answer("AccessDenied", 403))
    with pytest.raises(ClientError):
        persistence(time).call(call)
    assert call.made == 1


def test_what_may_have_been_done_is_not_done_again(time):
    broken = SSLError(endpoint_url="https://x", error="bad record mac")
    for error in (answer("InternalError", 500), ConnectionClosedError(endpoint_url="http://x"), broken):
        call = Calls(error)
        with pytest.raises(type(error)):
            persistence(time).call(call, repeatable=False)
        assert call.made == 1
    refused = Calls(answer("TooManyRequestsException", 429), EndpointConnectionError(endpoint_url="http://x"))
    assert persistence(time).call(refused, repeatable=False) == "value"


def test_it_ends_when_it_is_not_worth_it(time):
    asked = []

    def keep_trying(trouble, passed):
        asked.append((trouble, passed > 0))
        return len(asked) < 3

    call = Calls(*[EndpointConnectionError(endpoint_url="http://x")] * 5)
    with pytest.raises(EndpointConnectionError):
        persistence(time, keep_trying=keep_trying).call(call)
    assert asked == [(Trouble.NO_CONNECTION, False), (Trouble.NO_CONNECTION, True), (Trouble.NO_CONNECTION, True)]


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5])
def test_nothing_is_lost_at_any_rate_of_errors(time, rate):
    chance = random.Random(3)

    def call():
        if chance.random() < rate:
            raise answer("SlowDown", 503)
        return "value"

    persist = persistence(time).call
    assert [persist(call) for _ in range(20_000)] == ["value"] * 20_000
    # Half a second each at most, even where every second request fails.
    assert time.now < 20_000 * 0.5
