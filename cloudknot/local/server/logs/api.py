"""The API of CloudWatch Logs, with the limits and the errors of AWS (CloudWatch Logs API reference)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cloudknot.aws.batch import LONGEST_MESSAGE
from cloudknot.local.batch.logs import EVENT_OVERHEAD, MAX_BATCH, MAX_EVENTS
from cloudknot.local.directory.state import ACCOUNT, REGION
from cloudknot.local.iam.requests.operations import Operation, carry_out
from cloudknot.local.server.logs.patterns import matcher
from cloudknot.local.server.logs.store import (
    DAY,
    NO_GROUP,
    NO_STREAM,
    EventRange,
    LogEvent,
    LogStore,
    StoredLogGroup,
    StoredLogStream,
    event_size,
)
from cloudknot.local.wsgi import Answer, ServiceError

if TYPE_CHECKING:
    from types_boto3_logs import type_defs

MAX_MESSAGE = LONGEST_MESSAGE + EVENT_OVERHEAD
"""Bytes of an event, with its overhead."""
MAX_LISTED = 50
MAX_AGE, MAX_AHEAD = 14 * DAY, 2 * 3600 * 1000
"""Milliseconds that the time of a new event may lie behind or ahead."""
RETENTIONS = (
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731),
    *(1096, 1827, 2192, 2557, 2922, 3288, 3653),
)
"""The days that a retention policy may have."""
_TOKEN = re.compile(r"([fb])/(\d{14})(\d{19})/s")
_START = (-1, 0)


def _invalid(message: str) -> ServiceError:
    return ServiceError("InvalidParameterException", message)


class Logs:
    """CloudWatch Logs in one cloud.

    Parameters
    ----------
    store : LogStore
    """

    def __init__(self, store: LogStore) -> None:
        self._store = store
        self._operations: Mapping[str, Operation] = {
            "CreateLogGroup": self._create_group,
            "DeleteLogGroup": self._delete_group,
            "DescribeLogGroups": self._describe_groups,
            "PutRetentionPolicy": self._put_retention,
            "DeleteRetentionPolicy": self._delete_retention,
            "CreateLogStream": self._create_stream,
            "DeleteLogStream": self._delete_stream,
            "DescribeLogStreams": self._describe_streams,
            "PutLogEvents": self._put_events,
            "GetLogEvents": self._get_events,
            "FilterLogEvents": self._filter_events,
            "ListTagsForResource": lambda request: {"tags": self._tagged(request).tags},
            "TagResource": lambda request: self._tag(self._tagged(request), request["tags"]),
            "UntagResource": lambda request: self._untag(self._tagged(request), request["tagKeys"]),
            # The older operations for tags, which take the name of a group. AWS still answers them.
            "ListTagsLogGroup": lambda request: {"tags": self._group(request).tags},
            "TagLogGroup": lambda request: self._tag(self._group(request), request["tags"]),
            "UntagLogGroup": lambda request: self._untag(self._group(request), request["tags"]),
            # CloudFormation's reads of a group. No group of the embedded cloud has such a policy.
            "DescribeIndexPolicies": lambda _: {"indexPolicies": []},
            "DescribeResourcePolicies": lambda _: {"resourcePolicies": []},
            "GetDataProtectionPolicy": lambda _: {},
        }

    def respond(self, operation: str, request: Mapping[str, Any]) -> Answer:
        """Answer a request. Raise `ServiceError` for a refused one."""
        return carry_out("logs", self._operations, operation, request, _invalid)

    def _create_group(self, request: type_defs.CreateLogGroupRequestTypeDef) -> Answer:
        name = request["logGroupName"]
        kept = ("kmsKeyId", "logGroupClass", "deletionProtectionEnabled")
        properties = {member: value for member, value in request.items() if member in kept}
        if not self._store.add_group(name, properties, request.get("tags", {})):
            raise ServiceError("ResourceAlreadyExistsException", "The specified log group already exists")
        return {}

    def _delete_group(self, request: Mapping[str, str]) -> Answer:
        self._store.delete_group(self._group(request))
        return {}

    def _describe_groups(self, request: type_defs.DescribeLogGroupsRequestTypeDef) -> Answer:
        size = request.get("limit", MAX_LISTED)
        found = self._store.groups(
            prefix=request.get("logGroupNamePrefix", ""),
            part=request.get("logGroupNamePattern", ""),
            after=request.get("nextToken", ""),
            limit=size + 1,
        )
        more = {"nextToken": found[size - 1].name} if len(found) > size else {}
        return {"logGroups": [self._described(group) for group in found[:size]], **more}

    def _described(self, group: StoredLogGroup) -> Answer:
        arn = _arn(group.name)
        retention = {} if group.retention is None else {"retentionInDays": group.retention}
        return {
            "logGroupName": group.name,
            "creationTime": group.created,
            "metricFilterCount": 0,
            "arn": f"{arn}:*",
            "logGroupArn": arn,
            "logGroupClass": "STANDARD",
            "storedBytes": self._store.size_of(group),
            **retention,
            **group.properties,
        }

    def _put_retention(self, request: type_defs.PutRetentionPolicyRequestTypeDef) -> Answer:
        days = request["retentionInDays"]
        if days not in RETENTIONS:
            raise _invalid(f"The retention of {days} days is not one of {', '.join(map(str, RETENTIONS))}")
        self._store.change_group(replace(self._group(request), retention=days))
        return {}

    def _delete_retention(self, request: Mapping[str, str]) -> Answer:
        self._store.change_group(replace(self._group(request), retention=None))
        return {}

    def _create_stream(self, request: type_defs.CreateLogStreamRequestTypeDef) -> Answer:
        name = request["logStreamName"]
        if not self._store.add_stream(self._group(request), name):
            raise ServiceError("ResourceAlreadyExistsException", "The specified log stream already exists")
        return {}

    def _delete_stream(self, request: type_defs.DeleteLogStreamRequestTypeDef) -> Answer:
        self._store.delete_stream(self._stream(self._group(request), request["logStreamName"]))
        return {}

    def _describe_streams(self, request: type_defs.DescribeLogStreamsRequestTypeDef) -> Answer:
        group, prefix = self._group(request), request.get("logStreamNamePrefix", "")
        by_time = request.get("orderBy") == "LastEventTime"
        if by_time and prefix:
            raise _invalid("Cannot order by LastEventTime with a logStreamNamePrefix.")
        found = self._store.streams(group, prefix)
        if by_time:
            found.sort(key=lambda stream: (stream.last or 0, stream.name))
        if request.get("descending"):
            found.reverse()
        size, first = request.get("limit", MAX_LISTED), _number(request.get("nextToken", "0"))
        more = {"nextToken": str(first + size)} if len(found) > first + size else {}
        return {"logStreams": [_described_stream(group, item) for item in found[first : first + size]], **more}

    def _put_events(self, request: type_defs.PutLogEventsRequestTypeDef) -> Answer:
        stream = self._stream(self._group(request), request["logStreamName"])
        events = [(event["timestamp"], event["message"]) for event in request["logEvents"]]
        times, sizes = [at for at, _ in events], [event_size(message) for _, message in events]
        if times != sorted(times):
            raise _invalid("Log events in a single PutLogEvents request must be in chronological order.")
        if sum(sizes) > MAX_BATCH:
            raise _invalid(f"Upload too large: {sum(sizes)} bytes exceeds limit of {MAX_BATCH}")
        if max(sizes) > MAX_MESSAGE:
            raise _invalid(f"Log event too large: {max(sizes)} bytes exceeds limit of {MAX_MESSAGE}")
        now = self._store.now()
        too_old = sum(at < now - MAX_AGE for at in times)
        too_new = next((number for number, at in enumerate(times) if at > now + MAX_AHEAD), len(times))
        self._store.put(stream, events[too_old:too_new])
        rejected = {
            **({"tooOldLogEventEndIndex": too_old} if too_old else {}),
            **({"tooNewLogEventStartIndex": too_new} if too_new < len(times) else {}),
        }
        token = {"nextSequenceToken": f"{stream.id:056d}"}
        return {**token, "rejectedLogEventsInfo": rejected} if rejected else token

    def _get_events(self, request: type_defs.GetLogEventsRequestTypeDef) -> Answer:
        group = self._group(request)
        stream = self._stream(group, request["logStreamName"])
        after, before = self._times(group, request.get("startTime"), request.get("endTime", 1 << 61))
        token = request.get("nextToken")
        is_forward, position = _position(token) if token else (bool(request.get("startFromHead")), None)
        if position and is_forward:
            after = max(after, position)
        elif position:
            before = min(before, position)
        found = self._store.events(EventRange([stream.id], after, before, not is_forward))
        events, _ = _page(found, request.get("limit", MAX_EVENTS))
        if not is_forward:
            events.reverse()
        # Without events, the place stays the same.
        place = position or _START
        return {
            "events": [
                {"timestamp": event.time, "message": event.message, "ingestionTime": event.ingested}
                for event in events
            ],
            "nextForwardToken": _token("f", events[-1].position if events else place),
            "nextBackwardToken": _token("b", events[0].position if events else place),
        }

    def _filter_events(self, request: type_defs.FilterLogEventsRequestTypeDef) -> Answer:
        group = self._group(request)
        names = request.get("logStreamNames")
        if names and request.get("logStreamNamePrefix"):
            raise _invalid("logStreamNames and logStreamNamePrefix are mutually exclusive.")
        prefix = request.get("logStreamNamePrefix", "")
        streams = [self._stream(group, name) for name in names] if names else self._store.streams(group, prefix)
        try:
            matches = matcher(request.get("filterPattern", ""))
        except ValueError as error:
            raise _invalid(str(error)) from error
        after, before = self._times(group, request.get("startTime"), request.get("endTime", 1 << 61) + 1)
        if token := request.get("nextToken"):
            after = max(after, _position(token)[1])
        by_id = {stream.id: stream.name for stream in streams}
        found = self._store.events(EventRange(list(by_id), after, before))
        events, is_more = _page((event for event in found if matches(event.message)), request.get("limit", MAX_EVENTS))
        more = {"nextToken": _token("f", events[-1].position)} if is_more else {}
        entries = [_filtered(event, by_id[event.stream]) for event in events]
        return {"events": entries, "searchedLogStreams": [], **more}

    def _times(self, group: StoredLogGroup, start: int | None, end: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the positions before and after the events of a time that have not expired."""
        oldest = 0 if group.retention is None else self._store.now() - group.retention * DAY
        return (max(start or 0, oldest) - 1, 1 << 62), (end, 0)

    def _tagged(self, request: Mapping[str, Any]) -> StoredLogGroup:
        name = request["resourceArn"].partition(":log-group:")[2].removesuffix(":*")
        return self._group({"logGroupName": name})

    def _tag(self, group: StoredLogGroup, tags: Mapping[str, str]) -> Answer:
        self._store.change_group(replace(group, tags={**group.tags, **tags}))
        return {}

    def _untag(self, group: StoredLogGroup, keys: Sequence[str]) -> Answer:
        kept = {key: value for key, value in group.tags.items() if key not in keys}
        self._store.change_group(replace(group, tags=kept))
        return {}

    def _group(self, request: Mapping[str, Any]) -> StoredLogGroup:
        # An identifier is the name of a group, or its ARN.
        identifier = str(request.get("logGroupIdentifier", ""))
        name = request.get("logGroupName") or identifier.rpartition(":log-group:")[2].removesuffix(":*")
        if not name:
            raise _invalid("Exactly one of logGroupName and logGroupIdentifier must be specified.")
        group = self._store.group(name)
        if group is None:
            raise ServiceError("ResourceNotFoundException", NO_GROUP)
        return group

    def _stream(self, group: StoredLogGroup, name: str) -> StoredLogStream:
        stream = self._store.stream(group, name)
        if stream is None:
            raise ServiceError("ResourceNotFoundException", NO_STREAM)
        return stream


