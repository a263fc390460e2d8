"""The output of a job is followed until its end, with the lines that its log shows only afterwards."""

from types import SimpleNamespace

import pytest

from cloudknot.run.jobs import output
from cloudknot.run.jobs.output import LogLine, Output


@pytest.fixture
def follow(monkeypatch):
    """Return a function that follows a job of one child. It takes the new lines of each reading of the log.

    The job ends after ``live`` readings. The function returns the lines, and the pauses before the further readings.
    """

    def run(readings, live):
        remaining, pauses, questions = iter(readings), [], []
        monkeypatch.setattr(Output, "lines", lambda self: iter([LogLine(0, 1, text) for text in next(remaining)]))

        def has_ended():
            questions.append("ended?")
            return len(questions) > live

        view = SimpleNamespace(run=SimpleNamespace(rounds=SimpleNamespace(children=1)))
        followed = Output(view, None, lambda: None, has_ended, pauses.append)
        return [line.message for line in followed.follow()], pauses

    return run


def test_lines_that_arrive_after_the_end_are_read_once_more(follow):
    assert follow([["first"], ["second"], ["late"]], live=1) == (
        ["first", "second", "late"],
        [output.SHORTEST_PAUSE] * 2,
    )


def test_pauses_grow_without_lines_and_shrink_with_one(follow):
    lines, pauses = follow([[], [], [], ["one"], [], []], live=4)
    assert lines == ["one"]
    assert pauses == [1.0, 2.0, 4.0, output.SHORTEST_PAUSE, output.SHORTEST_PAUSE]
