"""Errors of AWS, credentials and network, as boto3 raises them."""

from __future__ import annotations

from botocore import exceptions

from cloudknot.aws.error_table import translate, translate_creation
from cloudknot.aws.permissions.managed_policies import policy_arns
from cloudknot.aws.permissions.policies import Scope, policy
from cloudknot.worker.s3.answers import WrongAnswer
from cloudknot.worker.s3.retries import BUG_HEADER
from tests.integration.messages.catalogue import Area, World

AREA = Area("AWS")
ANSWERS = {
    "ExpiredToken": "The security token included in the request is expired",
    "InvalidClientTokenId": "The security token included in the request is invalid.",
    "SignatureDoesNotMatch": "The request signature we calculated does not match the signature you provided.",
    "RequestTimeTooSkewed": "The difference between the request time and the current time is too large.",
    "OptInRequired": "You are not subscribed to this service. Please go to http://aws.amazon.com to subscribe.",
    "LimitExceededException": "Cannot exceed quota for RolesPerAccount: 1000",
    "ThrottlingException": "Rate exceeded",
    "AccessDenied": "User: arn:aws:iam::1:user/me is not authorized to perform: batch:SubmitJob on resource: x",
    "NoSuchBucket": "The specified bucket does not exist",
    "BucketAlreadyExists": "The requested bucket name is not available.",
    "InsufficientStorage": "A disk of the embedded cloud is full: no space is left in /tmp. Free space there.",
    "MissingDataFile": "The data file /tmp/data/00/00-1 of this object is missing. Store the object again.",
    "RegistryUnavailable": "The registry 127.0.0.1:5000 does not answer: refused. Start the registry.",
    "ClientException": "JobQueue x not found",
}


@AREA.case
def answers_of_aws(world: World) -> list[Exception]:
    return [
        translate(exceptions.ClientError({"Error": {"Code": code, "Message": text}}, "x"), "batch:SubmitJob")
        for code, text in ANSWERS.items()
    ]


@AREA.case
def unknown_key_in_disabled_region(world: World) -> Exception:
    answer = {"Error": {"Code": "UnrecognizedClientException", "Message": "The security token is invalid."}}
    return translate(exceptions.ClientError(answer, "x"), "batch:SubmitJob", region="ap-east-1")  # type: ignore[arg-type]


@AREA.case
def requests_without_answer(world: World) -> list[Exception]:
    unreachable = exceptions.EndpointConnectionError(endpoint_url="https://batch.us-east-1.amazonaws.com/")
    return [
        translate(exceptions.NoCredentialsError(), "batch:SubmitJob"),
        translate(exceptions.ProfileNotFound(profile="lab"), "session"),
        translate(exceptions.TokenRetrievalError(provider="sso", error_msg="Token has expired"), "batch:SubmitJob"),
        translate(exceptions.ParamValidationError(report="Missing jobName"), "batch:SubmitJob"),
        translate(unreachable, "batch:SubmitJob", region="us-east-1"),
        translate(unreachable, "batch:SubmitJob", region="us-esat-1"),
        translate(exceptions.ReadTimeoutError(endpoint_url="https://s3.amazonaws.com/"), "s3:GetObject"),
        translate(exceptions.IncompleteReadError(actual_bytes=10, expected_bytes=1000), "batch:SubmitJob"),
        translate(WrongAnswer("it lacks jobId"), "batch:SubmitJob"),
    ]


@AREA.case
def bug_in_the_embedded_cloud(world: World) -> Exception:
    text = (
        "The embedded cloud failed because of a bug in it: KeyError in local/batch/engine.py, line 7. Try again. "
        "If it happens again, file an issue with the traceback at the end of /tmp/cloud/server.log."
    )
    answer = {"Error": {"Code": "InternalError"}, "ResponseMetadata": {"HTTPHeaders": {BUG_HEADER: text}}}
    return translate(exceptions.ClientError(answer, "x"), "s3:head_bucket")  # type: ignore[arg-type]


@AREA.case
def settings_that_boto3_cannot_use(world: World) -> list[Exception]:
    return [
        translate_creation(exceptions.InvalidRegionError(region_name=" eu-west-1"), "sts"),
        translate_creation(ValueError("Invalid endpoint: localhost:4566"), "sts"),
        translate(FileNotFoundError(2, "No such file or directory", "/no/token"), "sts:get_caller_identity"),
    ]


@AREA.case
def policy_of_unknown_level(world: World) -> object:
    return policy("owner", Scope())


@AREA.case
def policy_that_is_too_long(world: World) -> object:
    others = tuple(f"arn:aws:iam::123456789012:policy/{number:0100}" for number in range(30))
    return policy("create", Scope(boundary="arn:aws:iam::123456789012:policy/lab", policies=others))


@AREA.case
def missing_managed_policy(world: World) -> object:
    return policy_arns(world.cloud, {"AmazonS3FulAccess": "pars_policies"})


@AREA.case
def kinds_of_denied_calls(world: World) -> list[Exception]:
    texts = [
        "User: x is not authorized to perform: batch:SubmitJob on resource: y with an explicit deny in a policy",
        "User: x is not authorized to perform: dynamodb:GetItem on resource: y",
        "User: x is not authorized to perform: kms:Decrypt on resource: y",
        "User: x is not authorized to perform: iam:CreateRole on resource: y",
        "User: x is not authorized to perform: s3:GetObject because no permissions boundary allows the action",
        "Access Denied",
    ]
    answers = [exceptions.ClientError({"Error": {"Code": "AccessDenied", "Message": text}}, "x") for text in texts]
    return [translate(answer, "s3:get_object") for answer in answers]
