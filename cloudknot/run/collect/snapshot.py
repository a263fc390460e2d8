"""The progress of a map's elements, as the display shows it."""

from __future__ import annotations

from collections.abc import Mapping

from cloudknot.display.progress import Snapshot
from cloudknot.run.collect.element_table import CANCELLED, Elements


def snapshot(elements: Elements, states: Mapping[str, int], why: str) -> Snapshot:
    """Return the progress of ``elements``, with the number of children in each of Batch's states."""
    left, cancelled = elements.left, elements.number_of(CANCELLED)
    counts = len(elements) - left - elements.without_value, elements.without_value - cancelled, cancelled
    return Snapshot(*counts, states, why) if left else Snapshot(*counts)
