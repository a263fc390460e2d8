"""The next session finishes or clobbers the resources of a killed one, on an embedded cloud of its own.

A session in another process ends itself before or after one of its AWS calls.
"""

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
    '''A cloud that ends its session before or after one of its calls.'''
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
    ("create_stack", 1, "before"),  # the Pars
    ("create_stack", 1, "after"),
    ("put_image", 1, "before"),  # the image of the environment
    ("put_image", 1, "after"),
    ("put_image", 2, "before"),
    ("put_image", 2, "after"),
    ("create_stack", 2, "before"),  # the knot
    ("create_stack", 2, "after"),
]
CLOBBERING = [
    ("delete_stack", 1, "after"),  # the knot
    ("deregister_job_definition", 1, "before"),
    ("batch_delete_image", 1, "before"),
    ("delete_stack", 2, "before"),  # the Pars
    ("delete_stack", 2, "after"),
]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    """Yield a cloud of this module alone: with images of other knots, a session would push nothing."""
    with ck.LocalCloud(tmp_path_factory.mktemp("interrupted"), vcpus=2, quota=1000) as cloud:
        yield cloud


@pytest.fixture
def run_session(cloud):
    """Return a function that runs a session in a process and ends it with a signal at one of its calls."""

    def run(operation, number, when, signal_number=signal.SIGKILL, *repository):
        arguments = [str(cloud.directory), operation, str(number), when, str(int(signal_number)), *repository]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", SESSION, *arguments]
        process = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=LONG)
        assert "not reached" not in process.stdout
        return process

    return run


def make_knot(cloud):
    return ck.Knot(name="killed", func=double, pars=ck.Pars("killed", cloud=cloud), memory=600, cloud=cloud)


def assert_next_session_recovers(cloud, inventory_before):
    """Make the knot, map, clobber everything, and compare the account with its state before."""
    knot = make_knot(cloud)
    assert knot.map([1, 2]).result() == [2, 4]
    knot.clobber(clobber_pars=True, clobber_image=True, clobber_results=True)
    assert inventory(cloud) == inventory_before


@pytest.mark.parametrize(("operation", "number", "when"), [*MAKING, *CLOBBERING])
def test_next_session_recovers_from_kill_at_call(cloud, inventory_before, run_session, operation, number, when):
    assert run_session(operation, number, when).returncode == -signal.SIGKILL
    assert_next_session_recovers(cloud, inventory_before)


def test_next_session_tags_instance_profile_of_unfinished_pars(cloud, inventory_before, run_session):
    def profile():
        name = Stack(cloud, "killed-cloudknot-pars").state().outputs["EcsInstanceProfile"].rpartition("/")[2]
        return cloud.call("iam", "get_instance_profile", InstanceProfileName=name)["InstanceProfile"]

    assert run_session("tag_instance_profile", 1, "before").returncode == -signal.SIGKILL
    assert not profile()["Tags"]
    pars = ck.Pars("killed", cloud=cloud)
    assert {tag["Key"]: tag["Value"] for tag in profile()["Tags"]}["Name"] == "killed"
    pars.clobber()
    assert inventory(cloud) == inventory_before


@pytest.mark.parametrize(
    ("operation", "when"),
    [("create_repository", "before"), ("create_repository", "after"), ("put_lifecycle_policy", "after")],
)
def test_next_session_sets_lifecycle_policy_of_unfinished_repository(
    cloud, inventory_before, run_session, operation, when
):
    assert run_session(operation, 1, when, signal.SIGKILL, "killed/images").returncode == -signal.SIGKILL
    pars = ck.Pars("killed", cloud=cloud)
    knot = ck.Knot(name="killed", func=double, pars=pars, memory=600, repo_name="killed/images", cloud=cloud)
    policy = cloud.call("ecr", "get_lifecycle_policy", repositoryName="killed/images")["lifecyclePolicyText"]
    assert json.loads(policy) == LIFECYCLE
    knot.clobber(clobber_pars=True, clobber_repo=True)
    assert inventory(cloud) == inventory_before


@pytest.mark.parametrize("when", ["before", "after"])
def test_next_session_recovers_from_kill_at_update(cloud, inventory_before, run_session, when):
    ck.Knot(name="killed", func=double, pars=ck.Pars("killed", cloud=cloud), memory=600, max_vcpus=4, cloud=cloud)
    assert run_session("update_stack", 1, when).returncode == -signal.SIGKILL
    assert_next_session_recovers(cloud, inventory_before)


def test_next_session_recovers_from_kill_after_new_revision(cloud, inventory_before, run_session):
    ck.Knot(name="killed", func=square, pars=ck.Pars("killed", cloud=cloud), memory=600, cloud=cloud)
    assert run_session("register_job_definition", 1, "after").returncode == -signal.SIGKILL
    assert_next_session_recovers(cloud, inventory_before)


def test_clobber_command_finishes_clobber_of_killed_session(cloud, inventory_before, run_session):
    assert run_session("delete_stack", 1, "after").returncode == -signal.SIGKILL
    command = [sys.executable, "-m", "cloudknot", "clobber", "killed", "--image", "--yes", "--cloud", "local"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CLOUDKNOT_LOCAL_DIR": str(cloud.directory)}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=LONG)
    ck.Pars("killed", cloud=cloud).clobber()
    until(lambda: inventory(cloud) == inventory_before)


@pytest.mark.parametrize(("operation", "number", "when"), [("create_stack", 1, "after"), ("create_stack", 2, "after")])
def test_ctrl_c_ends_session_and_next_session_recovers(cloud, inventory_before, run_session, operation, number, when):
    process = run_session(operation, number, when, signal.SIGINT)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in process.stderr
    assert_next_session_recovers(cloud, inventory_before)
