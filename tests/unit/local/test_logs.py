"""CloudWatch Logs of the embedded cloud keeps events in order, pages through them, and has AWS's limits and errors."""

import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudknot.aws.batch import LogStream, log_pages
from cloudknot.local.batch.logs import MAX_BATCH
from cloudknot.local.directory.database import Database
from cloudknot.local.server.logs import store as log_store
from cloudknot.local.server.logs.api import Logs
from cloudknot.local.server.logs.patterns import matcher
from cloudknot.local.server.logs.store import DAY, LogStore
from cloudknot.local.wsgi import ServiceError
from tests.helpers.waiting import until

NOW = 1_800_000_000_000
"""The time of the tests in milliseconds since 1970."""
STREAM = {"logGroupName": "group", "logStreamName": "stream"}


class Service:
    """CloudWatch Logs on a database of its own, with a clock that the test sets."""

    def __init__(self, path):
        self.database, self.now = Database(path, log_store.SCHEMA, is_synced=False), NOW
        self.store = LogStore(self.database, lambda: self.now / 1000)
        self.api = Logs(self.store)
        self.call("CreateLogGroup", logGroupName="group")
        self.call("CreateLogStream", **STREAM)

    def call(self, operation, **arguments):
        return self.api.respond(operation, arguments)

    def refusal(self, operation, **arguments):
        with pytest.raises(ServiceError) as caught:
            self.call(operation, **arguments)
        return caught.value.code, str(caught.value)

    def put(self, *messages, at=NOW, **names):
        events = [{"timestamp": at, "message": message} for message in messages]
        return self.call("PutLogEvents", **{**STREAM, **names}, logEvents=events)

    def get(self, **arguments):
        return self.call("GetLogEvents", **{**STREAM, **arguments})

    def filter(self, **arguments):
        answer = self.call("FilterLogEvents", **{"logGroupName": "group", **arguments})
        return messages(answer)

    def close(self):
        self.store.close()
        self.database.close()


@pytest.fixture
def service(tmp_path):
    service = Service(tmp_path / "logs.sqlite")
    yield service
    service.close()


def messages(answer):
    return [event["message"] for event in answer["events"]]


def test_events_are_read_from_head_page_by_page_until_the_token_stays(service):
    service.put(*"abcde")
    first = service.get(startFromHead=True, limit=2)
    second = service.get(nextToken=first["nextForwardToken"], limit=2)
    third = service.get(nextToken=second["nextForwardToken"], limit=2)
    last = service.get(nextToken=third["nextForwardToken"], limit=2)
    assert [messages(page) for page in (first, second, third, last)] == [["a", "b"], ["c", "d"], ["e"], []]
    assert last["nextForwardToken"] == third["nextForwardToken"]
    service.put("f")
    assert messages(service.get(nextToken=last["nextForwardToken"])) == ["f"]


def test_events_are_read_from_the_end_backward(service):
    service.put(*"abcde")
    last = service.get(limit=2)
    before = service.get(nextToken=last["nextBackwardToken"], limit=2)
    assert (messages(last), messages(before)) == (["d", "e"], ["b", "c"])
    assert messages(service.get(nextToken=before["nextForwardToken"])) == ["d", "e"]


def test_empty_stream_can_be_followed_from_its_token(service):
    token = service.get(startFromHead=True)["nextForwardToken"]
    service.put("first")
    assert messages(service.get(nextToken=token)) == ["first"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(NOW - 5, NOW), st.text(min_size=1, max_size=3)), max_size=20), st.data())
def test_pages_have_every_event_once_in_the_order_of_times(service, events, data):
    group = service.store.group("group")
    service.store.delete_stream(service.store.stream(group, "stream"))
    service.call("CreateLogStream", **STREAM)
    for at, message in events:
        service.put(message, at=at)
    start, end = data.draw(st.integers(NOW - 6, NOW + 1)), data.draw(st.integers(NOW - 6, NOW + 1))
    limit = data.draw(st.integers(1, 4))
    wanted = [message for at, message in sorted(events, key=lambda event: event[0]) if start <= at < end]
    page, found = service.get(startFromHead=True, startTime=start, endTime=end, limit=limit), []
    while messages(page):
        found += messages(page)
        page = service.get(nextToken=page["nextForwardToken"], startTime=start, endTime=end, limit=limit)
    assert found == wanted
    page, found = service.get(startTime=start, endTime=end, limit=limit), []
    while messages(page):
        found = messages(page) + found
        page = service.get(nextToken=page["nextBackwardToken"], startTime=start, endTime=end, limit=limit)
    assert found == wanted


def test_page_has_a_mebibyte_at_most_and_at_least_one_event(service):
    for _ in range(5):
        service.put("x" * 250_000)
    page = service.get(startFromHead=True)
    assert len(page["events"]) == MAX_BATCH // 250_026
    assert len(service.get(nextToken=page["nextForwardToken"])["events"]) == 1


