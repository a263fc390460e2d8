"""`Stages` announces slow stages on stderr while a Knot is created."""

import threading

import pytest

from cloudknot.display.progress import VARIABLE
from cloudknot.display.stages import Stages
from tests.helpers.waiting import until


def announcement_of(stages, capsys):
    """Run a stage until its announcement appears, and return the text on stderr."""
    output = []

    def announced():
        output.append(capsys.readouterr().err)
        return "packing" in "".join(output)

    with stages.stage("packing the function"):
        until(announced)
    return "".join(output)


def test_slow_stage_and_ready_knot_are_announced(monkeypatch, capsys):
    monkeypatch.setenv(VARIABLE, "1")
    stages = Stages("pi-calc", delay=0.01)
    assert announcement_of(stages, capsys) == "pi-calc: packing the function ...\n"
    stages.ready()
    assert capsys.readouterr().err.startswith("pi-calc: ready after ")


@pytest.mark.parametrize(("variable", "delay"), [("1", 60.0), ("0", 0.0)], ids=["quick", "unwatched"])
def test_quick_or_unwatched_stage_is_not_announced(monkeypatch, capsys, variable, delay):
    monkeypatch.setenv(VARIABLE, variable)
    before = threading.active_count()
    stages = Stages("pi-calc", delay=delay)
    with stages.stage("packing the function"):
        pass
    stages.ready()
    # A timer thread that still runs could print after the check.
    until(lambda: threading.active_count() <= before)
    assert capsys.readouterr().err == ""
