"""`Stages` announces slow stages while a Knot is created."""

import re
import threading

import pytest

from cloudknot.display.progress import VARIABLE
from cloudknot.display.stages import NotebookStages, Stages, StderrLines
from tests.helpers.waiting import LONG, until


def announcement_of(stages, capsys, word="packing"):
    """Run a stage until its announcement appears, and return the text on stderr."""
    output = []

    def announced():
        output.append(capsys.readouterr().err)
        return word in "".join(output)

    with stages.stage("packing the function"):
        until(announced)
    return "".join(output)


@pytest.mark.parametrize("variable", ["1", ""], ids=["chosen", "default"])
def test_slow_stages_and_ready_knot_have_one_line_each_without_terminal(monkeypatch, capsys, variable):
    monkeypatch.setenv(VARIABLE, variable)
    stages = Stages("pi-calc", delay=0.01)
    assert announcement_of(stages, capsys) == "pi-calc: packing the function ...\n"
    assert re.fullmatch(r"pi-calc: packing the function \.\.\. \(\d+ s so far\)\n", announcement_of(stages, capsys))
    stages.ready()
    captured = capsys.readouterr()
    assert captured.err.startswith("pi-calc: ready after ")
    assert captured.out == ""


@pytest.mark.parametrize(("variable", "delay"), [("1", 60.0), ("0", 0.0)], ids=["quick", "hidden"])
def test_quick_or_hidden_stage_is_not_announced(monkeypatch, capsys, variable, delay):
    monkeypatch.setenv(VARIABLE, variable)
    before = threading.active_count()
    stages = Stages("pi-calc", delay=delay)
    with stages.stage("packing the function"):
        pass
    stages.ready()
    # A thread that still runs could print after the check.
    until(lambda: threading.active_count() <= before)
    assert capsys.readouterr().err == ""


def test_long_stage_prints_another_line_now_and_then(capsys):
    place = StderrLines()
    place.pause = 0.02
    text = announcement_of(Stages("pi-calc", delay=0.01, place=place), capsys, "s)")
    first, second = text.splitlines()[:2]
    assert first == "pi-calc: packing the function ..."
    assert re.fullmatch(r"pi-calc: packing the function \.\.\. \(\d+ s\)", second)


def test_last_line_in_notebook_shows_growing_time():
    shown = []
    place = NotebookStages(lambda lines: shown.append(list(lines)))
    place.pause = 0.02
    stages = Stages("pi-calc", delay=0.01, place=place)
    with stages.stage("packing"):
        until(lambda: len(shown) > 2)
    with stages.stage("creating the queue"):
        until(lambda: len(shown[-1]) > 1)
    stages.ready()
    assert shown[0] == ["pi-calc: packing ..."]
    (line,) = shown[2]
    assert re.fullmatch(r"pi-calc: packing \.\.\. \(\d+ s\)", line)
    assert len(shown[-1]) == 3
    assert shown[-1][1].startswith("pi-calc: creating the queue ...")
    assert shown[-1][2].startswith("pi-calc: ready after ")


def test_error_of_display_does_not_end_creation():
    calls = []

    def fail(lines):
        calls.append(lines)
        raise BrokenPipeError

    stages = Stages("pi-calc", delay=0.0, place=NotebookStages(fail))
    with stages.stage("packing"):
        until(lambda: calls)
    stages.ready()
    assert len(calls) == 1


def test_stage_that_fails_raises_its_own_error_and_prints_nothing_afterwards(capsys):
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError), Stages("pi-calc", delay=LONG).stage("packing"):
        raise ZeroDivisionError
    # The thread would end only after the delay, if the error did not end it.
    until(lambda: threading.active_count() <= before)
    assert capsys.readouterr().err == ""
