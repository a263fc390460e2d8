"""Knots, jobs and futures show their state, in this session and in others, and bars tell maps apart."""

import io
import json
import os
import subprocess
import sys
import threading

import pytest

import cloudknot as ck
from cloudknot.run.jobs import glance
from tests.helpers.counting import Counting
from tests.helpers.functions import square
from tests.helpers.paths import ROOT
from tests.helpers.waiting import LONG, until


def inverse(x):
    return 1 / x


class CountingCloud(Counting, ck.LocalCloud):
    """The embedded cloud of another session. It records calls."""


@pytest.fixture
def failed(process_knot_of):
    """Return the future of an ended map with one failure, of four elements."""
    future = process_knot_of(inverse).map([1, 0, 2, 4])
    future.exception(LONG)
    # Batch reports the end a moment after the last outcome.
    until(lambda: future.job.status == "FAILED")
    return future


def test_objects_of_session_show_their_state_without_request(cloud, failed):
    name = failed.job.keys.knot
    assert repr(failed) == f"<MapFuture {name} 4 elements: 3 done, 1 failed>"
    assert repr(failed.job) == f"<BatchJob {name} 4 elements: 3 done, 1 failed>"
    assert [repr(element) for element in failed[:2]] == [
        "<ElementFuture 0 of 4: done>",
        "<ElementFuture 1 of 4: failed>",
    ]
    html = failed._repr_html_()
    assert "element 1 failed: ZeroDivisionError: division by zero" in html
    assert "3 done, 1 failed" in failed.job._repr_html_()


def test_failure_is_shown_although_map_ended_before_first_look(cloud):
    """The first question of the collector waits until Batch has ended the job."""
    session, has_ended = ck.LocalCloud(cloud.directory), threading.Event()
    knot = ck.Knot(name="first-look-late", func=inverse, cloud=session)

    def hold(**_):
        if threading.current_thread().name == "cloudknot-collector":
            has_ended.wait(LONG)

    session.door.client("batch").meta.events.register("before-call.batch.DescribeJobs", hold)
    future = knot.map([1, 0])
    try:
        until(lambda: future.job.status == "FAILED")
    finally:
        has_ended.set()
    assert isinstance(future.exception(LONG), ZeroDivisionError)
    assert "element 1 failed: ZeroDivisionError: division by zero" in future._repr_html_()
    # In another session, it is no news.
    later = ck.BatchJob(future.job.job_id, cloud=cloud).future()
    assert isinstance(later.exception(LONG), ZeroDivisionError)
    assert "element 1 failed" not in later._repr_html_()


def test_other_session_shows_job_with_one_request(cloud, failed, monkeypatch):
    # A repr does not wait long for an answer, and a busy machine may take longer.
    monkeypatch.setattr(glance, "WAIT", LONG)
    later = CountingCloud(cloud.directory)
    later.start()
    job = ck.BatchJob(failed.job.job_id, cloud=later)
    later.forget()
    assert repr(job) == f"<BatchJob {job.job_id} 4 jobs: 3 done, 1 failed>"
    assert later.calls == []  # Not by `Cloud.call`, which finds and reads runs.
    assert repr(ck.BatchJob("no-such-job", cloud=later)) == "<BatchJob no-such-job: not known to AWS Batch now>"
    assert repr(ck.BatchJob("unread")) == "<BatchJob unread: not read yet>"


def test_jobs_are_list_that_is_shown_as_table(cloud, failed, monkeypatch):
    monkeypatch.setattr(glance, "WAIT", LONG)
    for jobs in (
        ck.Knot(name=failed.job.keys.knot, cloud=cloud).jobs,
        ck.Knot(name=failed.job.keys.knot, cloud=ck.LocalCloud(cloud.directory)).jobs,
    ):
        assert isinstance(jobs, list)
        lines = str(jobs).splitlines()
        assert lines[0].split() == ["#", "Submitted", "Job", "ID", "State"]
        assert lines[-1].startswith(str(len(jobs) - 1))
        assert lines[-1].endswith(f"{failed.job.job_id}  FAILED, 1 of 4")
        assert max(map(len, lines)) <= 80
        assert f'<td style="text-align:left">{failed.job.job_id}</td>' in jobs._repr_html_()


def test_knots_are_list_that_is_shown_as_table(cloud):
    # The table has the last names only, and other tests may have made many knots.
    knot = ck.Knot(name="zz-listed", func=square, cloud=cloud)
    knots = ck.list_knots(cloud)
    assert knot.name in [info.name for info in knots]
    row = next(line for line in str(knots).splitlines() if line.startswith(f"{knot.name} "))
    assert "CREATE_COMPLETE" in row
    assert knot.name in knots._repr_html_()
    knot.clobber()


def test_knot_shows_its_state(cloud):
    knot = ck.Knot(name="first-look", func=square, cloud=cloud)
    assert repr(knot) == "<Knot first-look: ready on the embedded cloud, runs square>"
    assert "first-look-cloudknot-job-queue" in knot._repr_html_()
    assert repr(ck.Knot(name="first-look", cloud=cloud)) == "<Knot first-look: ready on the embedded cloud>"
    knot.clobber()
    assert repr(knot) == "<Knot first-look: clobbered>"
    assert repr(ck.Knot.__new__(ck.Knot)) == "<Knot>"


def test_empty_map_has_repr(process_knot_of):
    future = process_knot_of(square).map([])
    assert repr(future) == "<MapFuture 0 elements: nothing to do>"
    assert "nothing to do" in future._repr_html_()


def test_bars_of_two_maps_retry_and_reduce_have_different_names(cloud, monkeypatch):
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    knot = ck.Knot(name="bars", func=inverse, cloud=cloud)
    first, second = knot.map([1], progress=True), knot.map([0, 2], progress=True)
    first.result(LONG)
    second.exception(LONG)
    second.retry_failed(progress=True).exception(LONG)
    first.reduce(sum, progress=True).result(LONG)
    # The collector writes the last line of a map a moment after its end.
    for thread in [t for t in threading.enumerate() if t.name == "cloudknot-collector"]:
        thread.join(LONG)
    lines = [line for line in stderr.getvalue().splitlines() if line.startswith("bars")]
    assert "bars: 1/1" in lines
    assert "bars #2: element 0 failed: ZeroDivisionError: division by zero (1 of 2)" in lines
    assert "bars #2: 2/2, 1 failed" in lines
    assert "bars #2 retry: 2/2, 1 failed" in lines
    assert "bars reduce: 1/1" in lines


SCRIPT = """
import json, sys
import cloudknot as ck

def inverse(x):
    return 1 / x

cloud = ck.LocalCloud({directory!r})
knot = ck.Knot(name="piped", func=inverse, cloud=cloud)
future = knot.map([1, 0, 2])
try:
    future.result(60)
except ZeroDivisionError as error:
    print(json.dumps(error.__notes__))
"""


def test_script_with_piped_output_gets_lines_on_stderr_only(cloud, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(directory=str(cloud.directory)))
    run = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        check=True,
        timeout=LONG,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    notes = json.loads(run.stdout)
    assert notes[-1] == "1 of 3 elements failed."
    assert "piped: element 1 failed: ZeroDivisionError: division by zero (1 of 3)" in run.stderr.splitlines()
