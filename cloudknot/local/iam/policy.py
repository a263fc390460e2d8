"""Policy documents and their evaluation. Pure functions: no requests, no state.

See the IAM user guide, "Policy evaluation logic" and "IAM JSON policy elements: Condition operators".
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypedDict

Context = Mapping[str, tuple[str, ...]]
"""The values of condition keys, by the key in lower case. A key that the request does not have is missing."""


class StatementDocument(TypedDict, total=False):
    """A statement in the JSON of a policy. A string may stand for a list of one."""

    Sid: str
    Effect: str
    Action: str | list[str]
    NotAction: str | list[str]
    Resource: str | list[str]
    NotResource: str | list[str]
    Condition: Mapping[str, Mapping[str, object]]


class PolicyDocument(TypedDict, total=False):
    """The JSON of a policy."""

    Statement: StatementDocument | list[StatementDocument]


@dataclass(frozen=True)
class Access:
    """A permission that a request needs: one action on one resource.

    The resource is ``"*"`` for actions without permissions for single resources.
    """

    action: str
    resource: str = "*"
    context: Context = field(default_factory=dict)


@dataclass(frozen=True)
class ParsedStatement:
    """One statement of a policy.

    ``negated`` contains ``"Action"`` for a ``NotAction``, and ``"Resource"`` for a ``NotResource``.
    """

    allows: bool
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    negated: frozenset[str] = frozenset()
    sid: str = ""

    def covers(self, access: Access) -> bool:
        """Return whether the statement applies to an access."""
        return self.names_action(access.action) and self._names_resource(access) and self._holds(access.context)

    def names_action(self, action: str) -> bool:
        """Return whether the statement applies to an action, on any resource."""
        # IAM ignores case in actions, but not in resources.
        matches = any(glob(pattern.lower()).fullmatch(action.lower()) for pattern in self.actions)
        return matches != ("Action" in self.negated)

    def _names_resource(self, access: Access) -> bool:
        if access.resource == "*" and "*" in self.resources:
            return "Resource" not in self.negated
        patterns = (substitute(pattern, access.context) for pattern in self.resources)
        matches = any(pattern is not None and glob(pattern).fullmatch(access.resource) for pattern in patterns)
        return matches != ("Resource" in self.negated)

    def _holds(self, context: Context) -> bool:
        return all(_holds(*condition, context, allows=self.allows) for condition in self.conditions)


def parse(document: str | PolicyDocument) -> tuple[ParsedStatement, ...]:
    """Return the statements of a policy document."""
    policy: PolicyDocument = json.loads(document) if isinstance(document, str) else document
    return tuple(_statement(statement) for statement in _listed(policy.get("Statement", [])))


def decide(statements: Iterable[ParsedStatement], access: Access) -> str:
    """Return ``"allow"``, ``"deny"`` if a statement denies the access, or ``""`` if none allows it."""
    decision = ""
    for statement in statements:
        if statement.covers(access):
            # A deny in any statement overrides every allow.
            if not statement.allows:
                return "deny"
            decision = "allow"
    return decision


def _statement(document: StatementDocument) -> ParsedStatement:
    negated = frozenset(name for name in ("Action", "Resource") if f"Not{name}" in document)
    conditions = [
        (operator_name, key.lower(), tuple(map(_text, _listed(values))))
        for operator_name, tests in document.get("Condition", {}).items()
        for key, values in tests.items()
    ]
    return ParsedStatement(
        allows=document["Effect"] == "Allow",
        actions=tuple(_listed(document.get("NotAction" if "Action" in negated else "Action", ()))),
        resources=tuple(_listed(document.get("NotResource" if "Resource" in negated else "Resource", ()))),
        conditions=tuple(conditions),
        negated=negated,
        sid=document.get("Sid", ""),
    )


def _listed(value: object) -> list[Any]:
    """Return a list, or a single value as a list of one."""
    return list(value) if isinstance(value, list | tuple) else [value]


def _text(value: object) -> str:
    """Return the string of a condition's value, with booleans as in JSON."""
    return str(value).lower() if isinstance(value, bool) else str(value)


@lru_cache(maxsize=4096)
def glob(pattern: str) -> re.Pattern[str]:
    """Return the regular expression for a policy's pattern with ``*`` and ``?``."""
    # Cached, because every request is matched against every statement of its principal.
    return re.compile(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)


def substitute(pattern: str, context: Context) -> str | None:
    """Return a pattern with its variables filled in, such as ``${aws:username}``. None if one has no single value."""
    if "${" not in pattern:
        return pattern
    missing = False

    def value(match: re.Match[str]) -> str:
        nonlocal missing
        values = context.get(match[1].lower(), ())
        missing = missing or len(values) != 1
        return values[0] if len(values) == 1 else ""

    # A variable without a value must not become an empty string: "${aws:username}/*" would then match "/*".
    filled = re.sub(r"\$\{([^}]+)\}", value, pattern)
    return None if missing else filled


def _equal(expected: str, actual: str) -> bool:
    return expected == actual


def _equal_in_any_case(expected: str, actual: str) -> bool:
    return expected.lower() == actual.lower()


def _like(expected: str, actual: str) -> bool:
    return glob(expected).fullmatch(actual) is not None


def _number_test(compare: Callable[[float, float], bool]) -> Callable[[str, str], bool]:
    def test(expected: str, actual: str) -> bool:
        try:
            return compare(float(actual), float(expected))
        except ValueError:
            return False

    return test


_TESTS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": _equal,
    "StringEqualsIgnoreCase": _equal_in_any_case,
    "StringLike": _like,
    # AWS documents ArnEquals and ArnLike as the same operator.
    "ArnEquals": _like,
    "ArnLike": _like,
    "Bool": _equal_in_any_case,
    "NumericEquals": _number_test(operator.eq),
    "NumericLessThan": _number_test(operator.lt),
    "NumericLessThanEquals": _number_test(operator.le),
    "NumericGreaterThan": _number_test(operator.gt),
    "NumericGreaterThanEquals": _number_test(operator.ge),
}
_NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
    "NumericNotEquals": "NumericEquals",
}


def _holds(operator_name: str, key: str, expected: tuple[str, ...], context: Context, *, allows: bool) -> bool:
    """Return whether a condition holds."""
    quantifier, _, plain = operator_name.rpartition(":")
    name = plain.removesuffix("IfExists")
    actual = context.get(key)
    if name == "Null":
        return (actual is None) == (expected[0] == "true")
    negated = name in _NEGATED
    test = _TESTS.get(_NEGATED.get(name, name))
    if test is None:
        # An operator that is missing here must not grant access: the condition fails in an allow, and holds in a deny.
        return not allows
    # AWS's rule for a key that the request does not have: a plain test fails, a negated or optional one holds.
    if actual is None:
        return negated or plain.endswith("IfExists") or quantifier == "ForAllValues"
    filled = [value for value in (substitute(pattern, context) for pattern in expected) if value is not None]
    results = [any(test(pattern, value) for pattern in filled) != negated for value in actual]
    # Without a quantifier, a negated operator must hold for all values of the key, any other operator for one.
    return all(results) if quantifier == "ForAllValues" or (negated and not quantifier) else any(results)
