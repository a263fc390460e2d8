"""No request reaches a bucket of another account, unless its owner is named.

The other account creates real buckets on the embedded cloud, and lets everybody read and write them.
"""

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner

import cloudknot as ck
from cloudknot.cli.main import main
from cloudknot.worker.s3.limits import PART_SIZE
from cloudknot.worker.wire.container import MANIFEST_VARIABLE
from tests.faulty_cloud.cloud import FaultyCloud
from tests.faulty_cloud.switches import FaultSwitches
from tests.helpers.paths import ROOT
from tests.helpers.waiting import until

OTHER = "999988887777"
"""The number of the other account."""
CREATE_BUCKET = "before-call.s3.CreateBucket"


def as_other_account(params, **_):
    params["headers"]["x-cloudknot-account"] = OTHER


def create_elsewhere(cloud, bucket):
    """Create a bucket in the other account."""
    client = cloud.client("s3")
    client.meta.events.register(CREATE_BUCKET, as_other_account)
    client.create_bucket(Bucket=bucket)
    client.meta.events.unregister(CREATE_BUCKET, as_other_account)


def contents(cloud, bucket):
    """Return the objects of a bucket of any account, by key."""
    client = cloud.client("s3")
    keys = [item["Key"] for item in client.list_objects_v2(Bucket=bucket).get("Contents", ())]
    return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def take_over(cloud, bucket):
    """Delete a bucket of this account, and create it in the other account with the same objects."""
    client, stored = cloud.client("s3"), contents(cloud, bucket)
    for key in stored:
        client.delete_object(Bucket=bucket, Key=key)
    client.delete_bucket(Bucket=bucket)
    create_elsewhere(cloud, bucket)
    for key, body in stored.items():
        client.put_object(Bucket=bucket, Key=key, Body=body)


def touch(path):
    Path(path).touch()
    return path


class Trap:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return touch, (self.path,)


def set_trap(path):
    return Trap(path)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    """Yield a cloud of this module only, since another account takes its default bucket."""
    with FaultyCloud(tmp_path_factory.mktemp("owners"), vcpus=2) as cloud:
        yield cloud


@pytest.fixture
def begin_session(cloud, tmp_path, monkeypatch):
    """Return a function that begins a session with its own settings."""

    def begin(**settings):
        file = tmp_path / f"settings-{secrets.token_hex(4)}"
        lines = [f"s3-{name} = {value}" for name, value in settings.items()]
        file.write_text("\n".join(["[aws]", *lines, ""]))
        monkeypatch.setenv("CLOUDKNOT_CONFIG_FILE", str(file))
        return ck.LocalCloud(cloud.directory)

    return begin


def test_default_bucket_of_another_account_is_refused(cloud):
    create_elsewhere(cloud, cloud.bucket)
    cloud.client("s3").put_object(Bucket=cloud.bucket, Key="cloudknot.jobs/taken/bait", Body=b"bait")
    session = ck.LocalCloud(cloud.directory)
    with pytest.raises(ck.PermissionDeniedError) as caught:
        ck.Knot(name="taken", func=abs, cloud=session)
    assert f"access to the bucket {cloud.bucket}." in str(caught.value)
    assert "cloudknot has stored nothing in it, and has read nothing from it." in str(caught.value)
    assert "set_s3_params(bucket=..., owner='ACCOUNT')" in str(caught.value)
    for use in (
        lambda: session.storage.put("key", b"secret"),
        lambda: session.storage.put_new("key", b"secret"),
        lambda: session.storage.upload("key", [b"x" * PART_SIZE] * 2),
        lambda: session.storage.get("cloudknot.jobs/taken/bait"),
        lambda: session.storage.fetch("cloudknot.jobs/taken/bait"),
        lambda: session.storage.exists("cloudknot.jobs/taken/bait"),
        lambda: list(session.storage.keys("")),
        lambda: session.storage.folders("cloudknot.jobs/"),
        lambda: session.storage.delete("cloudknot.jobs/taken/bait"),
        session.storage.bucket_itself.delete,
    ):
        with pytest.raises(ck.PermissionDeniedError, match="Or another AWS account owns the bucket"):
            use()
    assert contents(cloud, cloud.bucket) == {"cloudknot.jobs/taken/bait": b"bait"}
    assert cloud.client("s3").list_multipart_uploads(Bucket=cloud.bucket).get("Uploads", []) == []


def test_named_owner_other_than_the_real_one_is_refused(cloud, begin_session):
    bucket = f"bucket-{secrets.token_hex(4)}"
    create_elsewhere(cloud, bucket)
    with pytest.raises(ck.PermissionDeniedError, match="do not allow access to the bucket"):
        begin_session(**{"bucket": bucket, "bucket-owner": "111122223333"}).storage.ensure_bucket({})


def test_missing_bucket_of_another_account_is_not_created(begin_session):
    session = begin_session(**{"bucket": "nowhere-at-all", "bucket-owner": OTHER})
    with pytest.raises(ck.ResourceDoesNotExistException, match="does not exist, and cloudknot cannot create it"):
        session.storage.ensure_bucket({})
    with pytest.raises(ClientError, match="404"):
        session.client("s3").head_bucket(Bucket="nowhere-at-all")


