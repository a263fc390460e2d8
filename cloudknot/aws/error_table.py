"""The one table that turns boto3's errors into cloudknot's, in words for a scientist who does not know AWS.

Only `Door` may call it, so that an AWS error is translated once. The text of the new error quotes the old one, and
Python would print a hundred lines of botocore before it. So the old one is not its cause, but its ``__context__``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from cloudknot.aws.sdk.regions import check_region, is_on_by_default
from cloudknot.aws.sdk.settings.credentials import missing_credentials
from cloudknot.aws.sdk.settings.profiles import file_error
from cloudknot.errors import (
    ClockSkewError,
    CloudError,
    CloudknotConfigurationError,
    CloudknotError,
    CredentialsError,
    PermissionDeniedError,
    QuotaExceededError,
    RegionException,
    ResourceDoesNotExistException,
    ResourceExistsException,
)
from cloudknot.worker.s3.retries import bug_of, code_of, is_failed_renewal

RENEW_CREDENTIALS = (
    "Jobs that are already submitted keep running. Renew your credentials (for example with `aws sso login`), test "
    "them with `aws sts get-caller-identity`, and try again."
)
CLOCK = (
    "The clock of this machine is wrong. AWS refuses requests whose time is minutes early or late. Set the clock "
    "(on Linux: `timedatectl set-ntp true`) and try again."
)
REGION_OFF = (
    "The AWS region {region} is not switched on for your account. Regions that AWS opened since 2019 are off until an "
    "account switches them on. Run `aws account enable-region --region-name {argument}`, or use another region: "
    "cloudknot.set_region(...)."
)
UNKNOWN_KEY = "AWS does not know your access key."
UNKNOWN_KEY_OR_REGION = (
    f"{UNKNOWN_KEY} Perhaps the region {{region}} is not switched on for your account, because regions that AWS "
    "opened since 2019 are off until an account switches them on. In that case, run "
    "`aws account enable-region --region-name {region}`, or use another region: cloudknot.set_region(...). Otherwise "
    f"the key is wrong. {RENEW_CREDENTIALS}"
)
QUOTA = (
    "Your AWS account has reached its limit for the resources that {operation} creates. Remove knots that you no "
    "longer need (`cloudknot list` shows them, `cloudknot clobber NAME` removes one), or ask AWS for a higher limit "
    "in its Service Quotas console."
)
BATCH_QUOTA = (
    "AWS Batch allows 50 job queues and 50 compute environments for an account in a region, and does not raise these "
    "quotas. Let knots share them: Knot(..., compute='NAME') runs on the queue and the machines of the knot NAME. Or "
    "remove knots that you no longer need (`cloudknot list` shows them, `cloudknot clobber NAME` removes one)."
)
"""Advice for the quotas in the AWS Batch user guide, "Service quotas"."""
THROTTLED = "AWS received too many {operation} calls in a short time. Wait a minute and try again."
BAD_PARAMETERS = (
    "{operation} was not called, because boto3 does not accept its parameters. Upgrade boto3 "
    "(`pip install --upgrade boto3`) and try again. boto3's error: {error}"
)
UNUSABLE_SETTINGS = (
    "boto3 cannot use your AWS settings for {operation}: {error}. Correct the setting in AWS's config or credentials "
    "file, or in an environment variable that begins with AWS_. `aws configure list` shows the settings in use."
)
PROBLEMS: dict[type[CloudError], str] = {
    ResourceDoesNotExistException: "{operation} needs a resource that does not exist{where}. Check its name, and the "
    "cloud and region in use.",
    ResourceExistsException: "The name that {operation} would use is taken in AWS. Choose another name, or delete the "
    "existing resource.",
    CloudError: "AWS refused {operation}. Correct the cause that AWS names, and try again.",
}
"""Problem and fix by the type of error, for codes without a message of their own."""
ANSWER = "AWS answered {operation} with {code}: {message}"

WRONG_ANSWER = (
    "{operation} got {error}. A proxy, or the login page of your network (a captive "
    "portal), has probably answered in place of AWS. Check in a browser that you are logged in to the network, or "
    "correct HTTPS_PROXY and NO_PROXY, and try again."
)
PART_OF_ANSWER = "{operation} got only a part of its answer: {error}. {silence}"

SILENCE = "Check the network and try again."

ERROR_TABLE: dict[str, type[CloudError]] = {
    "AccessDenied": PermissionDeniedError,
    "AccessDeniedException": PermissionDeniedError,
    "UnauthorizedOperation": PermissionDeniedError,
    "AuthorizationError": PermissionDeniedError,
    "NoSuchBucket": ResourceDoesNotExistException,
    "NoSuchKey": ResourceDoesNotExistException,
    # A HEAD request has no body, so boto3 uses the HTTP status as the code.
    "403": PermissionDeniedError,
    "404": ResourceDoesNotExistException,
    "NoSuchEntity": ResourceDoesNotExistException,
    "ImageNotFoundException": ResourceDoesNotExistException,
    "RepositoryNotFoundException": ResourceDoesNotExistException,
    "ResourceNotFoundException": ResourceDoesNotExistException,
    "PreconditionFailed": ResourceExistsException,
    "BucketAlreadyOwnedByYou": ResourceExistsException,
    "BucketAlreadyExists": ResourceExistsException,
    "AlreadyExistsException": ResourceExistsException,
    "EntityAlreadyExists": ResourceExistsException,
    "ImageAlreadyExistsException": ResourceExistsException,
    "RepositoryAlreadyExistsException": ResourceExistsException,
    "ResourceAlreadyExistsException": ResourceExistsException,
}
EXPIRED_CODES = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"}
UNKNOWN_KEY_CODES = {"AuthFailure", "InvalidAccessKeyId", "InvalidClientTokenId", "UnrecognizedClientException"}
SIGNATURE_CODES = {"IncompleteSignature", "InvalidSignatureException", "SignatureDoesNotMatch"}
CLOCK_CODES = {"RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"}
QUOTA_CODES = {
    "AccountLimitExceededException",
    "LimitExceeded",
    "LimitExceededException",
    "ServiceQuotaExceededException",
    "TooManyBuckets",
    "VcpuLimitExceeded",
}
COMPLETE_CODES = {"InsufficientStorage", "MissingDataFile", "RegistryUnavailable"}
"""Codes that only the embedded cloud has. Their messages have problem and fix already."""
THROTTLING_CODES = {
    "RequestLimitExceeded",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}
# Most services report a wrong clock with the code of a wrong signature, so only the text distinguishes the two.
# IAM user guide, "Troubleshoot Signature Version 4": "Signature expired: ... is now earlier than ...", "Signature not
# yet current: ... is still later than ...".
_CLOCK_TEXT = re.compile(r"signature expired|not yet current", re.IGNORECASE)


OTHER_OWNER = (
    "Or another AWS account owns the bucket. cloudknot uses such a bucket only if you name its owner: "
    "cloudknot.set_s3_params(bucket=..., owner='ACCOUNT')."
)

PLAIN_HTTP = (
    "Or the policy of the bucket demands TLS, as in each bucket that cloudknot makes, and the endpoint {endpoint} has "
    "none. Use an endpoint that begins with https:// (AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_S3, or endpoint_url in "
    "~/.aws/config)."
)


def translate(
    error: Exception, operation: str, silence: str = SILENCE, region: str = "", endpoint: str = "", place: str = ""
) -> CloudknotError:
    """Return the cloudknot error that stands for a botocore one. The caller raises it ``from None``.

    Parameters
    ----------
    error : Exception
    operation : str
        The call that failed, for example ``"batch:submit_job"``.
    silence : str
        The fix to suggest when no answer came.
    region : str
        The region of the call, where a wrong region can be the cause; empty otherwise.
    endpoint : str
        The address that was called; empty for the embedded cloud.
    place : str
        The cloud as `Cloud.place` describes it; empty where the message must not name it.
    """
    from botocore import exceptions

    from cloudknot.worker.s3.answers import WrongAnswer

    if isinstance(error, exceptions.ClientError):
        if bug := bug_of(error):
            return CloudError(f"{operation} failed. {bug}", code=code_of(error), operation=operation)
        answer = {**error.response.get("Error", {}), "Code": code_of(error)}
        return _translate_answer(answer, operation, region, endpoint, place)
    if isinstance(error, WrongAnswer):
        return CloudError(WRONG_ANSWER.format(operation=operation, error=error), operation=operation)
    if isinstance(error, exceptions.IncompleteReadError):
        text = PART_OF_ANSWER.format(operation=operation, error=str(error).rstrip("."), silence=silence)
        return CloudError(text, operation=operation)
    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return CredentialsError(missing_credentials(error, place))
    if isinstance(error, exceptions.ProfileNotFound | exceptions.ConfigParseError):
        return file_error(error)
    if isinstance(error, _login_errors()) or is_failed_renewal(error):
        problem = f"Your AWS login has ended or cannot be used: {str(error).rstrip('.')}."
        return CredentialsError(f"{problem} {RENEW_CREDENTIALS}")
    # Of the errors of the system, only those about a file have its name: for example a token that a setting names.
    if isinstance(error, OSError) and error.filename:
        return _unusable(error, operation)
    if isinstance(error, exceptions.ParamValidationError):
        text = BAD_PARAMETERS.format(operation=operation, error=error)
        return CloudError(text, code="ParamValidationError", operation=operation)
    if isinstance(error, exceptions.InvalidRegionError | exceptions.EndpointConnectionError) and region:
        return _unreachable(error, operation, silence, region, place)
    return _unanswered(error, operation, silence, place)


def translate_creation(error: Exception, service: str) -> CloudknotError:
    """Return the cloudknot error for a client that boto3 cannot make. The caller raises it ``from None``."""
    from botocore import exceptions

    if isinstance(error, exceptions.InvalidRegionError):
        try:
            check_region(str(error.kwargs["region_name"]))
        except RegionException as misspelt:
            return misspelt
    translated = translate(error, service)
    # Only a look for the credentials of a machine or a container sends requests at this time.
    asks = isinstance(error, exceptions.HTTPClientError | exceptions.MetadataRetrievalError)
    return translated if asks or type(translated) is not CloudError else _unusable(error, service)


def _unusable(error: Exception, operation: str) -> CloudknotConfigurationError:
    text = UNUSABLE_SETTINGS.format(operation=operation, error=str(error).rstrip("."))
    return CloudknotConfigurationError(text)


def _unanswered(error: Exception, operation: str, silence: str, place: str) -> CloudError:
    where = place and f" from {place}"
    return CloudError(f"{operation} got no answer{where}: {str(error).rstrip('.')}. {silence}", operation=operation)


def _login_errors() -> tuple[type[Exception], ...]:
    """Return botocore's errors for a login that has ended or cannot be read."""
    from botocore import exceptions

    names = ("CredentialRetrievalError", "LoginError", "NoAuthTokenError", "SSOError", "TokenRetrievalError")
    # Older versions of botocore lack some of these.
    return tuple(getattr(exceptions, name) for name in names if hasattr(exceptions, name))


