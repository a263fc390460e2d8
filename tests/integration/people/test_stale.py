"""An object of a knot, Pars or repository that somebody has made anew leaves the new one alone."""

import contextlib
import logging
import os
import subprocess
import sys

import pytest

import cloudknot as ck
from tests.helpers.functions import cube, square
from tests.helpers.paths import ROOT
from tests.helpers.waiting import LONG, until
from tests.integration.people.conftest import Meddled, work

EVERYTHING = {"clobber_pars": True, "clobber_repo": True, "clobber_image": True, "clobber_results": True}


@pytest.fixture
def knot(lab, request):
    """Yield a knot that the test may clobber and make anew, with a Pars of its own."""
    name = request.node.originalname.removeprefix("test_").replace("_", "-")[:40].rstrip("-")
    yield lab.knot(name, pars=ck.Pars(name, cloud=lab.owner))
    ck.Knot(name=name, func=work, cloud=lab.owner).clobber(clobber_results=True)


def anew(lab, knot):
    """Clobber a knot in a session of somebody else, make it anew, and return the future of a running job in it."""
    ck.Knot(name=knot.name, cloud=lab.person("create")).clobber()
    return lab.running(lab.knot(knot.name))


def assert_unharmed(future):
    """Check that a knot exists, that its job goes on, and that it runs another one."""
    assert future.job.status == "RUNNING"
    assert not future.job._view.live_jobs()[0].get("isTerminated")
    assert ck.Knot(name=future.job.manifest.knot, cloud=future.job._cloud).map([4]).result(LONG) == [0.25]


@pytest.mark.parametrize("extras", [pytest.param({}, marks=pytest.mark.more), EVERYTHING], ids=["plain", "everything"])
def test_stale_knot_is_not_clobbered(lab, knot, extras):
    finished = knot.map([2])
    assert finished.result(LONG) == [0.5]
    new = anew(lab, knot)
    with pytest.raises(ck.ResourceClobberedException, match=r"was left unchanged\. To clobber it, run Knot\(name='"):
        knot.clobber(**extras)
    assert not knot.clobbered
    assert_unharmed(new)
    assert finished.job.result(LONG) == [0.5]


@pytest.mark.parametrize(
    ("operation", "after"),
    [
        pytest.param("describe_stacks", True, marks=pytest.mark.more),
        pytest.param("list_jobs", False, marks=pytest.mark.more),
        pytest.param("describe_job_definitions", False, marks=pytest.mark.more),
        ("delete_stack", False),
    ],
)
def test_knot_made_anew_during_clobber_is_unharmed(lab, knot, operation, after):
    """Each moment of the call: before its reads, between them, and right before the deletion."""
    made = []
    session = Meddled(lab.owner.directory, operation, lambda: made.append(anew(lab, knot)), after)
    stale = ck.Knot(name=knot.name, cloud=ck.LocalCloud(lab.owner.directory))
    stale._cloud = session
    # After its last look, the call finds its own stack deleted already, and succeeds.
    refused = (ck.ResourceClobberedException, ck.CannotDeleteResourceException)
    with (
        contextlib.nullcontext() if operation == "delete_stack" else pytest.raises(refused, match=r"unchanged|nothing")
    ):
        stale.clobber(clobber_results=True)
    (new,) = made
    assert_unharmed(new)
    assert list(lab.owner.storage.keys(new.job.keys.prefix))


@pytest.mark.more
def test_results_of_knot_made_anew_are_kept(lab, knot):
    """Clobber deletes results after the stack. A new knot of the same name may have some by then."""
    old = knot.map([2])
    assert old.result(LONG) == [0.5]
    made = []

    def make():
        new = lab.knot(knot.name).map([4], kwargs={})
        assert new.result(LONG) == [0.25]
        made.append(new)

    # Old revisions are deregistered when the stack is gone, and before the results.
    knot._cloud = Meddled(lab.owner.directory, "deregister_job_definition", make, after=True)
    # The first call is the check of rights, with a revision that does not exist.
    knot._cloud._acts.append(lambda: None)
    knot.clobber(clobber_results=True)
    (new,) = made
    assert new.job.result(LONG) == [0.25]
    assert [run.job_id for run in ck.Knot(name=knot.name, cloud=lab.owner).jobs] == [new.job.job_id]
    assert not list(lab.owner.storage.keys(old.job.keys.prefix))