def test_knot_works_in_bucket_of_named_owner(cloud, begin_session):
    bucket = f"bucket-{secrets.token_hex(4)}"
    create_elsewhere(cloud, bucket)
    knot = ck.Knot(name="shared-bucket", func=abs, cloud=begin_session(**{"bucket": bucket, "bucket-owner": OTHER}))
    future = knot.map([-1, -2])
    assert future.result(120) == [1, 2]
    assert knot.map(future).result(120) == [1, 2]
    # A session without these settings finds the owner in the stack of the knot, in its revisions or in the job.
    other_session = begin_session()
    again = ck.Knot(name="shared-bucket", cloud=other_session)
    assert [job.result(120) for job in again.jobs] == [[1, 2], [1, 2]]
    assert again.map([-3]).result(120) == [3]
    assert ck.BatchJob(future.job.job_id, cloud=begin_session()).result(120) == [1, 2]
    again.clobber(clobber_results=True)
    assert contents(cloud, bucket) == {}


class TestTakenOver:
    """A bucket that was deleted, and that another account has created again, with objects that run code when read."""

    @pytest.fixture
    def trap(self, tmp_path):
        return tmp_path / "trap"

    @pytest.fixture
    def job(self, cloud, begin_session, trap):
        """Return an ended job with its bucket taken over. Its input and its result are traps."""
        bucket = f"bucket-{secrets.token_hex(4)}"
        knot = ck.Knot(name=f"robbed-{secrets.token_hex(3)}", func=set_trap, cloud=begin_session(bucket=bucket))
        job = knot.map([Trap(str(trap))]).job
        until(lambda: job.status == "SUCCEEDED")
        trap.unlink()
        take_over(cloud, bucket)
        return job

    def test_later_session_does_not_read_results(self, job, begin_session, trap):
        with pytest.raises(ck.PermissionDeniedError, match="Or another AWS account owns the bucket"):
            ck.BatchJob(job.job_id, cloud=begin_session()).result(120)
        assert not trap.exists()

    def test_job_does_not_read_inputs(self, cloud, job, trap):
        """Submit the same job again, as Batch would start a job that has waited since before the bucket was taken."""
        before = contents(cloud, job.keys.bucket)
        (description,) = cloud.call("batch", "describe_jobs", jobs=[job.job_id])["jobs"]
        container = {name: description["container"][name] for name in ("command", "environment")}
        container["environment"] = [item for item in container["environment"] if item["name"] == MANIFEST_VARIABLE]
        again = cloud.client("batch").submit_job(
            jobName="again",
            jobQueue=description["jobQueue"],
            jobDefinition=description["jobDefinition"],
            containerOverrides=container,
        )["jobId"]
        ended = until(lambda: self._ended(cloud, again))
        assert ended["status"] == "FAILED"
        assert contents(cloud, job.keys.bucket) == before
        assert not trap.exists()

    def _ended(self, cloud, job_id):
        (description,) = cloud.call("batch", "describe_jobs", jobs=[job_id])["jobs"]
        return description if description["status"] in ("SUCCEEDED", "FAILED") else None

    def test_worker_by_hand_does_not_read_run(self, cloud, job, trap):
        code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from cloudknot.worker.__main__ import main;"
        code += "sys.exit(main(sys.argv[1:]))"
        command = [sys.executable, "-c", code, str(ROOT), job.keys.url, "--element", "0"]
        environment = {**os.environ, **cloud.environment()}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode != 0
        assert "Access" in done.stderr
        assert not trap.exists()


def add(x, y=b""):
    return x + len(y)


def fail_once(x):
    raise ValueError(x)


def test_every_request_names_expected_owner(tmp_path, monkeypatch):
    """Count the requests of a session, its jobs and the commands, from a new bucket to its deletion."""
    with FaultyCloud(tmp_path / "counted", vcpus=2) as cloud:
        knot = ck.Knot(name="counted", func=add, cloud=cloud)
        first = knot.map(range(4), kwargs={"y": b"y" * 100})
        assert first.result(120) == [100, 101, 102, 103]
        assert knot.map(first).result(120) == [100, 101, 102, 103]
        assert first.job.reduce(sum).result(120) == 406
        assert knot.map([b"x" * 3 * PART_SIZE], kwargs={"y": b""}, chunksize=1).exception(120)
        failing = ck.Knot(name="failing", func=fail_once, cloud=cloud, retries=2).map([1])
        with pytest.raises(ValueError, match="1"):
            failing.result(120)
        failing.job.retry_failed().exception(120)
        assert [job.status for job in ck.Knot(name="counted", cloud=ck.LocalCloud(cloud.directory)).jobs]
        first.job.clobber()
        monkeypatch.setenv("CLOUDKNOT_LOCAL_DIR", str(cloud.directory))
        monkeypatch.setenv("CLOUDKNOT_CLOUD", "local")
        removal = CliRunner().invoke(main, ["clobber", "--all", "--results", "--yes"])
        assert removal.exit_code == 0, removal.output
        status, ownerless = cloud.status(), FaultSwitches(cloud).ownerless()
    # Nobody owns a bucket before its creation, so that request cannot name an owner.
    assert ownerless == {"CreateBucket": 1}
    counts = {
        sender: {name: n for name, (n, _, _) in by.items() if name[:3] == "s3:"}
        for sender, by in status.requests.items()
    }
    assert {"s3:GetObject", "s3:PutObject", "s3:ListObjectsV2"} <= counts["workers"].keys()
    assert {"s3:GetObject", "s3:UploadPart", "s3:DeleteObjects", "s3:HeadBucket"} <= counts["others"].keys()