def _page(events: Iterable[LogEvent], limit: int) -> tuple[list[LogEvent], bool]:
    """Return the events that fit into one answer, and whether there are more."""
    page: list[LogEvent] = []
    size = 0
    for event in events:
        size += event_size(event.message)
        if len(page) == limit or (page and size > MAX_BATCH):
            return page, True
        page.append(event)
    return page, False


def _token(direction: str, position: tuple[int, int]) -> str:
    # The digits cannot hold the position before all events.
    return f"{direction}/{position[0] + 1:014d}{position[1]:019d}/s"


def _position(token: str) -> tuple[bool, tuple[int, int]]:
    """Return whether a token leads forward, and its position."""
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise _invalid("The specified nextToken is invalid.")
    return match[1] == "f", (int(match[2]) - 1, int(match[3]))


def _number(token: str) -> int:
    if not token.isdecimal():
        raise _invalid("The specified nextToken is invalid.")
    return int(token)


def _described_stream(group: StoredLogGroup, stream: StoredLogStream) -> Answer:
    times = {
        "firstEventTimestamp": stream.first,
        "lastEventTimestamp": stream.last,
        "lastIngestionTime": stream.ingested,
    }
    return {
        "logStreamName": stream.name,
        "creationTime": stream.created,
        "arn": f"{_arn(group.name)}:log-stream:{stream.name}",
        "storedBytes": 0,
        **{name: value for name, value in times.items() if value is not None},
    }


def _filtered(event: LogEvent, stream: str) -> Answer:
    return {
        "logStreamName": stream,
        "timestamp": event.time,
        "message": event.message,
        "ingestionTime": event.ingested,
        "eventId": f"{event.time:014d}{event.id:042d}",
    }


def _arn(group: str) -> str:
    return f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}"
