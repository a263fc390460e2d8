"""Gaps: what stored packs leave open, and in which pack a reader finds an outcome."""

from hypothesis import given
from hypothesis import strategies as st

from cloudknot.worker.wire.failure import ABSENT, RAISED, VALUE
from cloudknot.worker.wire.keys import Location
from cloudknot.worker.wire.pack import Envelope, Origin, Pack, pack
from cloudknot.worker.wire.pack_order import HEAD, Choice, Gaps, Listed, clusters, location_in, read_head


def listed(*locations):
    return [Listed(Location(*location), 100) for location in sorted(locations)]


def test_gaps_of_child_are_its_contiguous_ranges():
    assert list(Gaps([3, 4, 5, 8, 10, 11])) == [range(3, 6), range(8, 9), range(10, 12)]
    assert list(Gaps([])) == []


def test_pack_leaves_its_absent_elements_and_rest_of_its_gap():
    gaps = Gaps(range(10, 20))
    gaps.fill(Location(10, 10), bytes([VALUE, ABSENT, ABSENT, RAISED, VALUE, ABSENT]))
    assert list(gaps) == [range(11, 13), range(15, 20)]
    assert gaps.elements() == [11, 12, 15, 16, 17, 18, 19]
    assert (11 in gaps, 13 in gaps, gaps.around(16), gaps.around(9)) == (True, False, range(15, 20), None)
    gaps.fill(Location(15, 5), bytes([VALUE] * 5))
    assert list(gaps) == [range(11, 13)]


def test_pack_without_outcomes_closes_its_gap():
    gaps = Gaps(range(6))
    gaps.fill(Location(0, 6), bytes([VALUE, VALUE]))
    gaps.fill(Location(2, 4), b"")
    assert list(gaps) == []
    gaps = Gaps(range(6))
    gaps.fill(Location(0, 6), bytes([ABSENT] * 3))
    assert list(gaps) == []


@given(st.data())
def test_gaps_are_elements_without_outcome_in_any_order_of_packs(data):
    elements = sorted(data.draw(st.sets(st.integers(0, 30), min_size=1)))
    gaps, packs, open_elements = Gaps(elements), [], set(elements)
    while open_elements and len(packs) < 12:
        gap = data.draw(st.sampled_from(list(gaps)))
        outcomes = st.lists(st.sampled_from([VALUE, RAISED, ABSENT]), max_size=len(gap))
        kinds = bytes(data.draw(outcomes))
        packs.append((location_in(gap, 0), kinds))
        gaps.fill(*packs[-1])
        has_outcome = bool(kinds.strip(bytes([ABSENT])))
        filled = {gap.start + position for position, kind in enumerate(kinds) if kind != ABSENT}
        open_elements -= filled if has_outcome else set(gap)
        assert gaps.elements() == sorted(open_elements)
    # No two packs have one key, so no writer could have replaced another one's pack.
    assert len({location for location, _ in packs}) == len(packs)
    again = Gaps(elements)
    for stored in data.draw(st.permutations(packs)):
        again.fill(*stored)
    assert list(again) == list(gaps)


def test_clusters_are_packs_with_overlapping_gaps():
    packs = listed((0, 3), (1, 2), (3, 4), (5, 2), (6, 1), (7, 1))
    assert [[pack.location.first for pack in cluster] for cluster in clusters(packs)] == [[0, 1], [3, 5, 6], [7]]


def test_choice_prefers_newest_round_and_then_smallest_gap():
    choice = Choice(listed((0, 10), (4, 6), (7, 3), (5, 2, 1), (0, 1, 2)))
    assert [tuple(pack.location) for pack in choice.of(5)] == [(5, 2, 1), (4, 6, 0)]
    assert [tuple(pack.location) for pack in choice.of(8)] == [(7, 3, 0)]
    assert [tuple(pack.location) for pack in choice.of(0)] == [(0, 1, 2), (0, 10, 0)]
    assert choice.newest(9).location == Location(7, 3)
    assert choice.extent(choice.newest(9)) == 3
    assert choice.extent(choice.newest(1)) == 4
    assert Choice(listed((4, 2))).newest(3) is None


def test_head_of_pack_takes_one_request_and_two_for_many_elements():
    for number, requests in ((3, 1), (HEAD, 1), (HEAD + 1, 2)):
        origin, reads = Origin("run", Location(0, 5000)), []
        data = pack([Envelope(VALUE, b"x", 0, 0, 0)] * number, origin)

        def read(start, end, data=data, reads=reads):
            reads.append(end)
            return data[start:end]

        assert Pack(read_head(read, origin.location), origin).kinds == bytes([VALUE] * number)
        assert len(reads) == requests