@pytest.mark.more
def test_confirmed_command_does_not_clobber_newer_knot(lab, knot):
    """A person looks at the list for a while before the answer "y"."""
    command = [sys.executable, "-m", "cloudknot", "clobber", knot.name, "--results"]
    environment = {**os.environ, **lab.owner.environment(), "PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        shown = b""
        while not shown.endswith(b"[y/N]: ") and (letter := process.stdout.read(1)):
            shown += letter
        new = anew(lab, knot)
        answer, _ = process.communicate(b"y\n", timeout=LONG)
    assert b"To delete" in shown
    assert process.returncode == 1
    assert b"left unchanged" in answer
    assert b"Traceback" not in answer
    assert_unharmed(new)


@pytest.mark.more
def test_stale_map_and_retry_submit_nothing(lab, knot):
    failed = knot.map([0])
    assert isinstance(failed.exception(LONG), ZeroDivisionError)
    new = anew(lab, knot)
    before = lab.snapshot()
    for act in (
        lambda: knot.map([1]),
        failed.job.retry_failed,
        ck.BatchJob(failed.job.job_id, cloud=lab.owner).retry_failed,
    ):
        with pytest.raises(ck.ResourceDoesNotExistException, match=r"Knot\(name='.*'\) connects to it"):
            act()
    assert lab.snapshot() == before
    failed.job.terminate("too late")
    failed.job.clobber()
    assert_unharmed(new)
    assert not list(lab.owner.storage.keys(failed.job.keys.prefix))


def test_stale_pars_leaves_newer_one_unchanged(lab):
    stale = ck.Pars("remade", cloud=lab.owner)
    ck.Pars("remade", cloud=lab.person("create")).clobber()
    with pytest.raises(ck.ResourceClobberedException, match=r"Another session has clobbered the Pars 'remade'"):
        ck.Knot(name="on-remade", func=work, pars=stale, cloud=lab.owner)
    new = ck.Pars("remade", cloud=lab.person("create"))
    before = lab.snapshot()
    with pytest.raises(ck.ResourceClobberedException, match=r"left unchanged.*Pars\(name='remade'\)"):
        stale.clobber()
    with pytest.raises(ck.ResourceClobberedException, match=r"Another session has clobbered the Pars 'remade'"):
        ck.Knot(name="on-remade", func=work, pars=stale, cloud=lab.owner)
    assert lab.snapshot() == before
    new.clobber()


@pytest.mark.more
@pytest.mark.parametrize("by_name", [False, True], ids=["with Pars", "by name"])
def test_clobbered_knot_does_not_delete_newer_pars(lab, by_name):
    knot = lab.knot("formerly", pars=ck.Pars("formerly", cloud=lab.owner))
    if by_name:
        knot = ck.Knot(name="formerly", cloud=lab.owner)
    knot.clobber()
    ck.Pars("formerly", cloud=lab.person("create")).clobber()
    new = ck.Pars("formerly", cloud=lab.person("create"))
    with pytest.raises(ck.ResourceClobberedException, match=r"left unchanged.*Pars\(name='formerly'\)"):
        knot.clobber(clobber_pars=True)
    assert ck.Pars("formerly", cloud=lab.owner).stack_id == new.stack_id
    new.clobber()


@pytest.mark.more
def test_stale_repository_leaves_newer_one_unchanged(lab):
    stale = ck.DockerRepo("remade/images", cloud=lab.owner)
    ck.DockerRepo("remade/images", cloud=lab.owner).clobber()
    new = ck.DockerRepo("remade/images", cloud=lab.owner)
    with pytest.raises(ck.ResourceClobberedException, match=r"left unchanged.*DockerRepo\('remade/images'\)"):
        stale.clobber()
    assert new.repo_uri
    new.clobber()
    stale.clobber()


@pytest.fixture
def knot_warnings(caplog):
    """Return a getter of the warnings about knots so far."""
    caplog.set_level(logging.WARNING, logger="cloudknot")
    return lambda: [line for line in caplog.messages if "knot " in line]


def test_session_whose_update_is_overtaken_says_so(lab, knot, knot_warnings):
    """Two sessions change a knot at once. The last one counts, and the other one neither hides it nor fights back."""
    other = ck.LocalCloud(lab.owner.directory)
    session = Meddled(
        lab.owner.directory,
        "update_stack",
        lambda: ck.Knot(name=knot.name, func=square, pars=knot.pars, max_vcpus=8, cloud=other),
        after=True,
    )
    first = ck.Knot(name=knot.name, func=cube, pars=knot.pars, max_vcpus=4, cloud=session)
    lines = knot_warnings()
    (lost,) = (line for line in lines if line.startswith("Another session changed the knot"))
    assert "its choices count: max_vcpus 4 -> 8." in lost
    # The session that came last says from which value it changed the knot.
    assert any("max_vcpus 4 -> 8" in line for line in lines if line.startswith("The knot"))
    stack = lab.owner.call("cloudformation", "describe_stacks", StackName=first.stack_id)["Stacks"][0]
    assert {"ParameterKey": "MaxVcpus", "ParameterValue": "8"} in stack["Parameters"]
    # Each one runs its own function.
    assert first.map([2]).result(LONG) == [8]


@pytest.mark.more
def test_session_that_waits_for_creation_of_another_one_says_what_it_changes(lab, knot_warnings):
    other = ck.LocalCloud(lab.owner.directory)
    pars = ck.Pars("awaited", cloud=lab.owner)
    session = Meddled(
        lab.owner.directory,
        "describe_images",
        lambda: ck.Knot(name="awaited", func=work, pars=pars, max_vcpus=4, cloud=other),
    )
    knot = ck.Knot(name="awaited", func=work, pars=pars, max_vcpus=8, cloud=session)
    assert any("max_vcpus 4 -> 8" in line for line in knot_warnings())
    knot.clobber()
    pars.clobber()


@pytest.mark.more
def test_clobbered_queue_ends_job_of_killed_session(lab):
    """Batch ends the jobs of a deleted queue, also if the session that deleted it is gone."""
    knot = lab.knot("killed")
    future = lab.running(knot)
    lab.owner.call("cloudformation", "delete_stack", StackName=knot.stack_id)
    assert until(lambda: future.job.status == "FAILED")
