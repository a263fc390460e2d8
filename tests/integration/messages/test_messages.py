"""Every error and warning of the package, raised once: each names a problem and a fix in plain English."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

import cloudknot as ck
from cloudknot import errors
from tests.integration.messages import choices, cloud_errors, command_line, deployments, images, jobs, local, programs
from tests.integration.messages.catalogue import Message, Site, Watch, World, sites

AWKWARD = re.compile(
    r"(is|are) not accepted\. Give|\b(told|tells|said|whoever)\b|\bwhat (is|it|was|exists|failed)\b", re.I
)
"""Phrases that a reader of a message has to read twice."""
IMPERATIVE = re.compile(
    "Add|Allow|Ask|Begin|Build|Call|Check|Choose|Clobber|Close|Compare|Copy|Correct|Create|Define|"
    "Delete|Enable|End|Find|Fix|Free|Give|Grant|Import|Increase|Install|Keep|Kill|List|Log|Look|Lower|"
    "Make|Map|Move|Name|Omit|Open|Pass|Pin|Point|Put|Raise|Read|Recreate|Register|Remove|"
    "Rename|Renew|Repair|Repeat|Replace|Request|Restart|Retry|Return|Review|Run|See|Select|"
    "Set|Shorten|Specify|Split|Start|Stop|Submit|Switch|Try|Unset|Update|Upgrade|Use|Wait|Wrap|"
    "Write",
    re.IGNORECASE,
)
"""Verbs that begin a fix."""
AREAS = [
    *(choices.AREA, programs.AREA, images.AREA, cloud_errors.AREA),
    *(deployments.AREA, jobs.AREA, local.AREA, command_line.AREA),
]


@dataclass
class Catalogue:
    """All messages, and the places in the package that no case reaches."""

    messages: list[Message] = field(default_factory=list)
    missed: list[Site] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n\n".join(f"[{message.area}] {message.kind}\n{message.text}" for message in self.messages)

    def texts(self, rule: Callable[[str], object]) -> list[str]:
        """Return the texts that a rule applies to."""
        return [message.text for message in self.messages if rule(message.text)]


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalogue]:
    """Make every message on a cloud of its own: cases clobber knots, and make Batch forget jobs."""
    wanted = sites()
    watch = Watch(wanted)
    messages = []
    with ck.LocalCloud(tmp_path_factory.mktemp("cloud"), vcpus=2, quota=1000) as cloud:
        for area in AREAS:
            for case in area.cases:
                with pytest.MonkeyPatch.context() as patch, watch.watching():
                    world = World(cloud, tmp_path_factory.mktemp("case"), patch)
                    messages += list(area.messages(case, world))
        yield Catalogue(list(dict.fromkeys(messages)), [site for site in wanted if not watch.reached(site)])


def test_every_message_is_made_and_has_problem_and_fix_in_plain_english(catalogue: Catalogue) -> None:
    """List all messages (shown by ``pytest -s``), and check the rules for each.

    This is one test, because tests of one module may run in several processes, and each would make all messages.
    """
    print(catalogue)
    assert not catalogue.missed, "no case reaches:\n" + "\n".join(map(str, catalogue.missed))
    # CloudknotError itself is only caught.
    assert set(errors.__all__) - {message.kind for message in catalogue.messages} == {"CloudknotError"}
    assert catalogue.texts(lambda text: not _has_fix(text)) == []
    assert catalogue.texts(AWKWARD.search) == []
    assert catalogue.texts(lambda text: text != text.strip()) == []


def _has_fix(text: str) -> bool:
    """Return whether a sentence after the first one, or its part after a condition, begins with an imperative."""
    clauses = re.split(r"(?<=[.:!;?])\s+|(?<=,)\s+(?:or\s+|and\s+)?|\n", text)[1:]
    return any(IMPERATIVE.fullmatch(clause.strip("`*( ").partition(" ")[0]) for clause in clauses)
