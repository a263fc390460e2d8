"""Each fault of the embedded cloud does what its name says. The clients here repeat no request."""

import http.client
import json
import os
import time
from urllib.parse import urlsplit

import boto3
import botocore.config
import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    IncompleteReadError,
    ResponseStreamingError,
)

import cloudknot as ck
from cloudknot.local.directory.state import read_state
from tests.faulty_cloud.plan import Faults, Kill
from tests.helpers.waiting import LONG, until

BUCKET = "faults-bucket"
NO_RETRIES = botocore.config.Config(
    retries={"total_max_attempts": 1, "mode": "standard"}, s3={"addressing_style": "path"}, parameter_validation=False
)


@pytest.fixture(scope="session")
def client(cloud):
    """Return boto3 clients that repeat no request."""
    settings = cloud.environment()
    session = boto3.Session(
        settings["AWS_ACCESS_KEY_ID"], settings["AWS_SECRET_ACCESS_KEY"], region_name=settings["AWS_DEFAULT_REGION"]
    )
    clients = {}

    def make(service):
        if service not in clients:
            clients[service] = session.client(service, endpoint_url=settings["AWS_ENDPOINT_URL"], config=NO_RETRIES)
        return clients[service]

    return make


@pytest.fixture
def bucket(client, switches):
    """A bucket for these tests."""
    client("s3").create_bucket(Bucket=BUCKET)
    return BUCKET


def outcome(call):
    """Return the error code of a call, or the name of its exception, or None."""
    try:
        call()
    except ClientError as error:
        return error.response["Error"]["Code"]
    except Exception as error:
        return type(error).__name__
    return None


def test_switches_are_off_at_first(switches):
    assert switches.injected() == {}


def test_errors_come_at_their_rate_and_repeat_with_same_seed(switches, client, bucket):
    def codes():
        with switches.on(Faults(errors=0.5, seed=7)):
            outcomes = [outcome(lambda: client("s3").put_object(Bucket=bucket, Key="k", Body=b"x")) for _ in range(60)]
            counts = switches.injected()
        assert outcomes.count("InternalError") == counts["error 500"]
        assert outcomes.count("SlowDown") == counts["error 503"]
        return outcomes

    first = codes()
    assert set(first) == {None, "InternalError", "SlowDown"}
    assert 15 <= first.count(None) <= 45
    assert codes() == first


def test_injected_error_prevents_write(switches, client, bucket):
    with switches.on(Faults(errors=1)):
        assert outcome(lambda: client("s3").put_object(Bucket=bucket, Key="refused", Body=b"x")) is not None
        # An answer to HEAD has no body for a code, so botocore uses the HTTP status.
        assert outcome(lambda: client("s3").head_object(Bucket=bucket, Key="refused")) in ("500", "503")
    assert outcome(lambda: client("s3").get_object(Bucket=bucket, Key="refused")) == "NoSuchKey"


def test_dropped_answer_does_not_prevent_write(switches, client, bucket):
    with switches.on(Faults(dropped=1, limit=1)):
        with pytest.raises(ConnectionClosedError):
            client("s3").put_object(Bucket=bucket, Key="written", Body=b"all of it")
        assert client("s3").get_object(Bucket=bucket, Key="written")["Body"].read() == b"all of it"
        assert switches.injected() == {"dropped": 1}


def test_truncated_answer_is_shorter_than_its_content_length(switches, client, bucket):
    client("s3").put_object(Bucket=bucket, Key="long", Body=b"x" * 100_000)
    with switches.on(Faults(truncated=1)):
        body = client("s3").get_object(Bucket=bucket, Key="long")["Body"]
        with pytest.raises((IncompleteReadError, ResponseStreamingError)):
            body.read()
    assert len(client("s3").get_object(Bucket=bucket, Key="long")["Body"].read()) == 100_000


def test_slow_answers_are_late_and_correct(switches, client, bucket):
    client("s3").put_object(Bucket=bucket, Key="slow", Body=b"x")
    with switches.on(Faults(slow=1, delay=0.2)):
        begun = time.monotonic()
        assert client("s3").get_object(Bucket=bucket, Key="slow")["Body"].read() == b"x"
        assert time.monotonic() - begun >= 0.2
        assert switches.injected() == {"slow": 1}


