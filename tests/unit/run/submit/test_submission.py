"""The longest request that a map can send to SubmitJob. AWS fails a job with longer overrides."""

import json

import boto3
import pytest
from botocore.validate import validate_parameters

from cloudknot.aws.tags import with_own
from cloudknot.deploy.cloudformation import template
from cloudknot.errors import CloudknotInputError
from cloudknot.options.choices import MapOptions
from cloudknot.options.validators import MAX_ENVIRONMENT, MAX_TAGS
from cloudknot.run.submit.dependencies import Dependencies
from cloudknot.run.submit.overrides import with_overrides
from cloudknot.run.submit.start_run import _requests
from cloudknot.run.submit.submit_job import Submission
from cloudknot.worker.wire.keys import RunKeys, shared_key
from cloudknot.worker.wire.manifest import Manifest
from cloudknot.worker.wire.seal import FORMAT

MAX_OVERRIDES = 8192
"""Characters. AWS fails a job above it: "Container Overrides length must be at most 8192"."""
MODEL = boto3.Session(region_name="us-east-1").client("batch").meta.service_model.operation_model("SubmitJob")
KNOT, BUCKET, RUN = "k" * 55, "b" * 63, "20261124T065124884127-a905db"
ARN = "arn:aws-us-gov:batch:ap-southeast-1:123456789012"
QUEUE, DEFINITION = f"{ARN}:job-queue/{'q' * 128}", f"{ARN}:job-definition/{'d' * 128}:12345"
KEYS = RunKeys.of(BUCKET, KNOT, RUN)


def longest_manifest(job_type):
    """Return a manifest with the longest value of each field."""
    return Manifest(
        count=999_999_999,
        chunksize=100_000,
        starmap=True,
        attempts=10,
        knot=KNOT,
        run_id=RUN,
        function="f" * 1000,
        image="i" * 1000,
        created="2026-11-24T06:51:24+00:00",
        stride=8_388_608,
        job_type=job_type,
        kwargs=shared_key(KNOT, "0" * 64),
        kwargs_size=10**12,
        source=KEYS.url,
        source_count=999_999_999,
        source_chunksize=100_000,
        source_job="12345678-1234-1234-1234-123456789012",
        gather=True,
        own_function=True,
        job_queue=QUEUE,
        job_definition=DEFINITION,
        sse="aws:kms",
        version=FORMAT,
        source_version=FORMAT,
        python="3.11",
    )


def longest_tags():
    """Return as many characters of tags as fit into the template of a knot."""
    text, tags = template.load("knot"), {}
    for number in range(MAX_TAGS):
        for size in (256, 1):
            more = {**tags, f"key{number}": "v" * size}
            try:
                template.fill_in(text, with_own(more, f"{KNOT}-cloudknot"))
            except CloudknotInputError:
                continue
            tags = more
            break
    return with_own(tags, f"{KNOT}-cloudknot")


@pytest.mark.parametrize("job_type", ["array", "independent"])
@pytest.mark.parametrize("character", ["x", '"', "\u00e9"])
def test_longest_request_stays_within_limits_of_aws(job_type, character):
    room = MAX_ENVIRONMENT - len(json.dumps({"name": "V", "value": ""})) - 2
    text = character * (room // len(json.dumps(character)[1:-1]))
    options = MapOptions.of_map(
        env_vars={"V": text}, job_type=job_type, memory=10**6, vcpus=256, timeout=10**6, retries=10
    )
    waits = Dependencies(tuple({"jobId": "1" * 36, "type": "N_TO_N"} for _ in range(20)))
    request = next(_requests(Submission(KEYS, longest_manifest(job_type), tags=longest_tags()), options, waits))
    request = with_overrides({"jobName": f"{KNOT}-{RUN}", **request}, options.overrides)
    validate_parameters(request, MODEL.input_shape)
    assert len(json.dumps(request["containerOverrides"])) <= MAX_OVERRIDES
    assert len(json.dumps(request)) <= 30 * 1024
