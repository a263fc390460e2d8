"""The check of an account runs whole on the embedded cloud, and removes everything at any end."""

import getpass
import json
import os
import signal
import time
from copy import copy

import pytest
from click.testing import CliRunner

import cloudknot as ck
from cloudknot.cli.main import main
from cloudknot.cli.selftest.check import LOOKS, PAUSE, Check
from cloudknot.cli.selftest.plan import Plan
from cloudknot.cli.selftest.report import FAILED, INTERRUPTED, PASSED, SKIPPED
from cloudknot.cli.selftest.second_session import CloudChoice
from cloudknot.errors import CloudError, PermissionDeniedError
from tests.helpers.functions import square
from tests.helpers.inventory import inventory
from tests.helpers.waiting import until

STEPS = 14


class Meddling(ck.LocalCloud):
    """A cloud that acts before or after the n-th call of one operation."""

    def __init__(self, directory, operation, number, act, when="before"):
        super().__init__(directory)
        self._operation, self._number, self._act, self._when, self._calls = operation, number, act, when, 0

    def call(self, service, operation, **arguments):
        is_it = False
        if operation == self._operation:
            self._calls += 1
            is_it = self._number in (self._calls, "all")
        if is_it and self._when == "before":
            self._act()
        answer = super().call(service, operation, **arguments)
        if is_it and self._when == "after":
            self._act()
        return answer

    def pages(self, service, operation, **arguments):
        if operation == self._operation:
            self._act()
        return super().pages(service, operation, **arguments)


def press_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


def fail():
    raise CloudError("AWS has a bad day.")


def deny():
    raise PermissionDeniedError("You may not do this.")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    """Yield a cloud of this module alone: other tests would change the inventory."""
    with ck.LocalCloud(tmp_path_factory.mktemp("selftest"), vcpus=2) as cloud:
        yield cloud


@pytest.fixture
def command(cloud, monkeypatch, tmp_path):
    """Return a function that runs the command on the cloud, in an empty directory."""
    monkeypatch.setenv("CLOUDKNOT_LOCAL_DIR", str(cloud.directory))
    monkeypatch.setenv("CLOUDKNOT_CLOUD", "local")
    monkeypatch.chdir(tmp_path)
    return lambda *arguments, **choices: CliRunner().invoke(main, ["selftest", *arguments], **choices)


def brief(seconds):
    """Wait, so that a job can end and its lines arrive, but not as long as on AWS."""
    time.sleep(min(seconds, 1))


@pytest.fixture
def check(cloud, monkeypatch):
    """Return a function that runs a check with something that happens at one call, and returns it with its lines."""
    monkeypatch.setenv("CLOUDKNOT_LOCAL_DIR", str(cloud.directory))

    def run(operation="", number=0, act=None, when="before", sleep=brief, title=""):
        lines, reports = [], []

        def say(line):
            lines.append(line)
            if line == f"{title} ...":
                press_ctrl_c()

        def save(report):
            # A copy: a killed check leaves the last saved state.
            reports.append(copy(report))

        meddling = Meddling(cloud.directory, operation, number, act, when)
        done = Check(meddling, CloudChoice("local"), say, save, "1.0", Plan(), sleep)
        try:
            done.run()
        except KeyboardInterrupt:
            lines.append("KeyboardInterrupt")
        assert reports[-1] == done.report
        return done, lines

    return run


def resources(cloud):
    """Return the inventory without the roles that AWS makes at the first use of Batch and of Spot, and keeps."""
    found = inventory(cloud)
    return {**found, "roles": [name for name in found["roles"] if not name.startswith("AWSServiceRoleFor")]}


def results(report):
    return [step.result for step in report.steps]


def test_check_passes_whole_and_leaves_nothing(own_cloud, command, tmp_path, monkeypatch):
    # Other tests of this module leave a bucket in their cloud.
    cloud = own_cloud
    monkeypatch.setenv("CLOUDKNOT_LOCAL_DIR", str(cloud.directory))
    before = resources(cloud)
    assert before["buckets"] == []
    done = command("--yes", "--output", "report.json")
    assert done.exit_code == 0, done.output
    assert resources(cloud) == before
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["ok"]
    assert [step["result"] for step in report["steps"]] == [PASSED] * STEPS
    assert report["region"] == cloud.region
    assert report["versions"]["cloudknot"] == ck.__version__
    assert (report["first_error"], report["left"]) == ("", [])
    assert [(row["kind"], row["left"]) for row in report["inventory"] if row["left"] or row["before"] < 0] == []
    attempts = next(step["detail"] for step in report["steps"] if "Spot, with an attempt" in step["title"])
    assert attempts == "4 elements, 5 attempts"


def test_check_asks_first_with_its_cost_and_makes_nothing(cloud, command, tmp_path):
    before = resources(cloud)
    done = command(input="n\n")
    assert done.exit_code == 1
    assert "at most $0." in done.output
    assert cloud.account in done.output
    assert resources(cloud) == before
    assert list(tmp_path.iterdir()) == []


def test_report_that_cannot_be_written_is_an_error_before_anything_is_made(cloud, command, tmp_path):
    before = resources(cloud)
    done = command("--yes", "--output", str(tmp_path / "missing" / "report.md"))
    assert done.exit_code == 1
    assert "--output" in done.output
    assert resources(cloud) == before