def test_burst_of_429_ends_at_its_limit(switches, client):
    with switches.on(Faults(throttled=1, limit=3)):
        outcomes = [outcome(lambda: client("batch").describe_jobs(jobs=[])) for _ in range(5)]
    assert outcomes == ["TooManyRequestsException"] * 3 + [None] * 2


@pytest.mark.parametrize(
    ("service", "call", "code"),
    [
        ("s3", lambda s3: s3.list_buckets(), "ExpiredToken"),
        ("s3", lambda s3: s3.list_objects_v2(Bucket=BUCKET), "ExpiredToken"),
        ("sts", lambda sts: sts.get_caller_identity(), "ExpiredToken"),
        ("iam", lambda iam: iam.list_roles(), "ExpiredToken"),
        ("ec2", lambda ec2: ec2.describe_vpcs(), "ExpiredToken"),
        ("cloudformation", lambda cfn: cfn.list_stacks(), "ExpiredToken"),
        ("batch", lambda batch: batch.describe_jobs(jobs=[]), "ExpiredTokenException"),
        ("logs", lambda logs: logs.describe_log_groups(), "ExpiredTokenException"),
        ("ecr", lambda ecr: ecr.describe_repositories(), "ExpiredTokenException"),
    ],
)
def test_expired_credentials_have_error_code_of_each_service(switches, client, service, call, code):
    with switches.on(Faults(expired=True)):
        assert outcome(lambda: call(client(service))) == code
    assert outcome(lambda: client("sts").get_caller_identity()) is None


def test_silence_closes_every_connection_except_that_of_switches(switches, client):
    with switches.on(Faults(silent=True)):
        for service in ("sts", "batch"):
            call = client(service).get_caller_identity if service == "sts" else client(service).describe_job_queues
            assert outcome(call) == "ConnectionClosedError"
        assert switches.injected() == {"silence": 2}


def test_faults_can_be_limited_to_service_and_call(switches, client, bucket):
    with switches.on(Faults(errors=1, services=("s3", "batch"), only="POST /v1/describejobs")):
        assert outcome(lambda: client("batch").describe_jobs(jobs=[])) in ("InternalFailure", "ServiceUnavailable")
        assert outcome(lambda: client("batch").describe_job_queues()) is None
        assert outcome(lambda: client("s3").list_objects_v2(Bucket=bucket)) is None


def post(cloud, body, headers):
    """Post to the route of the switches, and return the HTTP status."""
    connection = http.client.HTTPConnection(urlsplit(read_state(cloud.directory).endpoint).netloc, timeout=LONG)
    try:
        connection.request("POST", "/_cloudknot/faults", body, headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_switches_refuse_unsigned_request(switches, cloud):
    assert post(cloud, json.dumps({"set": {"errors": 1}}), {}) == 403
    assert switches.injected() == {}


@pytest.mark.parametrize(
    "fault",
    [{"errors": 2}, {"error": 0.5}, {"kills": [{"how": "boredom"}]}, {"kills": [{"how": "host", "who": 1}]}, 5],
)
def test_switches_refuse_invalid_fault(switches, fault):
    with pytest.raises(ck.CloudError, match=r" refuses the request for faults\. Correct the attributes of Faults\.$"):
        switches._ask({"set": fault})


def attempt_number(seconds):
    """Return the number of the attempt, after a while."""
    time.sleep(seconds)
    return os.environ["AWS_BATCH_JOB_ATTEMPT"]


def described(future):
    """Wait for the end of a map's job, and return Batch's description."""
    (job,) = until(
        lambda: [job for job in future.job._view.describe_jobs() if job["status"] in ("SUCCEEDED", "FAILED")]
    )
    return job


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("host", {"statusReason": "Host EC2 (instance i-00000000000000000) terminated."}),
        ("pull", {"reason": "CannotPullContainerError"}),
    ],
)
def test_next_attempt_computes_element_after_each_kill(knot_of, switches, how, reason):
    with switches.on(Faults(kills=(Kill(how, attempts=2),))):
        future = knot_of(attempt_number).map([0.3])
        assert future.result(LONG) == ["3"]
        assert switches.injected() == {f"killed: {how}": 2}
    attempts = described(future)["attempts"]
    for attempt in attempts[:2]:
        texts = {"statusReason": attempt["statusReason"], "reason": attempt["container"].get("reason", "")}
        for name, text in reason.items():
            assert texts[name].startswith(text)


