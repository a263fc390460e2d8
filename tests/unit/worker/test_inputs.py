"""How a child reads its inputs: neighbours together, within a window."""

from array import array
from itertools import accumulate, pairwise

from hypothesis import given
from hypothesis import strategies as st

from cloudknot.worker.inputs import _windows
from cloudknot.worker.s3.limits import SKIP, WINDOW

sizes = st.integers(1, 100) | st.integers(1, 2 * SKIP) | st.integers(WINDOW // 3, 2 * WINDOW)


@st.composite
def todos(draw):
    """Some of the elements of a child, and where these and those between them begin and end."""
    elements = draw(st.lists(sizes, min_size=1, max_size=40))
    first = draw(st.integers(0, 10**9))
    kept = draw(st.sets(st.integers(0, len(elements) - 1), min_size=1))
    offsets = array("Q", accumulate(elements, initial=first))[min(kept) :]
    return sorted(first + each for each in kept), offsets


@given(todos())
def test_windows_hold_each_element_once_and_no_more_than_is_read_together(case):
    todo, offsets = case
    windows = list(_windows(todo, offsets))
    assert [index for window in windows for index in window] == todo

    def span(window):
        return offsets[window[0] - todo[0]], offsets[window[-1] - todo[0] + 1]

    for window in windows:
        begin, end = span(window)
        assert end - begin <= WINDOW or len(window) == 1
        assert all(span([b])[0] - span([a])[1] <= SKIP for a, b in pairwise(window))
    for before, after in pairwise(windows):
        begin, end = span(before)
        assert span(after[:1])[0] - end > SKIP or span(after[:1])[1] - begin > WINDOW
