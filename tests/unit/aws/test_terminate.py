"""Ending jobs: as few calls as Batch needs, and one by one only where nothing else works."""

import pytest

from cloudknot.aws import batch
from cloudknot.errors import PermissionDeniedError


class Door:
    """Batch as far as ending jobs goes: a parent's children end with it, or only when they are ended themselves."""

    def __init__(self, children=0, *, reaches=True, bulk=True, allowed=True):
        self.children = {f"p:{number}": False for number in range(children)}
        self.reaches, self.allowed = reaches, allowed
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
            if job_id == jobId or (jobId == "p" and self.reaches):
                self.children[job_id] = True
        return {}

    def terminate_jobs(self, jobs, reason):
        if not self.allowed:
            raise PermissionDeniedError("no")
        for job_id in jobs:
            self.terminate_job(job_id, reason)
        return {"successful": jobs, "errors": []}


def end(door, jobs=({"jobId": "p", "arrayProperties": {"size": 2}},)):
    batch.terminate(door, list(jobs), "enough", sleep=lambda _: None)
    return door.calls.count("terminate_job"), door.calls.count("terminate_jobs")


def test_children_that_end_with_their_parent_cost_one_call_and_a_look():
    door = Door(10_000)
    assert end(door) == (1, 0)
    assert len(door.calls) == 5


@pytest.mark.parametrize(
    ("bulk", "allowed", "calls"), [(True, True, (1, 3)), (False, True, (121, 0)), (True, False, (121, 1))]
)
def test_children_that_do_not_are_ended_by_fifties_or_one_by_one(bulk, allowed, calls):
    door = Door(120, reaches=False, bulk=bulk, allowed=allowed)
    assert end(door) == calls
    assert all(door.children.values())


def test_independent_jobs_are_ended_by_fifties():
    assert end(Door(), [{"jobId": f"j{number}"} for number in range(101)]) == (0, 3)


def test_what_the_bulk_call_refuses_is_ended_by_itself():
    door = Door()
    door.terminate_jobs = lambda jobs, reason: {"successful": jobs[1:], "errors": [{"job": jobs[0]}]}
    assert end(door, [{"jobId": "a"}, {"jobId": "b"}]) == (1, 1)
