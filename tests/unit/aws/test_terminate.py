"""`batch.terminate` ends jobs in as few calls as possible. A fake door answers as Batch."""

import pytest

from cloudknot.aws import batch
from cloudknot.errors import PermissionDeniedError


class Door:
    """A fake Batch with one array job ``p``.

    Parameters
    ----------
    children : int
    ends_children : bool
        Whether ending ``p`` ends its children. AWS documents neither.
    bulk : bool
        Whether boto3 has TerminateJobs.
    allowed : bool
        Whether IAM allows TerminateJobs.
    """

    def __init__(self, children=0, *, ends_children=True, bulk=True, allowed=True):
        self.children = {f"p:{number}": False for number in range(children)}
        self.ends_children, self.allowed = ends_children, allowed
        self.calls = []
        self._client = type("Client", (), {"terminate_jobs": None} if bulk else {})()

    def client(self, service):
        return self._client

    def call(self, service, operation, **arguments):
        self.calls.append(operation)
        return getattr(self, operation)(**arguments)

    def pages(self, service, operation, **arguments):
        self.calls.append(operation)
        running = [{"jobId": job_id} for job_id in self.children] if arguments["jobStatus"] == "RUNNING" else []
        yield {"jobSummaryList": running}

    def describe_jobs(self, jobs):
        return {
            "jobs": [{"jobId": job_id, "status": "RUNNING", "isTerminated": self.children[job_id]} for job_id in jobs]
        }

    def terminate_job(self, jobId, reason):  # noqa: N803
        for job_id in self.children:
            if job_id == jobId or (jobId == "p" and self.ends_children):
                self.children[job_id] = True
        return {}

    def terminate_jobs(self, jobs, reason):
        if not self.allowed:
            raise PermissionDeniedError("no")
        for job_id in jobs:
            self.terminate_job(job_id, reason)
        return {"successful": jobs, "errors": []}


def terminate(door, jobs=({"jobId": "p", "arrayProperties": {"size": 2}},)):
    """End jobs, and return the numbers of single and of bulk calls."""
    batch.terminate(door, list(jobs), "enough", sleep=lambda _: None)
    return door.calls.count("terminate_job"), door.calls.count("terminate_jobs")


def test_terminate_makes_one_call_if_children_end_with_their_parent():
    door = Door(10_000)
    assert terminate(door) == (1, 0)
    # The call itself, ListJobs for each of three states, and DescribeJobs for the children found.
    assert len(door.calls) == 5


@pytest.mark.parametrize(
    ("bulk", "allowed", "calls"),
    [(True, True, (1, 3)), (False, True, (121, 0)), (True, False, (121, 1))],
    ids=["bulk call", "old boto3", "bulk call denied"],
)
def test_terminate_ends_surviving_children_fifty_per_call_or_one_by_one(bulk, allowed, calls):
    door = Door(120, ends_children=False, bulk=bulk, allowed=allowed)
    assert terminate(door) == calls
    assert all(door.children.values())


def test_terminate_ends_independent_jobs_fifty_per_call():
    assert terminate(Door(), [{"jobId": f"j{number}"} for number in range(101)]) == (0, 3)


def test_terminate_repeats_refused_jobs_one_by_one():
    door = Door()
    door.terminate_jobs = lambda jobs, reason: {"successful": jobs[1:], "errors": [{"job": jobs[0]}]}
    assert terminate(door, [{"jobId": "a"}, {"jobId": "b"}]) == (1, 1)
