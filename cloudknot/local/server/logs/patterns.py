"""The filter patterns of FilterLogEvents that match words (CloudWatch Logs user guide, "Filter pattern syntax")."""

from __future__ import annotations

import re
from collections.abc import Callable

_TERM = re.compile(r'([?-]?)(?:"((?:[^"\\]|\\.)*)"|([^\s"]+))')


def matcher(pattern: str) -> Callable[[str], bool]:
    """Return the test of a message for a pattern.

    A message must have all plain terms, none of those with ``-``, and one of those with ``?`` if there are only such.

    Raises
    ------
    ValueError
        The pattern is for JSON, for columns, or a regular expression.
    """
    if pattern.lstrip()[:1] in ("{", "[", "%"):
        raise ValueError(
            f"The embedded cloud does not support the filter pattern {pattern}: it matches words and phrases only. "
            "Use words, or a phrase in double quotes."
        )
    terms: dict[str, list[str]] = {"": [], "?": [], "-": []}
    for kind, phrase, word in _TERM.findall(pattern):
        terms[kind].append(re.sub(r"\\(.)", r"\1", phrase) if phrase else word)

    def matches(message: str) -> bool:
        if any(term in message for term in terms["-"]):
            return False
        # As on AWS, terms with "?" are ignored beside others.
        if terms["?"] and not terms[""]:
            return any(term in message for term in terms["?"])
        return all(term in message for term in terms[""])

    return matches
