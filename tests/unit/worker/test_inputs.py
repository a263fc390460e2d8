"""A child job reads neighbouring elements together, in windows of limited size. Hypothesis draws the elements."""

from array import array
from itertools import accumulate, pairwise

from hypothesis import given
from hypothesis import strategies as st

from cloudknot.worker.inputs import _windows
from cloudknot.worker.s3.limits import SKIP, WINDOW

# Small elements, elements around the distance that a request reads over, and elements around the size of a window.
sizes = st.integers(1, 100) | st.integers(1, 2 * SKIP) | st.integers(WINDOW // 3, 2 * WINDOW)


@st.composite
def todos(draw):
    """Return some elements of a child job, and the offsets of all elements from the first to the last of them."""
    lengths = draw(st.lists(sizes, min_size=1, max_size=40))
    first = draw(st.integers(0, 10**9))
    kept = draw(st.sets(st.integers(0, len(lengths) - 1), min_size=1))
    offsets = array("Q", accumulate(lengths, initial=first))[min(kept) :]
    return sorted(first + position for position in kept), offsets


@given(todos())
def test_windows_contain_each_element_once_within_limits(case):
    todo, offsets = case
    windows = list(_windows(todo, offsets))
    assert [index for window in windows for index in window] == todo

    def span(window):
        """Return the first and the last offset of a window."""
        return offsets[window[0] - todo[0]], offsets[window[-1] - todo[0] + 1]

    for window in windows:
        begin, end = span(window)
        assert end - begin <= WINDOW or len(window) == 1
        assert all(span([b])[0] - span([a])[1] <= SKIP for a, b in pairwise(window))
    for before, after in pairwise(windows):
        begin, end = span(before)
        # The next element would have been too far away, or would have made the window too large.
        assert span(after[:1])[0] - end > SKIP or span(after[:1])[1] - begin > WINDOW
