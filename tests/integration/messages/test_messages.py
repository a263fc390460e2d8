"""Every error and warning of the package, raised once: each names a problem and a fix in plain English."""

from __future__ import annotations

import re
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
    "Set|Shorten|Specify|Split|Start|Stop|Submit|Switch|Unset|Update|Upgrade|Use|Wait|Wrap|"
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


def test_catalogue_reaches_every_message_of_package(catalogue: Catalogue) -> None:
    # `pytest -s` shows all messages, for a review of the wording.
    print(catalogue)
    assert not catalogue.missed, "\n".join(map(str, catalogue.missed))


def test_catalogue_has_every_error_class(catalogue: Catalogue) -> None:
    """The package raises only subclasses of `CloudknotError`."""
    kinds = {message.kind for message in catalogue.messages}
    groups = {"CloudknotError"}
    assert set(errors.__all__) - groups - kinds == set()


def test_each_message_names_fix_after_problem(catalogue: Catalogue) -> None:
    assert [str(message) for message in catalogue.messages if not _has_fix(message.text)] == []


def _has_fix(text: str) -> bool:
    """Return whether an imperative begins a clause after the first one."""
    clauses = re.split(r"(?<=[.:!;?])\s+|(?<=,)\s+(?:or\s+|and\s+)?|\n", text)[1:]
    return any(IMPERATIVE.fullmatch(clause.strip("`*( ").partition(" ")[0]) for clause in clauses)


def test_each_message_avoids_awkward_phrases(catalogue: Catalogue) -> None:
    assert [str(message) for message in catalogue.messages if AWKWARD.search(message.text)] == []


def test_each_message_has_no_surrounding_whitespace(catalogue: Catalogue) -> None:
    assert [str(message) for message in catalogue.messages if message.text != message.text.strip()] == []