def _unreachable(error: Exception, operation: str, silence: str, region: str, place: str) -> CloudknotError:
    """Return the error for an endpoint without a server: the region is misspelt, or there is no network."""
    try:
        check_region(region)
    except RegionException as misspelt:
        return misspelt
    return _unanswered(error, operation, silence, place)


def _translate_answer(
    answer: Mapping[str, object], operation: str, region: str, endpoint: str, place: str
) -> CloudknotError:
    code, message = str(answer.get("Code", "")), str(answer.get("Message", ""))
    # AWS's own words come last: they hold identifiers and jargon, and the fix must not get lost behind them.
    quote = ANSWER.format(operation=operation, code=code, message=message)
    if code in COMPLETE_CODES:
        return CloudError(message, code=code, operation=operation)
    if code in CLOCK_CODES or (code in SIGNATURE_CODES and _CLOCK_TEXT.search(message)):
        return ClockSkewError(f"{CLOCK} {quote}")
    if code == "OptInRequired":
        return RegionException(f"{_region_off(region)} {quote}")
    if code in EXPIRED_CODES | UNKNOWN_KEY_CODES | SIGNATURE_CODES:
        return CredentialsError(f"{_credentials_problem(code, region)} {quote}")
    if code in QUOTA_CODES or (code.endswith("LimitExceeded") and code not in THROTTLING_CODES):
        return QuotaExceededError(f"{QUOTA.format(operation=operation)} {quote}", code=code, operation=operation)
    if code in THROTTLING_CODES:
        return CloudError(f"{THROTTLED.format(operation=operation)} {quote}", code=code, operation=operation)
    kind = ERROR_TABLE.get(code, CloudError)
    if kind is PermissionDeniedError:
        return _denied(quote, message, code, operation, endpoint)
    problem = PROBLEMS[kind].format(operation=operation, where=place and f" in {place}")
    return kind(f"{problem} {quote}", code=code, operation=operation)


