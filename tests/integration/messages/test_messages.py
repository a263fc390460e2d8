"""Every error and warning, made once: each says what is wrong and how to mend it, and no place is left out."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pytest

import cloudknot as ck
from cloudknot import errors
from tests.integration.messages import choices, cloud_errors, command_line, deployments, images, jobs, local, programs
from tests.integration.messages.catalogue import Message, Site, Watch, World, sites

HABITS = re.compile(
    r"(is|are) not accepted\. Give|\b(told|tells|said|whoever)\b|\bwhat (is|it|was|exists|failed)\b", re.I
)
"""Words of messages that a reader has to read twice."""
IMPERATIVE = re.compile(
    "Add|Allow|Ask|Begin|Build|Call|Check|Choose|Clobber|Close|Compare|Copy|Correct|Create|Define|"
    "Delete|Enable|End|Find|Fix|Free|Give|Grant|Import|Increase|Install|Keep|Kill|List|Log|Look|Lower|"
    "Make|Map|Move|Name|Omit|Open|Pass|Pin|Point|Put|Raise|Read|Recreate|Register|Remove|"
    "Rename|Renew|Repair|Repeat|Replace|Request|Restart|Retry|Return|Review|Run|See|Select|"
    "Set|Shorten|Specify|Split|Start|Stop|Submit|Switch|Unset|Update|Upgrade|Use|Wait|Wrap|"
    "Write",
    re.IGNORECASE,
)
"""A verb that begins the sentence, or the part of a sentence, that says how to mend the fault."""
AREAS = [
    *(choices.AREA, programs.AREA, images.AREA, cloud_errors.AREA),
    *(deployments.AREA, jobs.AREA, local.AREA, command_line.AREA),
]


@dataclass
class Catalogue:
    """All messages, and the places in the package that no case reached."""

    messages: list[Message] = field(default_factory=list)
    missed: list[Site] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n\n".join(f"[{message.area}] {message.kind}\n{message.text}" for message in self.messages)


@pytest.fixture(scope="module")
def catalogue(cloud: ck.LocalCloud, tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    wanted = sites()
    watch = Watch(wanted)
    messages = []
    for area in AREAS:
        for case in area.cases:
            with pytest.MonkeyPatch.context() as patch, watch.watching():
                world = World(cloud, tmp_path_factory.mktemp("case"), patch)
                messages += list(area.messages(case, world))
    return Catalogue(list(dict.fromkeys(messages)), [site for site in wanted if not watch.reached(site)])


def test_every_message_of_the_package_is_listed(catalogue: Catalogue) -> None:
    print(catalogue)
    assert not catalogue.missed, "\n".join(map(str, catalogue.missed))


def test_every_class_of_the_tree_is_made(catalogue: Catalogue) -> None:
    """Bases that only group their subclasses are not raised themselves."""
    made = {message.kind for message in catalogue.messages}
    groups = {"CloudknotError"}
    assert set(errors.__all__) - groups - made == set()


def test_a_message_has_a_problem_and_a_fix(catalogue: Catalogue) -> None:
    assert [str(message) for message in catalogue.messages if not _has_fix(message.text)] == []


def _has_fix(text: str) -> bool:
    """Return whether a sentence after the first one, or its part after a condition, begins with an imperative."""
    clauses = re.split(r"(?<=[.:!;?])\s+|(?<=,)\s+(?:or\s+|and\s+)?|\n", text)[1:]
    return any(IMPERATIVE.fullmatch(clause.strip("`*( ").partition(" ")[0]) for clause in clauses)


def test_a_message_is_plain_english(catalogue: Catalogue) -> None:
    assert [str(message) for message in catalogue.messages if HABITS.search(message.text)] == []


def test_a_message_ends_as_a_sentence_does(catalogue: Catalogue) -> None:
    assert [str(message) for message in catalogue.messages if message.text != message.text.strip()] == []
