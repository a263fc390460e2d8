"""Larger chunks are advised once, and only where they save time."""

import pytest

from cloudknot.run.collect import map_status
from cloudknot.run.collect.map_status import SAMPLE, ShortCalls


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture(autouse=True)
def no_advice_yet(monkeypatch):
    monkeypatch.setattr(map_status, "_ADVISED", set())


def advice_for(seconds, *, count=2000, pace=0.013, running=2, knot="squares"):
    """Return the texts of a watch that sees one element end after the other, and the number of measurements."""
    clock, measured = Clock(), []
    watch = ShortCalls(knot, count, clock)

    def measure():
        measured.append(seconds)
        return seconds

    texts = []
    for ended in range(count):
        texts.append(watch.look(ended, running, measure))
        clock.now += pace
    return list(filter(None, texts)), len(measured)


def test_tiny_calls_get_advice_once_in_session():
    texts, measured = advice_for(0.0001)
    assert texts == [
        "squares: a call takes 0.1 ms, and the child job for it 13 ms. map(..., chunksize='auto') would take about "
        "1 s in place of 26 s."
    ]
    assert measured == 1
    assert advice_for(0.0001) == ([], 0)
    assert len(advice_for(0.0001, knot="other")[0]) == 1


@pytest.mark.parametrize(
    ("choices", "measured"),
    [
        ({"seconds": 0.06, "pace": 0.08}, 1),
        ({"seconds": None}, 1),
        ({"seconds": 0.0001, "count": 300}, 0),
        ({"seconds": 0.0001, "count": SAMPLE}, 0),
        ({"seconds": 0.04, "pace": 0.03}, 1),
    ],
    ids=["longer calls", "no value", "short map", "few elements", "small gain"],
)
def test_other_maps_get_no_advice(choices, measured):
    assert advice_for(**choices) == ([], measured)


def test_time_before_first_result_does_not_count():
    """A machine may take minutes to start."""
    clock = Clock()
    watch = ShortCalls("squares", 300, clock)
    for ended in range(300):
        assert watch.look(ended, 2, lambda: 0.0001) == ""
        clock.now += 600 if ended == 0 else 0.01