def _credentials_problem(code: str, region: str) -> str:
    if code in EXPIRED_CODES:
        return f"Your AWS credentials have expired. {RENEW_CREDENTIALS}"
    if code in SIGNATURE_CODES:
        return f"Your AWS secret access key is wrong: it does not match your access key ID. {RENEW_CREDENTIALS}"
    # A region that is switched off knows none of the account's keys, so a valid key looks unknown there.
    if region and not is_on_by_default(region):
        return UNKNOWN_KEY_OR_REGION.format(region=region)
    return f"{UNKNOWN_KEY} {RENEW_CREDENTIALS}"


def _region_off(region: str) -> str:
    return REGION_OFF.format(region=region or "in use", argument=region or "REGION")


def _denied(quote: str, message: str, code: str, operation: str, endpoint: str) -> PermissionDeniedError:
    from cloudknot.aws.permissions.denials import advice

    problem = f"Your AWS credentials do not allow {operation}."
    # S3 explains a denial by the caller's own policies, but not that of an unexpected owner.
    owner = OTHER_OWNER if operation.startswith("s3:") and "not authorized to perform" not in message else ""
    is_plain = operation.startswith("s3:") and endpoint.startswith("http://")
    plain = PLAIN_HTTP.format(endpoint=endpoint) if is_plain else ""
    text = " ".join(filter(None, (problem, advice(message, operation), owner, plain, quote)))
    return PermissionDeniedError(text, code=code, operation=operation)
