"""`cloudknot local stop` names the jobs and results that end with the cloud, and asks."""

from click.testing import CliRunner

import cloudknot as ck
from cloudknot.cli.main import main
from tests.helpers.functions import nap, square
from tests.helpers.waiting import LONG, until


def test_stop_asks_before_it_ends_jobs_and_deletes_results(own_cloud):
    def stop(*words, answer=""):
        return CliRunner().invoke(main, ["local", "stop", "--directory", str(own_cloud.directory), *words], answer)

    knot = ck.Knot(name="squares", func=square, cloud=own_cloud)
    for _ in range(2):
        assert knot.map([3]).result(LONG) == [9]
    future = ck.Knot(name="naps", func=nap, cloud=own_cloud).map([600, 600])
    assert until(lambda: future.job.states.get("RUNNING") == 2)
    asked = stop(answer="n\n")
    assert asked.exit_code == 1
    losses = asked.stdout.splitlines()[:3]
    assert losses[1:] == [
        "The results of 1 map of the knot naps will be deleted.",
        "The results of 2 maps of the knot squares will be deleted.",
    ]
    assert losses[0].endswith(" will end.")
    # Without a terminal and an answer, nothing is deleted either.
    assert stop().exit_code == 1
    assert own_cloud.status() is not None
    assert "The embedded cloud has stopped." in stop(answer="y\n").stdout
    assert own_cloud.status() is None
    # Nothing is lost, so nothing is asked.
    assert "was not running" in stop().stdout
    own_cloud.start()
    assert "The embedded cloud has stopped." in stop().stdout
