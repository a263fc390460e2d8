"""An action that a person may not do changes nothing: no job ends, and the inventory of the account stays the same."""

import pytest
from click.testing import CliRunner

import cloudknot as ck
from cloudknot.cli.main import main
from tests.helpers.functions import double
from tests.helpers.waiting import LONG, until
from tests.integration.people.conftest import changes, denial_in, work


@pytest.fixture(scope="module")
def shared(lab):
    """Return the future of the owner's running job in the knot "fit". The knot has an ended and a failed map, too."""
    knot = lab.knot("fit")
    succeeded, failed = knot.map([1, 2]), knot.map([0, 1])
    assert succeeded.result(LONG) == [1.0, 0.5]
    assert isinstance(failed.exception(LONG), ZeroDivisionError)
    until(lambda: (succeeded.job.status, failed.job.status) == ("SUCCEEDED", "FAILED"))
    ck.Pars("spare", cloud=lab.owner)
    ck.DockerRepo("cloudknot", cloud=lab.owner)
    return lab.running(knot)


@pytest.fixture(scope="module")
def before(lab, shared):
    """Return the snapshot of the account before all tests of this module: none of them changes anything."""
    return lab.snapshot()


def fit(session):
    return ck.Knot(name="fit", cloud=session)


def job(session, status):
    return next(job for job in fit(session).jobs if job.status == status)


def command(*words):
    """Return an act that runs a command with the keys of a session."""

    def run(session):
        result = CliRunner().invoke(main, [*words, "--yes"], env=session.environment(), catch_exceptions=False)
        assert result.exit_code
        if isinstance(result.exception, SystemExit):
            raise ck.PermissionDeniedError(result.output)

    return run


ACTS = {
    "clobber": lambda session: fit(session).clobber(),
    "clobber with image": lambda session: fit(session).clobber(clobber_image=True),
    "clobber with repository": lambda session: fit(session).clobber(clobber_repo=True),
    "clobber with results": lambda session: fit(session).clobber(clobber_results=True),
    "clobber with everything": lambda session: fit(session).clobber(True, True, True, clobber_results=True),
    "clobber command": command("clobber", "fit", "--image", "--results", "--pars"),
    "clobber --all command": command("clobber", "--all", "--results"),
    "clobber of a Pars": lambda session: ck.Pars("spare", cloud=session).clobber(),
    "clobber of a repository": lambda session: ck.DockerRepo("cloudknot", cloud=session).clobber(),
    "new knot": lambda session: ck.Knot(name="new", func=work, cloud=session),
    "new function": lambda session: ck.Knot(name="fit", func=double, cloud=session),
    "new memory": lambda session: ck.Knot(name="fit", func=work, memory=900, cloud=session),
    "new machines": lambda session: ck.Knot(name="fit", func=work, max_vcpus=9, cloud=session),
    "new Pars": lambda session: ck.Pars("new", cloud=session),
    "policy for a Pars": lambda session: ck.Pars("spare", policies="AmazonS3FullAccess", cloud=session),
    "map": lambda session: fit(session).map([1], kwargs={}),
    "map of independent jobs": lambda session: fit(session).map([1, 2], job_type="independent"),
    "reduce": lambda session: job(session, "SUCCEEDED").reduce(sum),
    "retry_failed": lambda session: job(session, "FAILED").retry_failed(),
    "terminate": lambda session: job(session, "RUNNING").terminate("enough"),
    "cancel": lambda session: job(session, "RUNNING").future().cancel(),
    "clobber of a running job": lambda session: job(session, "RUNNING").clobber(),
    "clobber of an ended job": lambda session: job(session, "SUCCEEDED").clobber(),
}
CLOBBERS = tuple(act for act in ACTS if act.startswith("clobber") and " of a" not in act)
MAKINGS = ("new knot", "new function", "new memory", "new machines", "new Pars", "policy for a Pars")
SUBMISSIONS = ("map", "map of independent jobs", "reduce", "retry_failed")
REFUSED = [
    # A person who may only run.
    *((act, "run", ()) for act in (*CLOBBERS, *MAKINGS, "clobber of a Pars", "clobber of a repository")),
    # A person who may create, but not delete images or the bucket.
    *((act, "create", ()) for act in ("clobber with image", "clobber with repository", "clobber of a repository")),
    # One action is denied.
    *(
        ("clobber with everything", "administer", (denied,))
        for denied in (
            "cloudformation:DeleteStack",
            "batch:DeleteJobQueue",
            "batch:DeleteComputeEnvironment",
            "batch:UpdateComputeEnvironment",
            "batch:DeregisterJobDefinition",
            "batch:DescribeJobQueues",
            "batch:DescribeComputeEnvironments",
            "ec2:DeleteLaunchTemplate",
            "ecr:DeleteRepository",
            "s3:DeleteObject",
            "batch:ListJobs",
        )
    ),
    ("clobber with image", "administer", ("ecr:BatchDeleteImage",)),
    ("clobber of a Pars", "create", ("cloudformation:DeleteStack",)),
    ("clobber of a repository", "administer", ("ecr:DeleteRepository",)),
    ("new machines", "create", ("cloudformation:UpdateStack",)),
    ("new machines", "create", ("batch:UpdateComputeEnvironment",)),
    ("new knot", "create", ("iam:PutRolePolicy",)),
    ("new memory", "create", ("batch:RegisterJobDefinition",)),
    ("policy for a Pars", "create", ("cloudformation:UpdateStack",)),
    ("new Pars", "create", ("cloudformation:CreateStack",)),
    ("new Pars", "create", ("iam:CreateRole",)),
    ("new knot", "create", ("cloudformation:CreateStack",)),
    ("new knot", "create", ("batch:CreateJobQueue",)),
    *((act, "run", ("batch:SubmitJob",)) for act in SUBMISSIONS),
    *((act, "run", ("batch:TagResource",)) for act in SUBMISSIONS),
    *((act, "run", ("s3:PutObject",)) for act in SUBMISSIONS),
    *((act, "run", ("batch:TerminateJob",)) for act in ("terminate", "cancel", "clobber of a running job")),
    *(
        (act, "run", (denied,))
        for act in ("clobber of a running job", "clobber of an ended job")
        for denied in ("s3:PutObject", "s3:DeleteObject")
    ),
]

