"""A map after the end of its server: its lost children run again, and finished elements do not."""

import cloudknot as ck
from tests.helpers.functions import nap
from tests.helpers.waiting import LONG, until


def test_lost_children_run_again_also_without_retries_and_finished_ones_do_not(own_cloud, killed):
    # The retries of a knot are for failures of its function. Those of lost machines are cloudknot's own.
    future = ck.Knot(name="once", func=nap, cloud=own_cloud, retries=1).map([0.0, 20.0, 0.0], chunksize=1)
    until(lambda: sum(element.done() for element in future) == 2, LONG)
    killed(own_cloud)
    assert future.result(LONG) == [0.0, 20.0, 0.0]
    (array,) = future.job._view.describe_jobs()
    ids = [f"{array['jobId']}:{index}" for index in range(3)]
    children = own_cloud.call("batch", "describe_jobs", jobs=ids)["jobs"]
    assert [len(child["attempts"]) for child in children] == [1, 2, 1]
    assert children[1]["attempts"][0]["statusReason"].startswith("Host EC2 (instance i-")
