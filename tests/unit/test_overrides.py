"""What a map has in place of the knot's, against botocore's own model of SubmitJob."""

import itertools

import boto3
import pytest
from botocore.validate import validate_parameters

from cloudknot.options import Overrides
from cloudknot.overrides import with_overrides
from cloudknot.resources import job_definition, retry_strategy

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


@pytest.mark.parametrize("retries", [1, 2, 10])
def test_attempts_follow_the_rules_of_the_job_definition(retries):
    parameters = dict.fromkeys(("Vcpus", "Memory", "Image", "JobRole", "ExecutionRole", "JobDefinitionName"), "1")
    definition = job_definition({**parameters, "Gpus": "0", "Timeout": "0", "Retries": str(retries)}, "us-east-1")
    request = with_overrides(REQUEST, Overrides(retries=retries))
    assert request["retryStrategy"] == definition["retryStrategy"] == retry_strategy(retries)
    assert request["retryStrategy"]["evaluateOnExit"][-1]["action"] == ("EXIT" if retries == 1 else "RETRY")
