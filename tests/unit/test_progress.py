"""When progress is shown, and what it says."""

import io

import pytest

from cloudknot import progress


@pytest.mark.parametrize(
    ("choice", "variable", "shown"),
    [(True, "0", True), (False, "1", False), (None, "1", True), (None, "0", False), (None, "", False)],
)
def test_the_argument_wins_over_the_variable_and_that_over_the_terminal(monkeypatch, choice, variable, shown):
    monkeypatch.setenv(progress.VARIABLE, variable)
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert progress.wanted(choice) is shown
    assert (progress.progress_line("pi", 3, choice) is not None) is shown


@pytest.mark.parametrize(
    ("failed", "states", "text"),
    [
        (0, {}, ""),
        (0, {"RUNNING": 2, "RUNNABLE": 5, "STARTING": 1, "SUCCEEDED": 3}, "2 running, 6 waiting"),
        (1, {"RUNNING": 1}, "1 running, 1 failed"),
    ],
)
def test_describe(failed, states, text):
    assert progress.describe(failed, states) == text


def test_one_line_is_left_where_nobody_looks_on(capsys):
    line = progress.progress_line("pi", 4, True)
    line.show(1, 0, {"RUNNING": 3})
    line.show(3, 1, {})
    line.stop()
    lines = [text for text in capsys.readouterr().err.splitlines() if text.strip()]
    assert len(lines) == 1
    assert "pi" in lines[0]
    assert "4/4" in lines[0]
    assert "1 failed" in lines[0]


def test_a_line_that_never_showed_leaves_nothing(capsys):
    progress.progress_line("pi", 4, True).stop()
    assert capsys.readouterr().err == ""
