"""The one table that turns boto3's errors into cloudknot's, in words for a scientist who does not know AWS.

Only `Door` may call it, so that an AWS error is translated once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from cloudknot.aws.regions import check_region, is_on_by_default
from cloudknot.errors import (
    ClockSkewError,
    CloudError,
    CloudknotError,
    CredentialsError,
    PermissionDeniedError,
    ProfileException,
    QuotaExceededError,
    RegionException,
    ResourceDoesNotExistException,
    ResourceExistsException,
)
from cloudknot.worker.s3.retries import is_failed_renewal

NO_CREDENTIALS = (
    "No AWS credentials were found. To run on AWS, run `aws configure`, or set the environment variable AWS_PROFILE, "
    "or both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. To run on this machine without AWS, pass "
    'Knot(..., cloud="local") or set CLOUDKNOT_CLOUD=local.'
)
BAD_CREDENTIALS = (
    "AWS does not accept your credentials ({code}). They are wrong, or they have expired. Jobs that are already "
    "submitted keep running. Renew the credentials (for example with `aws sso login`), test them with "
    "`aws sts get-caller-identity`, and call again."
)
CLOCK = (
    "The clock of this machine is wrong. AWS refuses requests whose time is minutes early or late. Set the clock "
    "(on Linux: `timedatectl set-ntp true`) and call again."
)
REGION_OFF = (
    "The region {region} is not switched on for your AWS account. AWS leaves every region opened since 2019 off until "
    "the account switches it on. Run `aws account enable-region --region-name {region}`, or use another region: "
    "cloudknot.set_region(...)."
)
QUOTA = (
    "Your AWS account has reached its limit for the resources that {operation} creates. Remove knots that you no "
    "longer need (`cloudknot list` shows them, `cloudknot clobber NAME` removes one), or ask AWS for a higher limit "
    "in its Service Quotas console."
)
THROTTLED = "AWS received {operation} calls too often. Wait a minute and call again."
ANSWER = "AWS answered {operation} with {code}: {message}"

SILENCE = "Check the network and call again."

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
    "LimitExceeded",
    "LimitExceededException",
    "ServiceQuotaExceededException",
    "TooManyBuckets",
    "VcpuLimitExceeded",
}
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


def translate(error: Exception, operation: str, silence: str = SILENCE, region: str = "") -> CloudknotError:
    """Return the cloudknot error that stands for a botocore one. The caller raises it ``from`` the original.

    Parameters
    ----------
    error : Exception
    operation : str
        The call that failed, for example ``"batch:submit_job"``.
    silence : str
        The fix to suggest when no answer came.
    region : str
        The region of the call, where a wrong region can be the cause; empty otherwise.
    """
    from botocore import exceptions

    if isinstance(error, exceptions.ClientError):
        return _translate_answer(error.response.get("Error", {}), operation, region)
    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return CredentialsError(NO_CREDENTIALS)
    if isinstance(error, exceptions.ProfileNotFound):
        return ProfileException(f"{error}. Call cloudknot.list_profiles() to see the profiles of this machine.")
    if isinstance(error, _login_errors()) or is_failed_renewal(error):
        return CredentialsError(BAD_CREDENTIALS.format(code=error))
    if isinstance(error, exceptions.ParamValidationError):
        text = f"{operation} was not called, because boto3 does not accept its parameters: {error}"
        return CloudError(text, code="ParamValidationError", operation=operation)
    if isinstance(error, exceptions.InvalidRegionError | exceptions.EndpointConnectionError) and region:
        return _unreachable(error, operation, silence, region)
    return _unanswered(error, operation, silence)


def _unanswered(error: Exception, operation: str, silence: str) -> CloudError:
    return CloudError(f"{operation} got no answer: {str(error).rstrip('.')}. {silence}", operation=operation)


def _login_errors() -> tuple[type[Exception], ...]:
    """Return botocore's errors for a login that has ended or cannot be read."""
    from botocore import exceptions

    names = ("CredentialRetrievalError", "LoginError", "NoAuthTokenError", "SSOError", "TokenRetrievalError")
    # Older versions of botocore lack some of these.
    return tuple(getattr(exceptions, name) for name in names if hasattr(exceptions, name))


def _unreachable(error: Exception, operation: str, silence: str, region: str) -> CloudknotError:
    """Return the error for an endpoint without a server: the region is misspelt, or there is no network."""
    try:
        check_region(region)
    except RegionException as misspelt:
        return misspelt
    return _unanswered(error, operation, silence)


def _translate_answer(answer: Mapping[str, object], operation: str, region: str) -> CloudknotError:
    code, message = str(answer.get("Code", "")), str(answer.get("Message", ""))
    # AWS's own words come last: they hold identifiers and jargon, and the fix must not get lost behind them.
    quote = ANSWER.format(operation=operation, code=code, message=message)
    if code in CLOCK_CODES or (code in SIGNATURE_CODES and _CLOCK_TEXT.search(message)):
        return ClockSkewError(f"{CLOCK} {quote}")
    if code == "OptInRequired":
        return RegionException(f"{REGION_OFF.format(region=region)} {quote}")
    if code in EXPIRED_CODES | UNKNOWN_KEY_CODES | SIGNATURE_CODES:
        # A region that is switched off knows none of the account's keys, so a valid key looks unknown there.
        off = region and code in UNKNOWN_KEY_CODES and not is_on_by_default(region)
        hint = f"Or the region is the cause. {REGION_OFF.format(region=region)} " if off else ""
        return CredentialsError(f"{BAD_CREDENTIALS.format(code=code)} {hint}{quote}")
    if code in QUOTA_CODES or (code.endswith("LimitExceeded") and code not in THROTTLING_CODES):
        return QuotaExceededError(f"{QUOTA.format(operation=operation)} {quote}", code=code, operation=operation)
    if code in THROTTLING_CODES:
        return CloudError(f"{THROTTLED.format(operation=operation)} {quote}", code=code, operation=operation)
    kind = ERROR_TABLE.get(code, CloudError)
    if kind is PermissionDeniedError:
        return _denied(quote, message, code, operation)
    return kind(f"AWS refused {operation}: {code}: {message}", code=code, operation=operation)


def _denied(quote: str, message: str, code: str, operation: str) -> PermissionDeniedError:
    from cloudknot.aws.permissions.denials import advice

    problem = f"Your AWS credentials do not allow {operation}."
    text = " ".join(filter(None, (problem, advice(message, operation), quote)))
    return PermissionDeniedError(text, code=code, operation=operation)
