"""Overlapping packs of concurrent attempts: a session and a job choose the same outcome for each element."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from cloudknot.run.collect.element_table import FAILURE, PENDING, VALUE, ElementTable
from cloudknot.worker.wire import failure
from cloudknot.worker.wire.keys import Location
from cloudknot.worker.wire.pack_order import Listed, choose_packs, clusters, oldest_first

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
COUNT = 8


@st.composite
def stored_packs(draw):
    """Draw packs of one round, each with its time of storage and the elements that have a value."""
    packs = {}
    for first in draw(st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=6)):
        number = draw(st.integers(1, COUNT - first))
        oks = draw(st.lists(st.booleans(), min_size=number, max_size=number))
        packs[Location(first, number)] = draw(st.integers(0, 9)), oks
    return packs


def kinds(oks):
    return bytes(failure.VALUE if ok else failure.RAISED for ok in oks)


def listed(packs):
    return [Listed(location, 100, NOON + timedelta(seconds=second)) for location, (second, _) in sorted(packs.items())]


def table_of_session(packs, page):
    """Return the element table of a session. Its map continues, because its last element never ends."""
    elements = ElementTable(COUNT + 1)
    pages = listed(packs)
    for batch in oldest_first(pages[start : start + page] for start in range(0, len(pages), page)):
        for location, size in batch:
            if elements.takes(location):
                elements.store(location, size, kinds(packs[location][1]))
    return elements


def choice_of_job(packs):
    """Return the packs that a job chooses if its elements are these results."""
    chosen = {}
    for cluster in clusters(listed(packs)):
        chosen.update(choose_packs(cluster, lambda location: kinds(packs[location][1])))
    return chosen


@given(stored_packs(), st.integers(1, 4))
def test_session_and_job_choose_same_outcomes(packs, page):
    elements, chosen = table_of_session(packs, page), choice_of_job(packs)
    for index in range(COUNT):
        if index not in chosen:
            assert elements.state(index) == PENDING
            continue
        location = chosen[index].location
        assert elements.pack(index)[0] == location
        ok = packs[location][1][index - location.first]
        assert elements.state(index) == (VALUE if ok else FAILURE)
    assert elements.without_value == elements.number_of(FAILURE)
    assert elements.pending == elements.number_of(PENDING)


def test_value_replaces_failure_until_map_ends():
    elements = ElementTable(3)
    assert elements.store(Location(0, 2), 100, kinds([False, True])) == (0, b"\1\1")
    assert elements.takes(Location(0, 1))
    assert not elements.takes(Location(0, 2))
    assert elements.store(Location(0, 1), 100, kinds([True])) == (0, b"\0")
    assert (elements.pending, elements.without_value, elements.state(0)) == (1, 0, VALUE)
    assert not elements.takes(Location(0, 1))
    elements.store(Location(2, 1), 100, kinds([False]))
    elements.store(Location(2, 1, 1), 100, kinds([True]))
    assert (elements.pending, elements.without_value, elements.state(2)) == (0, 1, FAILURE)


def test_element_table_stores_round_numbers_up_to_40000():
    elements = ElementTable(2)
    for number in (0, 255, 256, 40_000):
        again = elements.reopened()
        again.store(Location(0, 1, number), 100, kinds([True]))
        assert again.pack(0) == (Location(0, 1, number), 1024)
