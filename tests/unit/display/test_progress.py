"""When progress is shown, and what it says."""

import io

import pytest
from rich.console import Console
from rich.progress import Progress

from cloudknot.display import progress
from cloudknot.display.progress import Snapshot
from cloudknot.display.terminal import columns_of


@pytest.mark.parametrize(
    ("choice", "variable", "shown"),
    [(True, "0", True), (False, "1", False), (None, "1", True), (None, "0", False), (None, "", False)],
)
def test_the_argument_wins_over_the_variable_and_that_over_the_terminal(monkeypatch, choice, variable, shown):
    monkeypatch.setenv(progress.VARIABLE, variable)
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert progress.is_shown(choice) is shown
    assert (progress.progress_line("pi", 3, choice) is not None) is shown


@pytest.mark.parametrize(
    ("states", "text"),
    [
        ({}, ""),
        ({"RUNNING": 2, "RUNNABLE": 5, "STARTING": 1, "SUCCEEDED": 3}, "2 running, 1 starting, 5 waiting"),
        ({"RUNNING": 11}, "11 running"),
        ({"PENDING": 7, "SUBMITTED": 4}, "7 pending, 4 submitted"),
        ({"RUNNING": 2, "RUNNABLE": 1}, "jobs: 2 running, 1 waiting"),
    ],
)
def test_describe(states, text):
    assert progress.describe(states, 11) == text


@pytest.mark.parametrize(
    ("rate", "text"),
    [(350, "350/s"), (1.25, "1.2/s"), (0.5, "30/min"), (0.02, "1.2/min"), (0.001, "3.6/h"), (0.0001, "0.4/h")],
)
def test_rates(rate, text):
    assert progress.per_time(rate) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0:00"), (75, "1:15"), (3765, "1:02:45")])
def test_clock_time(seconds, text):
    assert progress.clock_time(seconds) == text


class Texts:
    """A line that keeps what it shows."""

    def __init__(self):
        self.texts = []

    def update(self, ended, text, reason):
        self.texts.append(text)

    def close(self):
        pass


def test_the_rate_is_that_of_the_last_minute_and_the_time_left_follows():
    line, now = Texts(), iter([0, 10, 200, 230, 400])
    shown = progress.ProgressLine(1000, line, clock=lambda: next(now))
    for done in (0, 100, 400, 430, 1000):
        shown.show(Snapshot(done, states={"RUNNING": 1000}))
    assert line.texts[0] == "0/1,000, 1,000 running"
    assert line.texts[1] == "100/1,000, 10/s, 1:30 left, 1,000 running"
    assert line.texts[3] == "430/1,000, 1.0/s, 9:30 left, 1,000 running"
    assert line.texts[4] == "1,000/1,000, 1,000 running"


class Torn(Texts):
    """A line that cannot be shown any more."""

    def update(self, ended, text, reason):
        super().update(ended, text, reason)
        raise BrokenPipeError


def test_a_line_that_cannot_be_shown_stops_nothing_and_is_tried_no_more(caplog):
    line = Torn()
    shown = progress.ProgressLine(3, line)
    for done in range(3):
        shown.show(Snapshot(done, states={"RUNNING": 3 - done}))
    shown.stop()
    assert len(line.texts) == 1
    assert [record.message for record in caplog.records] == [progress.CANNOT_SHOW]


@pytest.mark.parametrize(
    ("width", "bar", "kept"),
    [
        (120, 20, "5/12, 2 failed, 3.3/s, 0:02 left, jobs: 5 running"),
        (80, 10, "0:02 left"),
        (40, 0, "2 failed, 3.3/s"),
    ],
)
def test_a_line_fits_its_terminal_and_leaves_out_the_end_of_its_text(width, bar, kept):
    console = Console(width=width, file=io.StringIO())
    shown = Progress(*columns_of(width), console=console, expand=True)
    said = "5/12, 2 failed, 3.3/s, 0:02 left, jobs: 5 running, 2 starting, 3,000 waiting, 12 submitted"
    shown.add_task("monte-carlo-with-a-long-name", total=12, completed=12, text=said)
    console.print(shown.get_renderable())
    (line,) = console.file.getvalue().splitlines()
    assert len(line) == width
    assert line.startswith("monte-carlo")
    assert line.count("━") == bar
    assert kept in line
    assert line.rstrip(" 0:").endswith("…")


def test_one_line_is_left_where_nobody_looks_on(capsys):
    line = progress.progress_line("pi", 4, True)
    line.show(Snapshot(1, states={"RUNNING": 3}))
    line.show(Snapshot(3, 1))
    line.stop()
    lines = [text for text in capsys.readouterr().err.splitlines() if text.strip()]
    assert len(lines) == 1
    assert "pi" in lines[0]
    assert "4/4" in lines[0]
    assert "1 failed" in lines[0]


def test_a_line_that_never_showed_leaves_nothing(capsys):
    progress.progress_line("pi", 4, True).stop()
    assert capsys.readouterr().err == ""


def test_what_was_cancelled_has_not_failed():
    line = Texts()
    progress.ProgressLine(11, line).show(Snapshot(3, 1, 7))
    assert line.texts == ["11/11, 1 failed, 7 cancelled"]


def test_why_jobs_wait_is_told_once_where_nobody_looks_on(capsys):
    line = progress.progress_line("pi", 4, True)
    for done in range(3):
        line.show(Snapshot(done, states={"RUNNABLE": 2}, reason="pi: a job is waiting"))
    line.show(Snapshot(4))
    line.stop()
    assert capsys.readouterr().err.splitlines() == ["pi: a job is waiting", "pi: 4/4"]