@pytest.mark.parametrize(
    ("how", "exit_code", "status_reason", "reason"),
    [
        (
            "memory",
            137,
            "Essential container in task exited",
            "OutOfMemoryError: Container killed due to memory usage",
        ),
        ("start", None, "Task failed to start", "CannotStartContainerError"),
    ],
)
def test_batch_describes_killed_child_with_exit_code_and_reasons(
    knot_of, switches, how, exit_code, status_reason, reason
):
    with switches.on(Faults(kills=(Kill(how, attempts=10),))):
        future = knot_of(attempt_number).map([30])
        with pytest.raises(ck.BatchJobFailedError):
            future.result(LONG)
    job = described(future)
    assert job["status"] == "FAILED"
    assert job["attempts"][-1]["container"].get("exitCode") == exit_code
    assert job["attempts"][-1]["statusReason"] == status_reason
    assert job["attempts"][-1]["container"]["reason"].startswith(reason)


def test_docker_timeout_comes_after_result_is_stored(knot_of, switches):
    with switches.on(Faults(kills=(Kill("docker", attempts=10),))):
        future = knot_of(attempt_number).map([0])
        assert future.result(LONG) == ["1"]
        job = described(future)
    assert job["attempts"][0]["container"]["reason"].startswith("DockerTimeoutError")


def long_at_first(is_long):
    """Return the number of the attempt. The first one of a long element ends only by a kill."""
    attempt = os.environ["AWS_BATCH_JOB_ATTEMPT"]
    if is_long and attempt == "1":
        time.sleep(LONG)
    return attempt


def test_running_child_is_killed_on_request_and_ended_child_is_not(knot_of, switches):
    future = knot_of(long_at_first).map([True, False])
    until(lambda: future.job._view.describe([0])[0]["status"] == "RUNNING")
    switches.kill(f"{future.job.job_id}:0", "host")
    assert future.result(LONG) == ["2", "1"]
    # The result is there before the attempt has ended.
    described(future)
    with pytest.raises(ck.CloudError, match=r" refuses .* Pass the id of a running job or child job to kill\(\)\.$"):
        switches.kill(f"{future.job.job_id}:0")


def test_child_is_killed_once_it_has_stored_pack(knot_of, switches):
    with switches.on(Faults(kills=(Kill("host", when="stored"),))):
        future = knot_of(long_at_first).map([False, True], chunksize=2)
        assert future.result(LONG) == ["1", "2"]


def test_overlapping_attempts_both_run_to_their_end(knot_of, switches, tmp_path):
    knot = knot_of(touch_attempt)
    with switches.on(Faults(kills=(Kill("host", overlap=True),))):
        future = knot.map([str(tmp_path)])
        future.result(LONG)
        assert switches.injected() == {"overlapping: host": 1}
    until(lambda: {"1", "2"} <= {path.name for path in tmp_path.iterdir()})


def touch_attempt(directory):
    """Create a file with the number of the attempt as its name, once both attempts have begun."""
    # An attempt that begins after the end of the other one finds its result, and calls nothing.
    attempt = os.environ["AWS_BATCH_JOB_ATTEMPT"]
    open(os.path.join(directory, f"begun{attempt}"), "w").close()
    while len([name for name in os.listdir(directory) if name.startswith("begun")]) < 2:
        time.sleep(0.02)
    open(os.path.join(directory, attempt), "w").close()


def test_batch_does_not_describe_forgotten_job(knot_of, switches):
    future = knot_of(attempt_number).map([0, 0])
    assert future.result(LONG) == ["1", "1"]
    described(future)
    switches.forget(future.job.job_id)
    assert future.job._view.describe_jobs() == []
    assert future.job._view.describe([0, 1]) == {0: {}, 1: {}}
    assert future.job.status == "SUCCEEDED"
    assert switches.injected() == {"forgotten": 1}
