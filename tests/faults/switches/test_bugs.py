"""An exception in the server's code becomes an error that names its cause, after a few repetitions."""

import time

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

import cloudknot as ck
from cloudknot.local.directory.files import log_file
from cloudknot.worker.s3.retries import BUG_HEADER, REPEATED_BUGS
from tests.faulty_cloud.plan import Faults
from tests.helpers.functions import square
from tests.helpers.waiting import LONG, until

CALLS = {
    "batch": ("describe_jobs", {"jobs": ["a"]}, "InternalFailure"),
    "cloudformation": ("describe_stacks", {}, "InternalFailure"),
    "codebuild": ("list_builds", {}, "InternalFailure"),
    "ec2": ("describe_vpcs", {}, "InternalError"),
    "ecr": ("describe_repositories", {}, "InternalFailure"),
    "iam": ("list_users", {}, "InternalFailure"),
    "logs": ("describe_log_groups", {}, "InternalFailure"),
    "s3": ("list_buckets", {}, "InternalError"),
    "sts": ("get_caller_identity", {}, "InternalFailure"),
}
"""By service: an operation, its arguments, and AWS's code for an error of its own."""
CAUSE = r"because of a bug in it: KeyError in .*, line \d+\. .*traceback at the end of .*server\.log"


@pytest.mark.parametrize("service", CALLS)
def test_answer_has_form_of_service_and_log_has_traceback(cloud, switches, service):
    operation, arguments, code = CALLS[service]
    client = boto3.client(service, config=Config(retries={"total_max_attempts": 1}), **login(cloud))
    with switches.on(Faults(bugs=1, services=(service,))), pytest.raises(ClientError, match=CAUSE) as caught:
        getattr(client, operation)(**arguments)
    answer = caught.value.response
    assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == (code, 500)
    assert answer["Error"]["Message"] == answer["ResponseMetadata"]["HTTPHeaders"][BUG_HEADER]
    assert f"KeyError: '{service}'" in log_file(cloud.directory).read_text(encoding="utf-8")


def login(cloud):
    """Return the arguments with which boto3 uses a cloud."""
    values = cloud.environment()
    return {
        "endpoint_url": values["AWS_ENDPOINT_URL"],
        "region_name": values["AWS_DEFAULT_REGION"],
        "aws_access_key_id": values["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": values["AWS_SECRET_ACCESS_KEY"],
    }


@pytest.mark.parametrize("service", CALLS)
def test_call_names_cause_after_few_repetitions(cloud, switches, service):
    operation, arguments, _ = CALLS[service]
    with switches.on(Faults(bugs=1, services=(service,))):
        with pytest.raises(ck.CloudError, match=f"{service}:{operation} failed.*{CAUSE}"):
            cloud.call(service, operation, **arguments)
        assert switches.injected() == {"bugs": 1 + REPEATED_BUGS}
        # An answer to HEAD has no body for the cause.
        if service == "s3":
            with pytest.raises(ck.CloudError, match=f"s3:head_bucket failed.*{CAUSE}"):
                cloud.call("s3", "head_bucket", Bucket="some-bucket")


def test_call_goes_on_after_bug_of_a_moment(cloud, switches):
    with switches.on(Faults(bugs=1, limit=REPEATED_BUGS, services=("sts",))):
        assert cloud.call("sts", "get_caller_identity")["Account"]
        assert switches.injected() == {"bugs": REPEATED_BUGS}


def test_submission_is_made_once_and_leaves_no_job(cloud, knot_of, switches):
    knot = knot_of(square)
    before = len(knot.jobs)
    with switches.on(Faults(bugs=1, services=("batch",), only="POST /v1/submitjob")):
        with pytest.raises(ck.CloudError, match=CAUSE):
            knot.map([1, 2])
        assert switches.injected() == {"bugs": 1}
    assert len(knot.jobs) == before
    assert knot.map([3]).result(LONG) == [9]


@pytest.mark.parametrize("retries", [1, 2])
def test_job_ends_with_cause_in_its_log(cloud, knot_of, switches, retries):
    knot = knot_of(square, retries=retries)
    with switches.on(Faults(bugs=1, only="/outputs/", services=("s3",))):
        future = knot.map([4])
        until(lambda: future.job.states.get("FAILED"), LONG)
        # The fast path and boto3's own requests, in each attempt.
        assert switches.injected()["bugs"] <= 3 * (2 + REPEATED_BUGS) * retries
    with pytest.raises(ck.CloudknotError) as caught:
        future.result(LONG)
    text = "because of a bug in it: KeyError"
    assert text in str(caught.value) or until(lambda: text in "".join(future.job.logs()))


# Takes the half minute for which a session waits for a cloud that fails.
@pytest.mark.more
def test_wait_for_results_ends_with_cause(cloud, knot_of, switches):
    future = knot_of(time.sleep).map([0.5])
    with switches.on(Faults(bugs=1, services=("batch", "s3"))), pytest.raises(ck.BatchJobFailedError, match=CAUSE):
        future.result(LONG)
