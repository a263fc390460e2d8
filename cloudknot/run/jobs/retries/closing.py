"""Close the gaps of elements before a retry runs them again, so that no earlier attempt can still store a result.

The process of a lost host may go on after Batch has ended its job. Without this, it could store a second result beside
that of the retry. `cloudknot.worker.wire.pack_order` explains gaps.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from cloudknot.run.collect.pack_cache import submit
from cloudknot.run.collect.run_view import READERS
from cloudknot.worker.wire.failure import VALUE
from cloudknot.worker.wire.keys import Location
from cloudknot.worker.wire.pack import Origin, pack
from cloudknot.worker.wire.pack_order import Gaps, Listed, location_in

if TYPE_CHECKING:
    from cloudknot.run.collect.run_view import RunView
    from cloudknot.run.submit.rounds import Round, Rounds


class _Span(NamedTuple):
    """A contiguous range of elements of one child, and the number of its round."""

    elements: range
    round: int


def close_gaps(view: RunView, elements: Sequence[int], void: Sequence[Round] = ()) -> set[int]:
    """Close the gaps with some elements in the last round of each, and all gaps of void rounds.

    Parameters
    ----------
    view : RunView
    elements : sequence of int
        Sorted indices of elements without an outcome, as far as this session knows.
    void : sequence of Round
        Claimed rounds of other sessions that may have had a job for a moment.

    Returns
    -------
    set of int
        All elements of these children for which a value is stored after all.
    """
    # One request for each gap, and one for each pack beside it. A session in between sees no half-closed state: each
    # gap is closed or not, and an element in a closed one has no value until the retry stores it.
    values: set[int] = set()
    spans = sorted(_spans(view.run.rounds, elements, void), key=lambda span: span.elements.start)
    with ThreadPoolExecutor(READERS, thread_name_prefix="cloudknot-close") as pool:
        for closing in [submit(pool, _close, view, span, packs) for span, packs in _with_packs(view, spans)]:
            values |= closing.result()
    return values


def _spans(rounds: Rounds, elements: Sequence[int], void: Sequence[Round]) -> dict[_Span, None]:
    """Return the contiguous ranges of children that contain the elements, in the last round of each."""
    spans: dict[_Span, None] = {}
    position = 0
    while position < len(elements):
        owner, place = rounds.locate(elements[position])
        spans[_Span(owner.contiguous_range(place), owner.number)] = None
        _, stop = rounds.span_of(elements[position])
        position = bisect_left(elements, stop, position)
    for round in void:
        place = 0
        while place < len(round.elements):
            contiguous = round.contiguous_range(place)
            spans[_Span(contiguous, round.number)] = None
            place += len(contiguous)
    return spans


def _with_packs(view: RunView, spans: Sequence[_Span]) -> Iterator[tuple[_Span, list[Location]]]:
    """Yield each range with the packs that its round has stored in it. ``spans`` are sorted."""
    pages: Iterator[list[Listed]] = iter(())
    listed: list[Location] = []
    # A page has a thousand keys, so it often serves the next ranges, too.
    for span in spans:
        if not listed or listed[-1].first < span.elements.start:
            pages, listed = view.list_packs(span.elements.start), []
        while not listed or listed[-1].first < span.elements.stop:
            page = next(pages, None)
            if page is None:
                break
            listed += [location for location, _ in page]
        yield span, [pack for pack in listed if pack.first in span.elements and pack.round == span.round]
        # Ranges of different rounds may overlap, so only what lies before this one is dropped.
        listed = listed[bisect_left(listed, span.elements.start, key=_first) :]


def _first(location: Location) -> int:
    return location.first


def _close(view: RunView, span: _Span, packs: Sequence[Location]) -> set[int]:
    """Store an empty pack in each gap of a range. Return the elements of the range with a value."""
    gaps, values, keys = Gaps(span.elements), set[int](), view.run.keys

    def take(location: Location) -> None:
        kinds = view.kinds(location)
        gaps.fill(location, kinds)
        values.update(index for index, kind in enumerate(kinds, location.first) if kind == VALUE)

    for stored in packs:
        take(stored)
    while (gap := next(iter(gaps), None)) is not None:
        location = location_in(gap, span.round)
        if view.cloud.storage.put_new(keys.output(*location), pack([], Origin(keys.run_id, location))):
            gaps.fill(location, b"")
        else:
            # An attempt, or another session, has stored a pack since the listing.
            take(location)
    return values
