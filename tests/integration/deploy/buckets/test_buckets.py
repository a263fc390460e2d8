"""A session uses the bucket of an existing knot, even if its own settings name another bucket or none."""

import logging
import secrets

import pytest
from click.testing import CliRunner

import cloudknot as ck
from cloudknot.cli.main import main
from tests.faulty_cloud.switches import FaultSwitches
from tests.helpers.functions import cube, square
from tests.helpers.inventory import inventory
from tests.helpers.waiting import until


@pytest.fixture
def begin_session(cloud, tmp_path, monkeypatch):
    """Return a function that begins a session with its own settings: the name of a bucket, or nothing."""

    def begin(bucket=""):
        settings = tmp_path / f"settings-{secrets.token_hex(4)}"
        settings.write_text(f"[aws]\ns3-bucket = {bucket}\n" if bucket else "")
        monkeypatch.setenv("CLOUDKNOT_CONFIG_FILE", str(settings))
        return ck.LocalCloud(cloud.directory)

    return begin


@pytest.fixture
def lab_knot(begin_session):
    """Yield a knot with one finished run, from a session with a bucket in its settings."""
    knot = ck.Knot(
        name=f"lab-{secrets.token_hex(3)}", func=square, cloud=begin_session(f"lab-bucket-{secrets.token_hex(4)}")
    )
    assert knot.map([2, 3]).result(120) == [4, 9]
    yield knot
    knot.clobber(clobber_image=True, clobber_results=True)


def buckets(cloud):
    return inventory(cloud)["buckets"]


def test_session_without_settings_reads_results_and_maps_in_knots_bucket(lab_knot, begin_session):
    (lab_job,) = lab_knot.jobs
    lab, other_session = lab_knot._cloud.bucket, begin_session()
    before = buckets(other_session)
    knot = ck.Knot(name=lab_knot.name, cloud=other_session)
    assert [(job.job_id, job.result(120)) for job in knot.jobs] == [(lab_job.job_id, [4, 9])]
    assert ck.BatchJob(lab_job.job_id, cloud=other_session).result(120) == [4, 9]
    assert knot.job_definition.output_bucket == lab
    future = knot.map([4])
    assert future.result(120) == [16]
    assert future.job.keys.bucket == lab
    assert buckets(other_session) == before
    assert [job.result(120) for job in lab_knot.jobs] == [[4, 9], [16]]


def test_session_without_settings_updates_knot_in_its_bucket(lab_knot, begin_session):
    other_session = begin_session()
    before = buckets(other_session)
    knot = ck.Knot(name=lab_knot.name, func=cube, cloud=other_session)
    assert knot.map([2]).result(120) == [8]
    assert [job.result(120) for job in knot.jobs] == [[4, 9], [8]]
    assert {job.keys.bucket for job in knot.jobs} == {lab_knot._cloud.bucket}
    assert buckets(other_session) == before


def test_new_bucket_setting_moves_knot_and_keeps_earlier_jobs(lab_knot, begin_session, caplog):
    caplog.set_level(logging.WARNING, logger="cloudknot")
    lab, new = lab_knot._cloud.bucket, f"new-bucket-{secrets.token_hex(4)}"
    moved = ck.Knot(name=lab_knot.name, func=square, cloud=begin_session(new))
    assert [line for line in caplog.messages if f"bucket {lab} -> {new}." in line]
    assert moved.map([5]).result(120) == [25]
    for knot in (moved, ck.Knot(name=lab_knot.name, cloud=begin_session())):
        assert [(job.keys.bucket, job.result(120)) for job in knot.jobs] == [(lab, [4, 9]), (new, [25])]
    assert lab_knot.map([6]).result(120) == [36], "the session from before the move still maps"
    moved.clobber(clobber_results=True)
    for bucket in (lab, new):
        assert list(begin_session(bucket).storage.keys("")) == []


def test_knot_keeps_access_to_its_bucket_under_pars_of_another_session(lab_knot, begin_session):
    other_session = begin_session()
    pars = ck.Pars(f"else-{secrets.token_hex(3)}", cloud=other_session)
    knot = ck.Knot(name=lab_knot.name, func=square, pars=pars, cloud=other_session)
    assert knot.map([3]).result(120) == [9]
    (stack,) = other_session.call("cloudformation", "describe_stacks", StackName=knot.stack_id)["Stacks"]
    (arns,) = (
        parameter["ParameterValue"] for parameter in stack["Parameters"] if parameter["ParameterKey"] == "BucketArns"
    )
    assert arns == f"arn:aws:s3:::{lab_knot._cloud.bucket}"


def test_results_of_job_forgotten_by_batch_come_from_its_bucket(lab_knot, begin_session):
    (job,) = lab_knot.jobs
    other_session = begin_session()
    until(lambda: ck.BatchJob(job.job_id, cloud=other_session).done)
    FaultSwitches(other_session).forget(job.job_id)
    assert ck.BatchJob(job.job_id, cloud=other_session).result(120) == [4, 9]


def test_commands_find_jobs_of_clobbered_knot_in_its_bucket(lab_knot, begin_session, monkeypatch):
    (job,) = lab_knot.jobs
    begin_session()
    monkeypatch.setenv("CLOUDKNOT_LOCAL_DIR", str(lab_knot._cloud.directory))
    ck.Knot(name=lab_knot.name, cloud=begin_session()).clobber()
    assert job.job_id in CliRunner().invoke(main, ["jobs", lab_knot.name, "--cloud", "local"]).output
    words = ["clobber", lab_knot.name, "--results", "--yes", "--cloud", "local"]
    removed = CliRunner().invoke(main, words)
    assert removed.exit_code == 0, removed.output
    assert list(lab_knot._cloud.storage.keys("")) == []
