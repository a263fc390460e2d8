"""A map after the end of its server: its lost children run again, and finished elements do not."""

import os
import time

import cloudknot as ck
from tests.helpers.waiting import LONG, until


def name_once_there(path):
    while not os.path.exists(path):
        time.sleep(0.02)
    return os.path.basename(path)


def test_lost_children_run_again_also_without_retries_and_finished_ones_do_not(own_cloud, killed, tmp_path):
    # The retries of a knot are for failures of its function. Those of lost machines are cloudknot's own.
    paths = ["/bin", str(tmp_path / "later"), "/etc"]
    future = ck.Knot(name="once", func=name_once_there, cloud=own_cloud, retries=1).map(paths, chunksize=1)
    ids = [f"{future.job.job_id}:{index}" for index in range(3)]

    def children():
        found = own_cloud.call("batch", "describe_jobs", jobs=ids)["jobs"]
        return sorted(found, key=lambda child: child["arrayProperties"]["index"])

    # A result is there before its child has ended. A child that is lost in between runs again.
    until(lambda: [child["status"] for child in children()] == ["SUCCEEDED", "RUNNING", "SUCCEEDED"], LONG)
    killed(own_cloud)
    (tmp_path / "later").touch()
    assert future.result(LONG) == ["bin", "later", "etc"]
    until(lambda: [len(child["attempts"]) for child in children()] == [1, 2, 1])
    assert children()[1]["attempts"][0]["statusReason"].startswith("Host EC2 (instance i-")