def test_reading_a_large_stream_takes_the_memory_of_a_page(service):
    text = "x" * 200_000
    for _ in range(40):
        service.store.append("group", "large", [text] * 5)

    def read(**arguments):
        return service.call("GetLogEvents", **arguments)

    tracemalloc.start()
    size = sum(len(line) for lines, _ in log_pages(read, LogStream("group", "large")) for line in lines)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size == 40_000_000
    assert peak < 8 * MAX_BATCH


def test_filter_finds_events_of_all_streams_in_order(service):
    service.call("CreateLogStream", logGroupName="group", logStreamName="other")
    service.put("one", at=NOW - 3)
    service.put("two", at=NOW - 2, logStreamName="other")
    service.put("three", at=NOW - 1)
    assert service.filter() == ["one", "two", "three"]
    assert service.filter(logStreamNames=["stream"]) == ["one", "three"]
    assert service.filter(logStreamNamePrefix="oth") == ["two"]
    assert service.filter(filterPattern="?one ?two") == ["one", "two"]
    # Unlike GetLogEvents, FilterLogEvents includes the end.
    assert service.filter(startTime=NOW - 2, endTime=NOW - 1) == ["two", "three"]
    page = service.call("FilterLogEvents", logGroupName="group", limit=2)
    assert service.filter(nextToken=page["nextToken"]) == ["three"]
    assert "nextToken" not in service.call("FilterLogEvents", logGroupName="group", limit=3)


@pytest.mark.parametrize(
    ("pattern", "message", "is_match"),
    [
        ("", "anything", True),
        ("ERROR", "an ERROR here", True),
        ("ERROR", "an error here", False),
        ("ERROR disk", "disk: ERROR", True),
        ("ERROR disk", "ERROR", False),
        ('"out of memory"', "it is out of memory", True),
        ('"out of memory"', "out of the memory", False),
        (r'"say \"hi\""', 'say "hi" now', True),
        ("?ERROR ?WARN", "WARN: a", True),
        ("?ERROR ?WARN", "INFO: a", False),
        ("ERROR -disk", "ERROR of disk", False),
        ("ERROR -disk", "ERROR of network", True),
    ],
)
def test_pattern_matches_words_and_phrases(pattern, message, is_match):
    assert matcher(pattern)(message) == is_match


def test_put_refuses_what_aws_refuses(service):
    def put(*events):
        return service.refusal(
            "PutLogEvents", **STREAM, logEvents=[{"timestamp": at, "message": message} for at, message in events]
        )[1]

    assert "chronological order" in put((NOW, "b"), (NOW - 1, "a"))
    assert "Upload too large" in put(*[(NOW, "x" * 200_000)] * 6)
    assert "less than or equal to 10000" in put(*[(NOW, "x")] * 10_001)
    assert "Log event too large" in put((NOW, "x" * 262_150))
    assert "logEvents" in put()
    assert service.get()["events"] == []


def test_events_too_old_or_too_new_are_reported_and_not_stored(service):
    times = [NOW - 15 * DAY, NOW, NOW + 3 * 3600 * 1000]
    answer = service.call("PutLogEvents", **STREAM, logEvents=[{"timestamp": at, "message": str(at)} for at in times])
    assert answer["rejectedLogEventsInfo"] == {"tooOldLogEventEndIndex": 1, "tooNewLogEventStartIndex": 2}
    assert messages(service.get()) == [str(NOW)]


def test_missing_and_existing_names_are_refused_as_by_aws(service):
    missing = "ResourceNotFoundException"
    assert service.refusal("CreateLogGroup", logGroupName="group")[0] == "ResourceAlreadyExistsException"
    assert service.refusal("CreateLogStream", **STREAM)[0] == "ResourceAlreadyExistsException"
    assert service.refusal("CreateLogStream", logGroupName="none", logStreamName="s")[0] == missing
    assert service.refusal("GetLogEvents", logGroupName="group", logStreamName="none")[0] == missing
    assert service.refusal("FilterLogEvents", logGroupName="group", logStreamNames=["none"])[0] == missing
    assert service.refusal("DeleteLogGroup", logGroupName="none")[0] == missing
    for operation, arguments in {
        "CreateLogGroup": {"logGroupName": "a b"},
        "CreateLogStream": {"logGroupName": "group", "logStreamName": "a:b"},
        "PutRetentionPolicy": {"logGroupName": "group", "retentionInDays": 2},
        "GetLogEvents": {**STREAM, "nextToken": "x"},
        "DescribeLogGroups": {"limit": 51},
        "DeleteLogGroup": {},
    }.items():
        assert service.refusal(operation, **arguments)[0] == "InvalidParameterException"
    assert service.refusal("StartQuery")[0] == "InvalidAction"


