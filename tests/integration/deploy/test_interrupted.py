"""A session that is killed, or interrupted, at calls that matter: running again finishes or cleans up what it left."""

import json
import os
import signal
import subprocess
import sys

import pytest

import cloudknot as ck
from cloudknot.aws.images.ecr import LIFECYCLE
from cloudknot.deploy.cloudformation.stack import Stack
from tests.helpers.functions import double, square
from tests.helpers.inventory import inventory
from tests.helpers.paths import ROOT
from tests.helpers.waiting import LONG, until

SESSION = """
import os, signal, sys, threading
import cloudknot as ck
from tests.helpers.functions import double

DIRECTORY, OPERATION, NUMBER, WHEN, SIGNAL, *REPOSITORY = sys.argv[1:]
CHOICES = {"repo_name": REPOSITORY[0]} if REPOSITORY else {}
if OPERATION == "update_stack":
    CHOICES["max_vcpus"] = 8

class Ending(ck.LocalCloud):
    '''A cloud whose user is gone before, or after, one of its calls.'''
    calls = 0

    def call(self, service, operation, **arguments):
        if operation != OPERATION:
            return super().call(service, operation, **arguments)
        Ending.calls += 1
        if Ending.calls == int(NUMBER) and WHEN == "before":
            self.end()
        answer = super().call(service, operation, **arguments)
        if Ending.calls == int(NUMBER) and WHEN == "after":
            self.end()
        return answer

    def end(self):
        os.kill(os.getpid(), int(SIGNAL))
        threading.Event().wait(60)

cloud = Ending(DIRECTORY)
knot = ck.Knot(name="killed", func=double, pars=ck.Pars("killed", cloud=cloud), memory=600, cloud=cloud, **CHOICES)
knot.clobber(clobber_pars=True, clobber_image=True, clobber_results=True)
print("not reached")
"""

MAKING = [
    ("create_stack", 1, "before"),  # of the Pars
    ("create_stack", 1, "after"),
    ("put_image", 1, "before"),  # of the environment
    ("put_image", 1, "after"),
    ("put_image", 2, "before"),
    ("put_image", 2, "after"),
    ("create_stack", 2, "before"),  # of the knot
    ("create_stack", 2, "after"),
]
CLOBBERING = [
    ("delete_stack", 1, "after"),
    ("deregister_job_definition", 1, "before"),
    ("batch_delete_image", 1, "before"),
    ("delete_stack", 2, "before"),
    ("delete_stack", 2, "after"),
]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    """A cloud in which no other knot's images stand in for those that are to be pushed."""
    with ck.LocalCloud(tmp_path_factory.mktemp("interrupted"), vcpus=2, quota=1000) as cloud:
        yield cloud


@pytest.fixture
def session(cloud):
    """A session in a process of its own, ended at a call; gives its return code."""

    def run(operation, number, when, number_of_signal=signal.SIGKILL, *repository):
        arguments = [str(cloud.directory), operation, str(number), when, str(int(number_of_signal)), *repository]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", SESSION, *arguments]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=LONG)
        assert "not reached" not in done.stdout
        return done

    return run


def make(cloud):
    return ck.Knot(name="killed", func=double, pars=ck.Pars("killed", cloud=cloud), memory=600, cloud=cloud)


def is_left_as_it_was(cloud, before):
    knot = make(cloud)
    assert knot.map([1, 2]).result() == [2, 4]
    knot.clobber(clobber_pars=True, clobber_image=True, clobber_results=True)
    assert inventory(cloud) == before


@pytest.mark.parametrize(("operation", "number", "when"), [*MAKING, *CLOBBERING])
def test_a_session_killed_there_is_made_good_by_the_next(cloud, before, session, operation, number, when):
    assert session(operation, number, when).returncode == -signal.SIGKILL
    is_left_as_it_was(cloud, before)


def test_a_pars_that_was_half_made_gets_the_tags_of_its_instance_profile(cloud, before, session):
    def profile():
        name = Stack(cloud, "killed-cloudknot-pars").state().outputs["EcsInstanceProfile"].rpartition("/")[2]
        return cloud.call("iam", "get_instance_profile", InstanceProfileName=name)["InstanceProfile"]

    assert session("tag_instance_profile", 1, "before").returncode == -signal.SIGKILL
    assert not profile()["Tags"]
    pars = ck.Pars("killed", cloud=cloud)
    assert {tag["Key"]: tag["Value"] for tag in profile()["Tags"]}["Name"] == "killed"
    pars.clobber()
    assert inventory(cloud) == before


@pytest.mark.parametrize(
    ("operation", "when"),
    [("create_repository", "before"), ("create_repository", "after"), ("put_lifecycle_policy", "after")],
)
def test_a_repository_that_was_half_made_is_finished(cloud, before, session, operation, when):
    assert session(operation, 1, when, signal.SIGKILL, "killed/images").returncode == -signal.SIGKILL
    pars = ck.Pars("killed", cloud=cloud)
    knot = ck.Knot(name="killed", func=double, pars=pars, memory=600, repo_name="killed/images", cloud=cloud)
    policy = cloud.call("ecr", "get_lifecycle_policy", repositoryName="killed/images")["lifecyclePolicyText"]
    assert json.loads(policy) == LIFECYCLE
    knot.clobber(clobber_pars=True, clobber_repo=True)
    assert inventory(cloud) == before


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_session_killed_at_an_update_is_made_good_by_the_next(cloud, before, session, when):
    ck.Knot(name="killed", func=double, pars=ck.Pars("killed", cloud=cloud), memory=600, max_vcpus=4, cloud=cloud)
    assert session("update_stack", 1, when).returncode == -signal.SIGKILL
    is_left_as_it_was(cloud, before)


def test_a_session_killed_behind_its_new_revision_is_made_good_by_the_next(cloud, before, session):
    ck.Knot(name="killed", func=square, pars=ck.Pars("killed", cloud=cloud), memory=600, cloud=cloud)
    assert session("register_job_definition", 1, "after").returncode == -signal.SIGKILL
    is_left_as_it_was(cloud, before)


def test_a_session_that_was_killed_while_it_clobbered_is_finished_from_a_shell(cloud, before, session):
    assert session("delete_stack", 1, "after").returncode == -signal.SIGKILL
    command = [sys.executable, "-m", "cloudknot", "clobber", "killed", "--image", "--yes", "--cloud", "local"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CLOUDKNOT_LOCAL_DIR": str(cloud.directory)}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=LONG)
    ck.Pars("killed", cloud=cloud).clobber()
    until(lambda: inventory(cloud) == before)


@pytest.mark.parametrize(("operation", "number", "when"), [("create_stack", 1, "after"), ("create_stack", 2, "after")])
def test_ctrl_c_ends_it_at_once_and_the_next_goes_on(cloud, before, session, operation, number, when):
    done = session(operation, number, when, signal.SIGINT)
    assert done.returncode != 0
    assert "KeyboardInterrupt" in done.stderr
    is_left_as_it_was(cloud, before)
