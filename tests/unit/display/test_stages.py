"""What is told while a Knot is made."""

import threading

import pytest

from cloudknot.display.progress import VARIABLE
from cloudknot.display.stages import Stages
from tests.helpers.waiting import until


def slow(stages, capsys):
    """A stage that lasts until it was announced, or must not be."""
    said = []

    def announced():
        said.append(capsys.readouterr().err)
        return "packing" in "".join(said)

    with stages.stage("packing the function"):
        until(announced)
    return "".join(said)


def test_a_stage_that_takes_long_is_told_and_the_end_too(monkeypatch, capsys):
    monkeypatch.setenv(VARIABLE, "1")
    stages = Stages("pi-calc", delay=0.01)
    assert slow(stages, capsys) == "pi-calc: packing the function ...\n"
    stages.ready()
    assert capsys.readouterr().err.startswith("pi-calc: ready after ")


@pytest.mark.parametrize(("variable", "delay"), [("1", 60.0), ("0", 0.0)])
def test_what_is_quick_or_not_looked_at_is_not_told(monkeypatch, capsys, variable, delay):
    monkeypatch.setenv(VARIABLE, variable)
    before = threading.active_count()
    stages = Stages("pi-calc", delay=delay)
    with stages.stage("packing the function"):
        pass
    stages.ready()
    until(lambda: threading.active_count() <= before)
    assert capsys.readouterr().err == ""
