"""Summaries of objects are one line, or escaped HTML. They never raise."""

import pytest

from cloudknot.display.progress import Snapshot
from cloudknot.display.summaries import (
    ROWS,
    Summary,
    html_table,
    safely,
    summary_of_jobs,
    summary_of_map,
    text_table,
)
from cloudknot.display.terminal import DONE, FAILED


@pytest.mark.parametrize(
    ("now", "count", "line"),
    [
        (
            Snapshot(9, 1, states={"RUNNING": 2, "SUCCEEDED": 9, "FAILED": 1}),
            12,
            "<BatchJob squares 12 elements: 9 done, 1 failed, 2 running>",
        ),
        (Snapshot(0), 12, "<BatchJob squares 12 elements: 0 done, 12 not ended>"),
        (Snapshot(12), 12, "<BatchJob squares 12 elements: 12 done>"),
        (Snapshot(1), 1, "<BatchJob squares 1 element: 1 done>"),
        (Snapshot(3, 1, 8), 12, "<BatchJob squares 12 elements: 3 done, 1 failed, 8 cancelled>"),
        (
            Snapshot(500, states={"RUNNING": 2, "SUCCEEDED": 5}),
            2000,
            "<BatchJob squares 2,000 elements: 500 done, jobs: 2 running>",
        ),
    ],
)
def test_line_has_number_of_elements_in_each_state(now, count, line):
    assert summary_of_map("BatchJob", "squares", count, now).line() == line


@pytest.mark.parametrize(
    ("count", "states", "line"),
    [
        (3, {"SUCCEEDED": 2, "RUNNING": 1}, "<BatchJob squares 3 elements: 2 done, 1 running>"),
        (0, {"SUCCEEDED": 2, "RUNNING": 1}, "<BatchJob squares 3 jobs: 2 done, 1 running>"),
        (0, {"FAILED": 1}, "<BatchJob squares 1 job: 1 failed>"),
        (0, {}, "<BatchJob squares: not known to AWS Batch now>"),
    ],
)
def test_line_from_states_of_child_jobs(count, states, line):
    assert summary_of_jobs("BatchJob", "squares", count, states).line().replace("0 done, ", "") == line


def test_html_escapes_every_value_and_has_bar_with_share_of_failures():
    now = Snapshot(3, 1, failure="element 3 failed: <script>alert(1)</script>")
    html = summary_of_map("BatchJob", "a<b>&", 4, now, [("<i>", "<u>"), ("empty", "")]).html()
    assert "a&lt;b&gt;&amp;" in html
    assert "&lt;i&gt;" in html
    assert "element 3 failed: &lt;script&gt;" in html
    assert "<u>" not in html
    assert "<script>" not in html
    assert "empty" not in html
    assert f"width:75.00%;background:{DONE}" in html
    assert f"width:25.00%;background:{FAILED}" in html
    assert len(html) < 1500


def test_summary_without_bar_has_none():
    assert "width" not in Summary("Knot", "squares", "ready").html()


def test_table_shows_newest_rows_and_number_of_others():
    rows = [(str(number), "<b>") for number in range(ROWS + 1005)]
    text, html = text_table(("#", "Name"), rows, "No jobs."), html_table(("#", "Name"), rows, "No jobs.")
    assert len(text.splitlines()) == ROWS + 3
    assert text.splitlines()[-1] == "1,005 earlier ones are not shown."
    assert text.splitlines()[-2].startswith(str(ROWS + 1004))
    assert html.count("<tr>") == ROWS + 1
    assert "1,005 earlier ones" in html
    assert "<b>" not in html
    assert text_table(("#",), [], "No jobs.") == "No jobs."
    assert "No jobs." in html_table(("#",), [], "No jobs.")


def test_repr_of_broken_object_never_raises():
    def fail():
        raise RuntimeError("half built")

    assert safely(fail, "Knot") == "<Knot>"
