"""A repr asks Batch at most one bounded question, and none of a cloud that is silent or ended."""

import threading
from types import SimpleNamespace

import pytest

from cloudknot.run.jobs import glance
from cloudknot.run.jobs.glance import Glance
from tests.helpers.waiting import LONG, until


@pytest.fixture(autouse=True)
def slow_machine(monkeypatch):
    """Let an answer take its time, and count for all of a test."""
    monkeypatch.setattr(glance, "WAIT", LONG)
    monkeypatch.setattr(glance, "FRESH", LONG)


class FakeCloud:
    """A cloud whose Batch answers when ``open`` is set, and counts the requests."""

    patience = 30.0

    def __init__(self):
        self.open, self.requests = threading.Event(), []
        self.door = self
        self.open.set()

    def call(self, service, operation, **arguments):
        self.requests.append((operation, arguments))
        self.open.wait()
        return {"jobs": [{"jobId": job_id, "status": "RUNNING"} for job_id in arguments["jobs"]]}


def test_answer_is_used_again_for_a_while(monkeypatch):
    cloud, look = FakeCloud(), Glance()
    for _ in range(10):
        assert list(look.look(cloud, ["a", "b"])) == ["a", "b"]
    assert len(cloud.requests) == 1
    monkeypatch.setattr(glance, "FRESH", 0.0)
    look = Glance()
    look.look(cloud, ["a"])
    look.look(cloud, ["a"])
    assert len(cloud.requests) == 3


def test_silent_cloud_is_asked_once_and_its_late_answer_is_used(monkeypatch):
    monkeypatch.setattr(glance, "WAIT", 0.01)
    cloud, look = FakeCloud(), Glance()
    cloud.open.clear()
    assert [look.look(cloud, ["a"]) for _ in range(5)] == [{}] * 5
    until(lambda: cloud.requests)
    cloud.open.set()
    assert list(until(lambda: look.jobs)) == ["a"]
    assert len(cloud.requests) == 1


def test_ended_embedded_cloud_and_error_give_no_answer():
    cloud = FakeCloud()
    cloud.patience = 0.0
    assert Glance().look(cloud, ["a"]) == {}
    assert cloud.requests == []
    assert Glance().look(SimpleNamespace(patience=1.0), ["a"]) == {}


def test_glance_asks_for_a_hundred_jobs_at_most():
    cloud = FakeCloud()
    Glance().look(cloud, [str(number) for number in range(1000)])
    assert [len(arguments["jobs"]) for _, arguments in cloud.requests] == [100]
