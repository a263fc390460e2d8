"""Every message of the package, made once: errors, warnings and logged warnings, each in plain English."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cloudknot import errors
from tests.faulty_cloud.cloud import FaultyCloud
from tests.integration.deploy.customised import messages as customised
from tests.integration.messages import (
    assembly,
    builds,
    choices,
    cloud_errors,
    command_line,
    deployments,
    images,
    jobs,
    local,
    programs,
)
from tests.integration.messages.catalogue import LOGGED, Message, Site, Watch, World, sites, sites_in
from tests.integration.packages import messages as local_packages
from tests.integration.packages import requirement_messages as requirement_files
from tests.integration.people.money import messages as money
from tests.integration.people.selftest import messages as selftest
from tests.integration.people.settings import messages as settings
from tests.integration.registry import messages as registries
from tests.integration.sessions.platforms import messages as platforms

AWKWARD = re.compile(
    r"(is|are) not accepted\. Give|\b(told|tells|said|whoever)\b|\bwhat (is|it|was|exists|failed)\b", re.I
)
"""Phrases that a reader of a message has to read twice."""
VERBS = (
    "Add|Allow|Ask|Begin|Build|Call|Check|Choose|Clobber|Close|Compare|Copy|Correct|Create|Define|Delete|Enable|End|"
    "Find|Fix|Free|Give|Grant|Increase|Install|Keep|Kill|Look|Lower|Make|Move|Omit|Open|Pass|Pin|Put|Raise|Recreate|"
    "Register|Remove|Rename|Renew|Repair|Repeat|Replace|Restart|Run|See|Select|Set|Shorten|Specify|Split|Start|Stop|Store|"
    "Submit|Switch|Unset|Upgrade|Use|Wait|Wrap|Write"
)
"""Verbs that begin a fix."""
NOUNS_TOO = "Detach|Import|Leave|List|Log|Map|Name|Point|Read|Request|Retry|Return|Review|Try|Update"
"""Verbs that are nouns as well. In a fix, one of `AFTER_VERB` follows them."""
AFTER_VERB = (
    r"(a|an|the|it|its|them|this|these|that|your|again|in|out|one|only|plain|packages|requirements|all)\b|[`'\w]+\("
)
IMPERATIVE = rf"(({VERBS})\s|({NOUNS_TOO})\s+({AFTER_VERB}))"
FIX = re.compile(rf"{IMPERATIVE}|(To|If|Or|On|For|In|With|After|Then|Otherwise|Perhaps)\b.*?[, ](?i:{IMPERATIVE})")
"""A sentence that begins with an imperative, or has one after a condition."""
AREAS = [
    *(choices.AREA, programs.AREA, images.AREA, assembly.AREA, builds.AREA, cloud_errors.AREA),
    *(deployments.AREA, jobs.AREA, local.AREA, command_line.AREA, local_packages.AREA, registries.AREA),
    *(requirement_files.AREA, platforms.AREA, settings.AREA),
    *(selftest.AREA, money.AREA, customised.AREA),
]


@dataclass
class Catalogue:
    """All messages, and the places in the package that no case reaches."""

    messages: list[Message] = field(default_factory=list)
    missed: list[Site] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n\n".join(f"[{message.area}] {message.kind}\n{message.text}" for message in self.messages)


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalogue]:
    """Make every message on a cloud of its own: cases clobber knots, and make Batch forget jobs."""
    wanted = sites()
    watch = Watch(wanted)
    messages = []
    with FaultyCloud(tmp_path_factory.mktemp("cloud"), vcpus=2, quota=1000) as cloud:
        for area in AREAS:
            for case in area.cases:
                with pytest.MonkeyPatch.context() as patch, watch.watching():
                    world = World(cloud, tmp_path_factory.mktemp("case"), patch)
                    messages += list(area.messages(case, world))
        yield Catalogue(list(dict.fromkeys(messages)), [site for site in wanted if not watch.reached(site)])


@pytest.mark.timeout(1200)
def test_every_message_is_made_and_has_problem_and_fix_in_plain_english(catalogue: Catalogue) -> None:
    """List all messages (shown by ``pytest -s``), and check the rules for each.

    This is one test, because tests of one module may run in several processes, and each would make all messages.
    """
    print(catalogue)
    assert not catalogue.missed, "no case reaches:\n" + "\n".join(map(str, catalogue.missed))
    # CloudknotError itself is only caught.
    kinds = {message.kind for message in catalogue.messages}
    assert set(errors.__all__) - kinds == {"CloudknotError"}
    assert [
        message.text for message in catalogue.messages if message.kind != LOGGED and not has_fix(message.text)
    ] == []
    assert [message.text for message in catalogue.messages if AWKWARD.search(message.text)] == []
    assert [message.text for message in catalogue.messages if message.text != message.text.strip()] == []


def has_fix(text: str) -> bool:
    """Return whether a sentence after the first one is a fix."""
    sentences = re.split(r"(?<=[.:!;?])\s+|\n", text)[1:]
    return any(FIX.match(sentence.lstrip("`*( ")) for sentence in sentences)


@pytest.mark.parametrize(
    "text",
    [
        "x=3 is wrong.",
        "x=3 is wrong: list index out of range.",
        "The name is taken. Name clashes are fatal.",
        "It failed: Read timeout on endpoint.",
        "x is bad. use fails in a job.",
    ],
)
def test_text_without_imperative_has_no_fix(text: str) -> None:
    assert not has_fix(text)


@pytest.mark.parametrize(
    "text",
    [
        "x=3 is wrong. Pass for example x=4.",
        "The job failed. If it fails again, ask the administrator.",
        "Its results are gone. Map again.",
        "There is no answer. Read the log with job.logs(3).",
    ],
)
def test_text_with_imperative_has_fix(text: str) -> None:
    assert has_fix(text)


def test_site_is_every_call_that_makes_a_message(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(
        "from cloudknot.errors import CloudError, refuse\n"
        "def check(x):\n"
        "    refuse(problem='a', fix='b')\n"
        "    raise CloudError(\n        'c'\n    )\n"
        "def note(outages):\n"
        "    outages.warn('not a message of this line')\n"
        "    logger.warning('d')\n"
        "    warnings.warn('e')\n"
        "    streams.warn('f')\n"
        "    streams.logger.warning('g')\n"
    )
    assert [(site.function, site.first, site.last) for site in sites_in(file, "module.py")] == [
        *(("check", 3, 3), ("check", 4, 6)),
        *(("note", 9, 9), ("note", 10, 10), ("note", 11, 11), ("note", 12, 12)),
    ]


def test_watch_misses_site_without_case() -> None:
    site = Site("tests/integration/messages/test_messages.py", "never_called", 1, 2)
    watch = Watch([site])
    with watch.watching():
        has_fix("x")
    assert not watch.reached(site)
