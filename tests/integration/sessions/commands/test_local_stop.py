"""`cloudknot local stop` and `delete` name the jobs and results that end with the cloud, and ask."""

from click.testing import CliRunner

import cloudknot as ck
from cloudknot.cli.main import main
from tests.helpers.functions import nap, square
from tests.helpers.waiting import LONG, until


def run(cloud, *words, answer=""):
    return CliRunner().invoke(main, ["local", words[0], "--directory", str(cloud.directory), *words[1:]], answer)


def test_stop_asks_before_it_ends_jobs(own_cloud):
    future = ck.Knot(name="naps", func=nap, cloud=own_cloud).map([600, 600])
    assert until(lambda: future.job.states.get("RUNNING") == 2)
    asked = run(own_cloud, "stop", answer="n\n")
    assert asked.exit_code == 1
    assert "will end. They are retried at the next start" in asked.stdout
    # Without a terminal and an answer, nothing ends either.
    assert run(own_cloud, "stop").exit_code == 1
    assert own_cloud.status() is not None
    assert "The embedded cloud has stopped." in run(own_cloud, "stop", answer="y\n").stdout
    assert own_cloud.status() is None


def test_stop_keeps_results_and_asks_nothing(own_cloud):
    knot = ck.Knot(name="squares", func=square, cloud=own_cloud)
    future = knot.map([3])
    assert future.result(LONG) == [9]
    # Batch reports the end of the job a moment after its last result.
    until(lambda: future.job.status == "SUCCEEDED")
    stopped = run(own_cloud, "stop").stdout
    assert "Its knots, results and installed packages are kept." in stopped
    assert f"cloudknot local start --directory {own_cloud.directory}" in stopped
    assert "was not running" in run(own_cloud, "stop").stdout
    own_cloud.start()
    assert knot.jobs[-1].result() == [9]


def test_delete_names_losses_and_asks(own_cloud):
    knot = ck.Knot(name="squares", func=square, cloud=own_cloud)
    for _ in range(2):
        assert knot.map([3]).result(LONG) == [9]
    (own_cloud.directory / "notes.txt").touch()
    asked = run(own_cloud, "delete", answer="n\n")
    assert asked.exit_code == 1
    assert "The results of 2 maps of the knot squares will be deleted." in asked.stdout
    assert run(own_cloud, "delete").exit_code == 1
    assert knot.jobs[-1].result() == [9]
    assert "is deleted" in run(own_cloud, "delete", "--yes").stdout
    # A file of the user's own stays.
    assert [path.name for path in own_cloud.directory.iterdir()] == ["notes.txt"]
    (own_cloud.directory / "notes.txt").unlink()
    with ck.LocalCloud(own_cloud.directory) as new:
        assert ck.list_knots(cloud=new) == []


def test_status_shows_disk_and_memory(own_cloud):
    ck.Knot(name="squares", func=square, cloud=own_cloud).map([3]).result(LONG)
    shown = run(own_cloud, "status").stdout
    objects = len(list(own_cloud.storage.keys("")))
    assert f" ({objects} objects), logs " in shown
    assert f"in {own_cloud.directory}" in shown
    assert "Memory: server " in shown
    own_cloud.stop()
    shown = run(own_cloud, "status")
    assert shown.exit_code == 1
    assert f" ({objects} objects), logs " in shown.stdout
    assert "Memory" not in shown.stdout