def test_failed_step_skips_its_followers_only_and_check_leaves_others_resources_alone(cloud, check):
    neighbour = ck.Knot("neighbour", func=square, cloud=cloud)
    future = neighbour.map([3])
    assert future.result() == [9]
    # Batch reports the end of the job a moment after its last result.
    until(lambda: future.job.status == "SUCCEEDED")
    before = resources(cloud)
    done, _ = check("create_stack", 2, fail)
    # The knot on Fargate fails, and all steps with it. The knot on Spot goes on.
    assert results(done.report) == [PASSED] * 3 + [FAILED] + [SKIPPED] * 6 + [PASSED] * 4
    assert "AWS has a bad day." in done.report.first_error
    assert done.report.steps[3].detail == "CloudError: AWS has a bad day."
    assert done.report.first_error.startswith("Traceback")
    assert not done.report.ok
    assert resources(cloud) == before
    assert neighbour.map([4]).result() == [16]
    neighbour.clobber(clobber_pars=True, clobber_repo=True, clobber_results=True)


@pytest.mark.parametrize(
    ("operation", "number", "when"),
    [
        ("create_stack", 1, "after"),  # the Pars
        pytest.param("put_image", 1, "before", marks=pytest.mark.large),
        ("create_stack", 2, "after"),  # the knot on Fargate
        pytest.param("create_stack", 3, "before", marks=pytest.mark.large),  # the knot on Spot
    ],
)
def test_ctrl_c_while_resources_are_made_removes_them(cloud, check, operation, number, when):
    before = resources(cloud)
    done, lines = check(operation, number, press_ctrl_c, when)
    assert done.report.interrupted
    assert INTERRUPTED in results(done.report)
    assert results(done.report)[-2:] == [PASSED, PASSED]
    assert "KeyboardInterrupt" not in lines
    assert resources(cloud) == before


@pytest.mark.parametrize(
    "title",
    [
        "map on Fargate",
        pytest.param("fail on purpose", marks=pytest.mark.large),
        pytest.param("retry", marks=pytest.mark.large),
        pytest.param("reduce", marks=pytest.mark.large),
        pytest.param("read the logs", marks=pytest.mark.large),
        pytest.param("attach from a second process", marks=pytest.mark.large),
        pytest.param("make a knot on Spot", marks=pytest.mark.large),
        pytest.param("map on Spot, with an attempt that fails", marks=pytest.mark.large),
    ],
)
def test_ctrl_c_in_step_removes_everything(cloud, check, title):
    before = resources(cloud)
    done, lines = check(title=title)
    assert done.report.interrupted
    assert INTERRUPTED in results(done.report)
    assert results(done.report)[-2:] == [PASSED, PASSED]
    assert "KeyboardInterrupt" not in lines
    assert resources(cloud) == before


def test_ctrl_c_before_anything_is_made_is_in_the_saved_report(cloud, check):
    done, lines = check(title="count the resources")
    assert done.report.interrupted
    assert results(done.report) == [PASSED, INTERRUPTED] + [SKIPPED] * (STEPS - 4)
    assert lines[-1] == "Interrupted. Nothing was made."


def test_ctrl_c_during_removal_removes_the_rest(cloud, check):
    before = resources(cloud)
    done, lines = check("delete_stack", "all", press_ctrl_c)
    # Once for each stack: the third one ends the removal, and the commands that finish it are shown.
    assert lines[-1] == "KeyboardInterrupt"
    assert "cloudknot clobber" in lines[-2]
    assert done.plan.spot in lines[-2]
    # A new session finishes it by the names alone.
    finisher = Check(cloud, CloudChoice("local"), lines.append, lambda report: None, "1.0", done.plan)
    finisher._before = done._before
    assert finisher._do("remove everything", finisher._remove)
    assert resources(cloud) == before


def test_listings_that_are_denied_are_reported_and_no_failure(cloud, check):
    done, _ = check("describe_volumes", 1, deny)
    assert done.report.ok
    (row,) = [row for row in done.report.inventory if row.before < 0]
    assert row.kind == "volumes"
    assert "not readable: volumes" in [step.detail for step in done.report.steps]


def test_resources_that_cannot_be_deleted_are_named(cloud, check):
    pauses, refused = [], []

    def refuse():
        if not refused:
            # Those of earlier steps, which wait for logs and for Batch.
            pauses.clear()
        refused.append("delete_repository")
        fail()

    done, _ = check("delete_repository", "all", refuse, sleep=pauses.append)
    assert pauses == [PAUSE] * (LOOKS - 1)
    assert done.report.left
    assert all(done.plan.token in name or name.startswith("images of the check") for name in done.report.left)
    assert not done.report.ok
    cloud.repository(done.plan.repository).clobber()


def test_markdown_report_identifies_nobody(cloud, command, tmp_path):
    done = command("--yes")
    assert done.exit_code == 0, done.output
    (file,) = tmp_path.glob("cloudknot-selftest-*.md")
    text = file.read_text()
    assert "# cloudknot selftest: passed" in text
    assert "| map on Fargate | passed |" in text
    assert cloud.account not in text
    assert str(tmp_path) not in text
    if getpass.getuser() != "root":
        assert getpass.getuser() not in text