QUICK = [
    ("clobber", "run", ()),
    ("clobber command", "run", ()),
    ("new function", "run", ()),
    ("clobber with image", "create", ()),
    ("clobber with everything", "administer", ("batch:DeleteJobQueue",)),
    ("new machines", "create", ("batch:UpdateComputeEnvironment",)),
    ("retry_failed", "run", ("batch:SubmitJob",)),
    ("clobber of a running job", "run", ("s3:DeleteObject",)),
]
"""The cases that `make test` runs: one of each kind."""


@pytest.mark.parametrize(
    ("act", "level", "denied"),
    [case if case in QUICK else pytest.param(*case, marks=pytest.mark.more) for case in REFUSED],
)
def test_refused_act_changes_nothing(lab, shared, before, act, level, denied):
    with pytest.raises(ck.CloudknotError) as caught:
        ACTS[act](lab.person(level, *denied))
    error = denial_in(caught.value)
    assert error is not None, caught.value
    for action in denied:
        assert action in str(error)
    if act.startswith("clobber") and " of a" not in act and "command" not in act:
        assert "The knot 'fit' was not clobbered, and nothing was changed." in str(caught.value)
    after = lab.snapshot()
    # A new stack that could not be made is deleted again, and CloudFormation shows it for a while.
    assert changes(before, after) == {}
    assert shared.job.status == "RUNNING"
    assert not shared.job._view.live_jobs()[0].get("isTerminated")


def test_knot_works_after_refused_acts(lab, shared):
    assert fit(lab.person("run")).map([2]).result(LONG) == [0.5]


@pytest.mark.more
@pytest.mark.parametrize("denied", ["batch:UpdateJobQueue", "batch:DeleteJobQueue"])
def test_jobs_survive_denial_that_no_check_can_find(lab, denied):
    """AWS has no call that shows the right to disable a queue. A queue that somebody disabled cannot be checked."""
    knot = lab.knot("kept")
    future = lab.running(knot)
    if denied == "batch:DeleteJobQueue":
        lab.owner.call("batch", "update_job_queue", jobQueue=knot.job_queue, state="DISABLED")
    before = lab.snapshot()
    with pytest.raises(ck.CannotDeleteResourceException, match=denied):
        ck.Knot(name="kept", cloud=lab.person("create", denied)).clobber()
    after = lab.snapshot()
    assert {*changes(before, after)} == {"stack states"}
    # A new stack would end the job, too.
    message = r"in it \(1\)\. Wait until .*`.*cloudknot clobber kept --cloud local`"
    with pytest.raises(ck.CannotCreateResourceException, match=message):
        lab.knot("kept")
    assert future.job.status == "RUNNING"
    knot.clobber(clobber_results=True)


@pytest.mark.more
def test_later_denial_keeps_results_and_is_finished_by_another_person(lab):
    """AWS has no call that shows the right to delete a log group."""
    empty = lab.snapshot()
    knot = lab.knot("half")
    assert knot.map([4]).result(LONG) == [0.25]
    with pytest.raises(ck.CannotDeleteResourceException, match="logs:DeleteLogGroup"):
        ck.Knot(name="half", cloud=lab.person("create", "logs:DeleteLogGroup")).clobber(clobber_results=True)
    added = {kind for kind, (_, new) in changes(empty, lab.snapshot()).items() if new}
    assert added == {"stacks", "stack states", "log groups", "objects"}
    knot.clobber(clobber_image=True, clobber_results=True)
    assert changes(empty, lab.snapshot()) == {}


@pytest.mark.more
def test_person_without_right_to_end_jobs_may_clobber_knot_with_them(lab):
    """Batch ends the jobs of a deleted queue by itself."""
    knot = lab.knot("ended")
    future = lab.running(knot)
    ck.Knot(name="ended", cloud=lab.person("create", "batch:TerminateJob")).clobber()
    assert until(lambda: future.job.status == "FAILED")
    assert future.job.status_reason == "The job queue was deleted"
