"""Lifecycle rules of a bucket: read from its XML document, and applied to versions and uploads. No I/O.

S3 applies rules once a day, and counts days from midnight UTC ("Lifecycle rules: Based on an object's age" in the S3
user guide). Transitions to other storage classes have no meaning here.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from xml.etree import ElementTree

from cloudknot.local.s3.errors import S3Error
from cloudknot.local.s3.records import MultipartUpload, ObjectVersion

DAY = 24 * 3600.0


@dataclass(frozen=True)
class LifecycleRule:
    """An enabled rule. Numbers are days. None stands for an action that the rule does not have.

    Attributes
    ----------
    prefix, tags, above, below : str, mapping, int, int
        The objects it applies to: by key, by tags, and by sizes greater and less than these.
    days, date : int, float
        When the latest versions expire.
    noncurrent_days, newer_noncurrent : int, int
        When other versions are deleted, and the number of newer noncurrent ones to keep.
    expires_markers : bool
        Whether a delete marker without other versions is deleted.
    upload_days : int
        When unfinished uploads are aborted.
    """

    prefix: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    above: int = -1
    below: int = 1 << 63
    days: int | None = None
    date: float | None = None
    noncurrent_days: int | None = None
    newer_noncurrent: int = 0
    expires_markers: bool = False
    upload_days: int | None = None

    @property
    def concerns_versions(self) -> bool:
        """Whether the rule has an action for versions of objects."""
        actions = (self.days, self.date, self.noncurrent_days, self.expires_markers or None)
        return any(action is not None for action in actions)

    def covers(self, version: ObjectVersion) -> bool:
        """Return whether the rule applies to a version."""
        tags = version.properties.tags
        if not version.key.startswith(self.prefix) or any(tags.get(key) != self.tags[key] for key in self.tags):
            return False
        return version.is_delete_marker or self.above < version.size < self.below

    def expires(self, version: ObjectVersion, now: float) -> bool:
        """Return whether the latest version of an object has expired."""
        if self.date is not None:
            return now >= self.date
        return self.days is not None and now >= _due(version.modified, self.days)

    def deletes(self, noncurrent_since: float, newer: int, now: float) -> bool:
        """Return whether to delete a noncurrent version, with ``newer`` noncurrent versions above it."""
        if self.noncurrent_days is None or newer < self.newer_noncurrent:
            return False
        return now >= _due(noncurrent_since, self.noncurrent_days)

    def aborts(self, upload: MultipartUpload, now: float) -> bool:
        """Return whether to abort an upload."""
        is_covered = upload.key.startswith(self.prefix) and not self.tags
        return is_covered and self.upload_days is not None and now >= _due(upload.started, self.upload_days)


class Expiry:
    """The walk over all versions of a bucket that finds the expired ones.

    Parameters
    ----------
    rules : sequence of LifecycleRule
    now : float
        Seconds since 1970.
    """

    def __init__(self, rules: Sequence[LifecycleRule], now: float) -> None:
        self._rules, self._now = rules, now
        self._newer: ObjectVersion | None = None
        self._noncurrent = 0

    def is_due(self, version: ObjectVersion) -> bool:
        """Return whether a version has expired. Called for each, in the order of keys and from the newest.

        A latest version that is a delete marker is due only if it has no other versions: the caller checks this.
        """
        rules = [rule for rule in self._rules if rule.covers(version)]
        newer = self._newer if self._newer and self._newer.key == version.key else None
        self._newer = version
        if newer is None:
            self._noncurrent = 0
            if version.is_delete_marker:
                return any(rule.expires_markers for rule in rules)
            return any(rule.expires(version, self._now) for rule in rules)
        due = any(rule.deletes(newer.modified, self._noncurrent, self._now) for rule in rules)
        self._noncurrent += 1
        return due


def rules_of(document: bytes) -> list[LifecycleRule]:
    """Return the enabled rules of a ``LifecycleConfiguration``. MalformedXML if they mean nothing.

    InvalidArgument for a number of days that is not positive.
    """
    try:
        root = ElementTree.fromstring(document)
        for element in root.iter():
            # Clients write the document with S3's namespace, or without one.
            element.tag = element.tag.rpartition("}")[2]
        rules = [(rule.findtext("Status"), _rule(rule)) for rule in root.iter("Rule")]
    except (ElementTree.ParseError, ValueError) as error:
        raise S3Error("MalformedXML") from error
    return [rule for status, rule in rules if status == "Enabled"]


def prefixes_of(rules: Sequence[LifecycleRule]) -> list[str]:
    """Return the prefixes of all versions that rules may concern. None of them begins with another one."""
    prefixes: list[str] = []
    for prefix in sorted(rule.prefix for rule in rules if rule.concerns_versions):
        if not prefixes or not prefix.startswith(prefixes[-1]):
            prefixes.append(prefix)
    return prefixes


def _rule(rule: ElementTree.Element) -> LifecycleRule:
    conditions = rule.find("Filter/And")
    conditions = rule.find("Filter") if conditions is None else conditions
    conditions = rule if conditions is None else conditions
    tags = {tag.findtext("Key", ""): tag.findtext("Value", "") for tag in conditions.findall("Tag")}
    above, below = _number(conditions, "ObjectSizeGreaterThan"), _number(conditions, "ObjectSizeLessThan")
    date = rule.findtext("Expiration/Date")
    return LifecycleRule(
        prefix=conditions.findtext("Prefix") or rule.findtext("Prefix") or "",
        tags=tags,
        above=-1 if above is None else above,
        below=1 << 63 if below is None else below,
        days=_days(rule, "Expiration/Days"),
        date=_midnight(date) if date else None,
        noncurrent_days=_days(rule, "NoncurrentVersionExpiration/NoncurrentDays"),
        newer_noncurrent=_number(rule, "NoncurrentVersionExpiration/NewerNoncurrentVersions") or 0,
        expires_markers=rule.findtext("Expiration/ExpiredObjectDeleteMarker", "").strip() == "true",
        upload_days=_days(rule, "AbortIncompleteMultipartUpload/DaysAfterInitiation"),
    )


def _midnight(date: str) -> float:
    moment = datetime.datetime.fromisoformat(date)
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()


def _days(rule: ElementTree.Element, path: str) -> int | None:
    days = _number(rule, path)
    # Zero would delete at the next midnight, and a negative number at once.
    if days is not None and days < 1:
        action, _, name = path.partition("/")
        raise S3Error("InvalidArgument", message=f"'{name}' for {action} action must be a positive integer")
    return days


def _number(element: ElementTree.Element, path: str) -> int | None:
    text = element.findtext(path)
    return int(text) if text and text.strip() else None


def _due(since: float, days: int) -> float:
    """Return the midnight in UTC after a number of days."""
    return ((since + days * DAY) // DAY + 1) * DAY