def test_groups_are_described_in_pages_with_retention_and_tags(service):
    service.call("CreateLogGroup", logGroupName="/a/1", tags={"k": "v"})
    service.call("CreateLogGroup", logGroupName="/a/2")
    service.call("PutRetentionPolicy", logGroupName="/a/1", retentionInDays=7)
    page = service.call("DescribeLogGroups", limit=2)
    rest = service.call("DescribeLogGroups", limit=2, nextToken=page["nextToken"])
    assert [group["logGroupName"] for group in page["logGroups"] + rest["logGroups"]] == ["/a/1", "/a/2", "group"]
    assert page["logGroups"][0]["retentionInDays"] == 7
    arn = page["logGroups"][0]["logGroupArn"]
    assert page["logGroups"][0]["arn"] == f"{arn}:*"
    service.call("TagResource", resourceArn=arn, tags={"l": "w"})
    service.call("UntagResource", resourceArn=arn, tagKeys=["k"])
    assert service.call("ListTagsForResource", resourceArn=arn) == {"tags": {"l": "w"}}
    # The older operations have the same tags.
    service.call("TagLogGroup", logGroupName="/a/1", tags={"m": "x"})
    service.call("UntagLogGroup", logGroupName="/a/1", tags=["l"])
    assert service.call("ListTagsLogGroup", logGroupName="/a/1") == {"tags": {"m": "x"}}
    assert service.call("ListTagsForResource", resourceArn=arn) == {"tags": {"m": "x"}}
    assert service.refusal("ListTagsLogGroup", logGroupName="none")[0] == "ResourceNotFoundException"
    (found,) = service.call("DescribeLogGroups", logGroupNamePrefix="/a/2")["logGroups"]
    assert found["logGroupName"] == "/a/2"
    assert "retentionInDays" not in found


def test_streams_are_described_by_name_and_by_last_event(service):
    for name, at in (("b", NOW - 2), ("a", NOW - 1)):
        service.call("CreateLogStream", logGroupName="group", logStreamName=name)
        service.put("x", at=at, logStreamName=name)

    def names(**arguments):
        streams = service.call("DescribeLogStreams", logGroupName="group", **arguments)["logStreams"]
        return [stream["logStreamName"] for stream in streams]

    assert names() == ["a", "b", "stream"]
    assert names(orderBy="LastEventTime", descending=True) == ["a", "b", "stream"]
    assert names(logStreamNamePrefix="s") == ["stream"]
    page = service.call("DescribeLogStreams", logGroupName="group", limit=2)
    assert names(nextToken=page["nextToken"]) == ["stream"]
    assert page["logStreams"][0]["firstEventTimestamp"] == NOW - 1


def rows(service, table):
    return service.database.rows(f"SELECT count(*) FROM {table}")[0][0]


def test_expired_events_are_hidden_at_once_and_deleted_later(service):
    service.put("old", at=NOW - DAY - 1)
    service.put("new", at=NOW)
    service.store.purge()
    assert service.filter() == ["old", "new"]
    service.call("PutRetentionPolicy", logGroupName="group", retentionInDays=1)
    assert service.filter() == messages(service.get()) == ["new"]
    until(lambda: rows(service, "log_events") == 1)
    assert service.call("DescribeLogGroups")["logGroups"][0]["storedBytes"] == len("new") + 26
    service.call("DeleteRetentionPolicy", logGroupName="group")
    assert service.filter() == ["new"]


def test_deleted_group_is_empty_when_it_comes_again_and_frees_its_events(service):
    service.put("old")
    service.call("DeleteLogGroup", logGroupName="group")
    service.call("CreateLogGroup", logGroupName="group")
    service.call("CreateLogStream", **STREAM)
    assert service.get()["events"] == []
    until(lambda: rows(service, "log_events") == 0)
    until(lambda: rows(service, "log_streams") == 1)


def test_deleted_stream_is_gone(service):
    service.put("old")
    service.call("DeleteLogStream", **STREAM)
    assert service.refusal("GetLogEvents", **STREAM)[0] == "ResourceNotFoundException"
    service.call("CreateLogStream", **STREAM)
    assert service.get()["events"] == []


def test_own_messages_make_their_stream_and_keep_their_order_when_the_clock_goes_back(service):
    service.store.append("group", "job", ["first"])
    service.now -= 5000
    service.store.append("group", "job", ["second"])
    assert messages(service.get(logStreamName="job", startFromHead=True)) == ["first", "second"]
    with pytest.raises(ServiceError, match="Its name is none"):
        service.store.append("none", "job", ["lost"])
    service.store.append("none", "job", ["kept"], adds_group=True)
    assert messages(service.get(logGroupName="none", logStreamName="job")) == ["kept"]


def test_logs_stay_for_a_later_server(service, tmp_path):
    service.put("kept")
    later = Database(tmp_path / "logs.sqlite", log_store.SCHEMA)
    api = Logs(LogStore(later))
    assert messages(api.respond("GetLogEvents", STREAM)) == ["kept"]
    later.close()
