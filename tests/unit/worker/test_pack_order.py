"""Of overlapping packs, the one that was stored first comes first, wherever a page of the listing ends."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from cloudknot.worker.wire.keys import Location
from cloudknot.worker.wire.pack_order import Listed, oldest_first

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def listed(first, number, second, round=0):
    """Return a pack of ``number`` elements that was stored some seconds after noon."""
    return Listed(Location(first, number, round), 100, NOON + timedelta(seconds=second))


def ordered(*pages):
    """Return the locations of the packs of a listing, oldest first where they overlap."""
    return [tuple(location) for page in oldest_first(pages) for location, _ in page]


def test_adjacent_packs_keep_order_of_keys_regardless_of_storage_time():
    assert ordered([listed(0, 2, 9), listed(2, 2, 1), listed(4, 1, 5)]) == [(0, 2, 0), (2, 2, 0), (4, 1, 0)]


def test_oldest_of_overlapping_packs_comes_first():
    packs = [listed(0, 3, 9), listed(0, 5, 7), listed(3, 4, 8), listed(7, 1, 0)]
    assert ordered(packs) == [(0, 5, 0), (3, 4, 0), (0, 3, 0), (7, 1, 0)]
    assert ordered(packs[:1], packs[1:2], packs[2:]) == ordered(packs)


def test_earlier_round_comes_first_among_packs_of_same_second():
    assert ordered([listed(0, 1, 1, round=2), listed(0, 1, 1, round=1)]) == [(0, 1, 1), (0, 1, 2)]


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 6), st.integers(0, 5))), st.integers(1, 5))
def test_each_pack_comes_once_and_oldest_pack_of_each_element_first(packs, size):
    packs = sorted({listed(*pack) for pack in packs}, key=lambda pack: pack.location)
    order = ordered(*(packs[start : start + size] for start in range(0, len(packs), size)))
    assert sorted(order) == sorted(tuple(pack.location) for pack in packs)
    for element in range(26):
        holding = [pack for pack in packs if 0 <= element - pack.location.first < pack.location.number]
        if holding:
            oldest = min(pack.stored for pack in holding)
            first = next(location for location in order if location[0] <= element < location[0] + location[1])
            assert next(pack for pack in packs if tuple(pack.location) == first and pack.stored == oldest)
