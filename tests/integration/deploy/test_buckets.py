"""A knot's bucket is the knot's own: a session whose settings name another, or none, finds and uses it."""

import logging
import secrets

import pytest
from click.testing import CliRunner

import cloudknot as ck
from cloudknot.cli.main import main
from cloudknot.deploy.pars_parameters import bucket_arn
from cloudknot.local.faults.switches import FaultSwitches
from tests.helpers.functions import cube, square
from tests.helpers.inventory import inventory
from tests.helpers.waiting import until


@pytest.fixture
def session(cloud, tmp_path, monkeypatch):
    """Begin a session of the same cloud with settings of its own: a bucket's name, or nothing."""

    def begin(bucket=""):
        settings = tmp_path / f"settings-{secrets.token_hex(4)}"
        settings.write_text(f"[aws]\ns3-bucket = {bucket}\n" if bucket else "")
        monkeypatch.setenv("CLOUDKNOT_CONFIG_FILE", str(settings))
        return ck.LocalCloud(cloud.directory)

    return begin


@pytest.fixture
def lab_knot(session):
    """A knot that a session made whose settings name a bucket; one map of it has run."""
    knot = ck.Knot(
        name=f"lab-{secrets.token_hex(3)}", func=square, cloud=session(f"lab-bucket-{secrets.token_hex(4)}")
    )
    assert knot.map([2, 3]).result(120) == [4, 9]
    yield knot
    knot.clobber(clobber_image=True, clobber_results=True)


def buckets(cloud):
    return inventory(cloud)["buckets"]


def test_a_session_without_settings_finds_jobs_and_results_and_maps(lab_knot, session):
    (job,) = lab_knot.jobs
    lab, other = lab_knot._cloud.bucket, session()
    before = buckets(other)
    knot = ck.Knot(name=lab_knot.name, cloud=other)
    assert [(each.job_id, each.result(60)) for each in knot.jobs] == [(job.job_id, [4, 9])]
    assert ck.BatchJob(job.job_id, cloud=other).result(60) == [4, 9]
    assert knot.job_definition.output_bucket == lab
    future = knot.map([4])
    assert future.result(120) == [16]
    assert future.job.keys.bucket == lab
    assert buckets(other) == before
    assert [each.result(60) for each in lab_knot.jobs] == [[4, 9], [16]]


def test_a_session_without_settings_makes_the_knot_anew_where_it_is(lab_knot, session):
    other = session()
    before = buckets(other)
    knot = ck.Knot(name=lab_knot.name, func=cube, cloud=other)
    assert knot.map([2]).result(120) == [8]
    assert [each.result(60) for each in knot.jobs] == [[4, 9], [8]]
    assert {each.keys.bucket for each in knot.jobs} == {lab_knot._cloud.bucket}
    assert buckets(other) == before


def test_a_bucket_that_is_chosen_moves_the_knot_and_its_earlier_jobs_are_found(lab_knot, session, caplog):
    caplog.set_level(logging.WARNING, logger="cloudknot")
    lab, new = lab_knot._cloud.bucket, f"new-bucket-{secrets.token_hex(4)}"
    moved = ck.Knot(name=lab_knot.name, func=square, cloud=session(new))
    assert [line for line in caplog.messages if f"bucket {lab} -> {new}." in line]
    assert moved.map([5]).result(120) == [25]
    for knot in (moved, ck.Knot(name=lab_knot.name, cloud=session())):
        assert [(job.keys.bucket, job.result(60)) for job in knot.jobs] == [(lab, [4, 9]), (new, [25])]
    assert lab_knot.map([6]).result(120) == [36], "a session that made it before goes on"
    moved.clobber(clobber_results=True)
    for bucket in (lab, new):
        assert list(session(bucket).storage.keys("")) == []


def test_a_pars_that_was_made_elsewhere_lets_jobs_use_the_knots_bucket(lab_knot, session):
    other = session()
    pars = ck.Pars(f"else-{secrets.token_hex(3)}", cloud=other)
    knot = ck.Knot(name=lab_knot.name, func=square, pars=pars, cloud=other)
    assert knot.map([3]).result(120) == [9]
    (stack,) = other.call("cloudformation", "describe_stacks", StackName=pars.stack_id)["Stacks"]
    (arns,) = (one["ParameterValue"] for one in stack["Parameters"] if one["ParameterKey"] == "BucketArns")
    assert bucket_arn(other, lab_knot._cloud.bucket) in arns.split(",")


def test_a_job_that_batch_has_forgotten_is_found_in_its_bucket(lab_knot, session):
    (job,) = lab_knot.jobs
    other = session()
    until(lambda: ck.BatchJob(job.job_id, cloud=other).done)
    FaultSwitches(other).forget(job.job_id)
    assert ck.BatchJob(job.job_id, cloud=other).result(60) == [4, 9]


def test_the_jobs_of_a_clobbered_knot_are_listed_from_its_bucket(lab_knot, session, monkeypatch):
    (job,) = lab_knot.jobs
    session()
    monkeypatch.setenv("CLOUDKNOT_LOCAL_DIR", str(lab_knot._cloud.directory))
    ck.Knot(name=lab_knot.name, cloud=session()).clobber()
    assert job.job_id in CliRunner().invoke(main, ["jobs", lab_knot.name, "--cloud", "local"]).output
    asked = ["clobber", lab_knot.name, "--results", "--yes", "--cloud", "local"]
    removed = CliRunner().invoke(main, asked)
    assert removed.exit_code == 0, removed.output
    assert list(lab_knot._cloud.storage.keys("")) == []
