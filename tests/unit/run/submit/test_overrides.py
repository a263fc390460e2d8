"""Options of `map` in a request for SubmitJob, checked against botocore's model of it."""

import itertools

import boto3
import pytest
from botocore.validate import validate_parameters

from cloudknot.options.choices import Overrides
from cloudknot.run.submit.overrides import with_overrides

REQUEST = {
    "jobName": "a",
    "jobQueue": "q",
    "jobDefinition": "d",
    "containerOverrides": {"command": ["python"], "environment": [{"name": "A", "value": "b"}]},
}
MODEL = boto3.Session(region_name="us-east-1").client("batch").meta.service_model.operation_model("SubmitJob")


@pytest.mark.parametrize("values", list(itertools.product((None, 900), (None, 2), (None, 60), (None, 1, 5))))
def test_botocore_accepts_request_with_any_combination_of_overrides(values):
    overrides = Overrides.make(**dict(zip(("memory", "vcpus", "timeout", "retries"), values, strict=True)))
    request = with_overrides(REQUEST, overrides)
    validate_parameters(request, MODEL.input_shape)
    assert {key: request[key] for key in ("jobName", "jobQueue", "jobDefinition")} == {
        key: REQUEST[key] for key in ("jobName", "jobQueue", "jobDefinition")
    }
    assert request["containerOverrides"].items() >= REQUEST["containerOverrides"].items()


def test_empty_overrides_leave_request_unchanged():
    assert with_overrides(REQUEST, Overrides()) == REQUEST


def test_request_omits_options_that_job_definition_sets():
    request = with_overrides(REQUEST, Overrides(memory=900))
    assert request["containerOverrides"]["resourceRequirements"] == [{"type": "MEMORY", "value": "900"}]
    assert "timeout" not in request
    assert "retryStrategy" not in request


def test_request_omits_retries_that_worker_counts():
    """The job definition has the same retry rules for any number. The worker reads the number in the manifest."""
    assert with_overrides(REQUEST, Overrides(retries=5)) == REQUEST
