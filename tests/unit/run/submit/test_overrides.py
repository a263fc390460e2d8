"""What a map has in place of the knot's, against botocore's own model of SubmitJob."""

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


@pytest.mark.parametrize("given", list(itertools.product((None, 900), (None, 2), (None, 60), (None, 1, 5))))
def test_every_combination_is_a_request_that_botocore_takes(given):
    overrides = Overrides.make(**dict(zip(("memory", "vcpus", "timeout", "retries"), given, strict=True)))
    request = with_overrides(REQUEST, overrides)
    validate_parameters(request, MODEL.input_shape)
    assert {key: request[key] for key in ("jobName", "jobQueue", "jobDefinition")} == {
        key: REQUEST[key] for key in ("jobName", "jobQueue", "jobDefinition")
    }
    assert request["containerOverrides"].items() >= REQUEST["containerOverrides"].items()


def test_without_overrides_the_request_is_as_it_was():
    assert with_overrides(REQUEST, Overrides()) == REQUEST


def test_what_is_not_given_is_left_to_the_job_definition():
    request = with_overrides(REQUEST, Overrides(memory=900))
    assert request["containerOverrides"]["resourceRequirements"] == [{"type": "MEMORY", "value": "900"}]
    assert "timeout" not in request
    assert "retryStrategy" not in request


def test_attempts_are_counted_by_the_worker():
    """The rules of the job definition are the same for any number: the manifest tells the worker."""
    assert with_overrides(REQUEST, Overrides(retries=5)) == REQUEST
