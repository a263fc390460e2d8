"""Progress lines: when they are shown, and their text. Recording lines stand in for the terminal."""

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
def test_argument_overrides_variable_and_variable_overrides_terminal(monkeypatch, choice, variable, shown):
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
def test_description_counts_jobs_in_each_state(states, text):
    assert progress.describe(states, 11) == text


@pytest.mark.parametrize(
    ("rate", "text"),
    [(350, "350/s"), (1.25, "1.2/s"), (0.5, "30/min"), (0.02, "1.2/min"), (0.001, "3.6/h"), (0.0001, "0.4/h")],
)
def test_rate_has_readable_unit(rate, text):
    assert progress.per_time(rate) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0:00"), (75, "1:15"), (3765, "1:02:45")])
def test_clock_time_has_minutes_and_seconds(seconds, text):
    assert progress.clock_time(seconds) == text


class RecordingLine:
    """A line that keeps its texts."""

    def __init__(self):
        self.texts = []

    def update(self, picture):
        self.texts.append(picture.text)

    def close(self):
        pass


def test_line_computes_time_left_from_rate_of_last_minute():
    line, now = RecordingLine(), iter([0, 10, 200, 230, 400])
    progress_line = progress.ProgressLine(1000, line, clock=lambda: next(now))
    for ended in (0, 100, 400, 430, 1000):
        progress_line.show(Snapshot(ended, states={"RUNNING": 1000}))
    assert line.texts[0] == "0/1,000, 1,000 running"
    assert line.texts[1] == "100/1,000, 10/s, 1:30 left, 1,000 running"
    assert line.texts[3] == "430/1,000, 1.0/s, 9:30 left, 1,000 running"
    assert line.texts[4] == "1,000/1,000, 1,000 running"


class BrokenLine(RecordingLine):
    """A line on a closed terminal."""

    def update(self, picture):
        super().update(picture)
        raise BrokenPipeError


def test_progress_line_stops_with_one_warning_after_write_error(caplog):
    line = BrokenLine()
    progress_line = progress.ProgressLine(3, line)
    for ended in range(3):
        progress_line.show(Snapshot(ended, states={"RUNNING": 3 - ended}))
    progress_line.stop()
    assert len(line.texts) == 1
    assert [record.message for record in caplog.records] == [progress.CANNOT_SHOW]


def drawn(width, *names, failed=0):
    """Return the lines of bars with these names on a terminal."""
    console = Console(width=width, file=io.StringIO())
    bars = Progress(*columns_of(width), console=console, expand=True)
    text = "5/12, 2 failed, 3.3/s, 0:02 left, jobs: 5 running, 2 starting, 3,000 waiting, 12 submitted"
    for name in names:
        bars.add_task(name, total=12, completed=12, text=text, failed=failed)
    console.print(bars.get_renderable())
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize(
    ("width", "bar", "kept"),
    [
        (120, 20, "5/12, 2 failed, 3.3/s, 0:02 left, jobs: 5 running"),
        (80, 10, "0:02 left"),
        (40, 0, "2 failed"),
    ],
)
def test_line_fits_its_terminal_and_truncates_its_text(width, bar, kept):
    (line,) = drawn(width, "monte-carlo-by-name")
    assert len(line) == width
    assert line.startswith("monte-carlo-by-name")
    assert line.count("━") == bar
    assert kept in line
    assert line.rstrip(" 0:").endswith("…")


def test_names_of_two_maps_are_whole_on_80_columns_and_differ():
    first, second = drawn(80, "diffusion-of-the-whole-brain", "diffusion-of-the-whole-brain #2")
    assert len(first) == len(second) == 80
    assert first.startswith("diffusion-of-the-whole-brain ")
    assert second.startswith("diffusion-of-the-whole-brain #2 ")
    assert "5/12, 2 failed, 3.3/s" in first


def test_name_of_55_letters_keeps_its_end_and_leaves_room_for_text():
    name = "a-name-of-fifty-five-letters-that-is-as-long-as-allowed #2"
    (line,) = drawn(80, name)
    assert len(line) == 80
    assert line.startswith("a-name-of-fifty")
    assert "llowed #2" in line
    assert "5/12, 2 failed, 3.3/s" in line


def test_only_last_line_is_printed_without_terminal(capsys):
    line = progress.progress_line("pi", 4, True)
    line.show(Snapshot(1, states={"RUNNING": 3}))
    line.show(Snapshot(3, 1))
    line.stop()
    lines = [text for text in capsys.readouterr().err.splitlines() if text.strip()]
    assert len(lines) == 1
    assert "pi" in lines[0]
    assert "4/4" in lines[0]
    assert "1 failed" in lines[0]


def test_progress_line_without_updates_prints_nothing(capsys):
    progress.progress_line("pi", 4, True).stop()
    assert capsys.readouterr().err == ""


def test_line_counts_cancelled_elements_apart_from_failed_ones():
    line = RecordingLine()
    progress.ProgressLine(11, line).show(Snapshot(3, 1, 7))
    assert line.texts == ["11/11, 1 failed, 7 cancelled"]


def test_reason_of_waiting_is_printed_once_without_terminal(capsys):
    line = progress.progress_line("pi", 4, True)
    for ended in range(3):
        line.show(Snapshot(ended, states={"RUNNABLE": 2}, reason="pi: a job is waiting"))
    line.show(Snapshot(4))
    line.stop()
    assert capsys.readouterr().err.splitlines() == ["pi: a job is waiting", "pi: 4/4"]


def test_first_failure_is_printed_once_without_terminal(capsys):
    line = progress.progress_line("pi", 12, True)
    for failed in range(3):
        line.show(Snapshot(failed, failed, failure="element 3 failed: KeyError: 'a'" if failed else ""))
    line.show(Snapshot(3, 9, failure="element 3 failed: KeyError: 'a'", advice="Pass chunksize='auto'."))
    line.stop()
    assert capsys.readouterr().err.splitlines() == [
        "pi: element 3 failed: KeyError: 'a' (1 of 12)",
        "Pass chunksize='auto'.",
        "pi: 12/12, 9 failed",
    ]


class WriteOnly:
    """A stderr as a graphical shell has it: it can write, and nothing else."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text


def closed():
    file = io.StringIO()
    file.close()
    return file


@pytest.mark.parametrize("stderr", [None, closed(), WriteOnly()], ids=["none", "closed", "write-only"])
def test_stderr_without_terminal_never_raises(monkeypatch, stderr):
    monkeypatch.setattr("sys.stderr", stderr)
    assert not progress.is_shown(None)
    line = progress.progress_line("pi", 2, True)
    line.show(Snapshot(2, reason="pi: a job is waiting"))
    line.stop()


def test_nothing_is_printed_on_stdout(capsys):
    line = progress.progress_line("pi", 2, True)
    line.show(Snapshot(1, 1, failure="element 0 failed: KeyError"))
    line.stop()
    assert capsys.readouterr().out == ""
