"""Policy documents, and what they say of an access. Pure.

Source: IAM user guide, "Policy evaluation logic" and "IAM JSON policy elements: Condition operators".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypedDict

Context = Mapping[str, tuple[str, ...]]
"""Condition keys in lower case, and their values; a key that the request does not have is left out."""


class StatementDocument(TypedDict, total=False):
    """A statement as its policy has it. A text may stand for a list of one."""

    Sid: str
    Effect: str
    Action: str | list[str]
    NotAction: str | list[str]
    Resource: str | list[str]
    NotResource: str | list[str]
    Condition: Mapping[str, Mapping[str, object]]


class PolicyDocument(TypedDict, total=False):
    """A policy."""

    Statement: StatementDocument | list[StatementDocument]


@dataclass(frozen=True)
class Access:
    """One action on one resource, which a request needs; the resource is ``"*"`` where AWS has no resource level."""

    action: str
    resource: str = "*"
    context: Context = field(default_factory=dict)


@dataclass(frozen=True)
class ParsedStatement:
    """One statement of a policy. ``negated`` holds those of Action and Resource that are there as ``Not...``."""

    allows: bool
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    negated: frozenset[str] = frozenset()
    sid: str = ""

    def covers(self, access: Access) -> bool:
        """Whether the statement is about an access."""
        return self.names_action(access.action) and self._names_resource(access) and self._holds(access.context)

    def names_action(self, action: str) -> bool:
        named = any(glob(pattern.lower()).fullmatch(action.lower()) for pattern in self.actions)
        return named != ("Action" in self.negated)

    def _names_resource(self, access: Access) -> bool:
        if access.resource == "*" and "*" in self.resources:
            return "Resource" not in self.negated
        patterns = (substitute(pattern, access.context) for pattern in self.resources)
        named = any(pattern is not None and glob(pattern).fullmatch(access.resource) for pattern in patterns)
        return named != ("Resource" in self.negated)

    def _holds(self, context: Context) -> bool:
        return all(_holds(*condition, context, allows=self.allows) for condition in self.conditions)


def parse(document: str | PolicyDocument) -> tuple[ParsedStatement, ...]:
    """The statements of a policy document."""
    policy: PolicyDocument = json.loads(document) if isinstance(document, str) else document
    return tuple(_statement(one) for one in _listed(policy.get("Statement", [])))


def decide(statements: Iterable[ParsedStatement], access: Access) -> str:
    """``"allow"``, ``"deny"`` when a statement denies the access, ``""`` when none allows it."""
    decision = ""
    for statement in statements:
        if statement.covers(access):
            if not statement.allows:
                return "deny"
            decision = "allow"
    return decision


def _statement(given: StatementDocument) -> ParsedStatement:
    negated = frozenset(name for name in ("Action", "Resource") if f"Not{name}" in given)
    conditions = [
        (operator, key.lower(), tuple(map(_text, _listed(values))))
        for operator, tests in given.get("Condition", {}).items()
        for key, values in tests.items()
    ]
    return ParsedStatement(
        allows=given["Effect"] == "Allow",
        actions=tuple(_listed(given.get("NotAction" if "Action" in negated else "Action", ()))),
        resources=tuple(_listed(given.get("NotResource" if "Resource" in negated else "Resource", ()))),
        conditions=tuple(conditions),
        negated=negated,
        sid=given.get("Sid", ""),
    )


def _listed(value: object) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@lru_cache(maxsize=4096)
def glob(pattern: str) -> re.Pattern[str]:
    """A pattern of policies, with ``*`` and ``?``, as a regular expression."""
    return re.compile(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)


def substitute(pattern: str, context: Context) -> str | None:
    """A pattern with its variables, such as ``${aws:username}``, filled in; None when one has no value."""
    if "${" not in pattern:
        return pattern
    missing = False

    def value(match: re.Match[str]) -> str:
        nonlocal missing
        values = context.get(match[1].lower(), ())
        missing = missing or len(values) != 1
        return values[0] if len(values) == 1 else ""

    filled = re.sub(r"\$\{([^}]+)\}", value, pattern)
    return None if missing else filled


def _equal(wanted: str, found: str) -> bool:
    return wanted == found


def _like(wanted: str, found: str) -> bool:
    return glob(wanted).fullmatch(found) is not None


def _same_number(compare: Callable[[float, float], bool]) -> Callable[[str, str], bool]:
    def test(wanted: str, found: str) -> bool:
        try:
            return compare(float(found), float(wanted))
        except ValueError:
            return False

    return test


_TESTS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": _equal,
    "StringEqualsIgnoreCase": lambda wanted, found: wanted.lower() == found.lower(),
    "StringLike": _like,
    "ArnEquals": _like,
    "ArnLike": _like,
    "Bool": lambda wanted, found: wanted.lower() == found.lower(),
    "NumericEquals": _same_number(lambda found, wanted: found == wanted),
    "NumericLessThan": _same_number(lambda found, wanted: found < wanted),
    "NumericLessThanEquals": _same_number(lambda found, wanted: found <= wanted),
    "NumericGreaterThan": _same_number(lambda found, wanted: found > wanted),
    "NumericGreaterThanEquals": _same_number(lambda found, wanted: found >= wanted),
}
_NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
    "NumericNotEquals": "NumericEquals",
}


def _holds(operator: str, key: str, wanted: tuple[str, ...], context: Context, *, allows: bool) -> bool:
    """Whether a condition holds. One with an operator that is not known here never lets anything through."""
    quantifier, _, plain = operator.rpartition(":")
    name = plain.removesuffix("IfExists")
    found = context.get(key)
    if name == "Null":
        return (found is None) == (wanted[0] == "true")
    negated = name in _NEGATED
    test = _TESTS.get(_NEGATED.get(name, name))
    if test is None:
        return not allows
    if found is None:
        return negated or plain.endswith("IfExists") or quantifier == "ForAllValues"
    filled = [value for value in (substitute(one, context) for one in wanted) if value is not None]
    results = [any(test(value, one) for value in filled) != negated for one in found]
    # Without a quantifier, a negated operator is to hold for every value, another one for some.
    return all(results) if quantifier == "ForAllValues" or (negated and not quantifier) else any(results)
