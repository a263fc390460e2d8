"""The one error table: what boto3 raises, as errors of our tree, in words for people who do not know AWS."""

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
from cloudknot.worker.s3.retries import are_still_expired

NO_CREDENTIALS = (
    "No AWS credentials were found. Either set them up for AWS (run `aws configure`, or set AWS_PROFILE or "
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY), or run on this machine without AWS: "
    'Knot(..., cloud="local") or the environment variable CLOUDKNOT_CLOUD=local.'
)
BAD_CREDENTIALS = (
    "AWS does not accept the credentials in use ({code}). Renew them (for example `aws sso login`), check "
    "`aws sts get-caller-identity`, and call again; jobs already submitted go on."
)
CLOCK = (
    "The clock of this machine is wrong, and AWS accepts no request that is minutes early or late. Set it (on Linux "
    "`timedatectl set-ntp true`) and call again. AWS said of {operation}: {code}: {message}"
)
REGION_OFF = (
    "The region {region} is not switched on for your account, as those opened since 2019 are until somebody does "
    "(`aws account enable-region --region-name {region}`). Switch it on, or use another: cloudknot.set_region(...)."
)
QUOTA = (
    "Your account's limit for what {operation} makes is reached: {code}: {message}. Remove what is not needed "
    "(`cloudknot list` shows your knots, `cloudknot clobber NAME` removes one), or ask AWS for more "
    "(Service Quotas in its console)."
)
THROTTLED = "AWS was asked {operation} too often ({code}: {message}). Call again in a moment."

SILENCE = "Check the network and call again."

ERROR_TABLE: dict[str, type[CloudError]] = {
    "AccessDenied": PermissionDeniedError,
    "AccessDeniedException": PermissionDeniedError,
    "UnauthorizedOperation": PermissionDeniedError,
    "AuthorizationError": PermissionDeniedError,
    "NoSuchBucket": ResourceDoesNotExistException,
    "NoSuchKey": ResourceDoesNotExistException,
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
# IAM user guide, "Troubleshoot Signature Version 4": "Signature expired: ... is now earlier than ...", "Signature not
# yet current: ... is still later than ...".
_CLOCK_WORDS = re.compile(r"signature expired|not yet current", re.IGNORECASE)


def translate(error: Exception, operation: str, silence: str = SILENCE, region: str = "") -> CloudknotError:
    """The error of our tree that stands for a botocore one; raise it ``from`` the original.

    ``silence`` says what to do when there was no answer; ``region`` is that of the call, where it may be at fault.
    """
    from botocore import exceptions

    if isinstance(error, exceptions.ClientError):
        return _translate_answer(error.response.get("Error", {}), operation, region)
    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return CredentialsError(NO_CREDENTIALS)
    if isinstance(error, exceptions.ProfileNotFound):
        return ProfileException(f"{error}. `cloudknot.list_profiles()` shows the profiles of this machine.")
    if isinstance(error, _lost_logins()) or are_still_expired(error):
        return CredentialsError(BAD_CREDENTIALS.format(code=error))
    if isinstance(error, exceptions.ParamValidationError):
        return CloudError(f"{operation} was not sent: {error}", code="ParamValidationError", operation=operation)
    if isinstance(error, exceptions.InvalidRegionError | exceptions.EndpointConnectionError) and region:
        return _unreachable(error, operation, silence, region)
    return _unanswered(error, operation, silence)


def _unanswered(error: Exception, operation: str, silence: str) -> CloudError:
    return CloudError(f"{operation} got no answer: {str(error).rstrip('.')}. {silence}", operation=operation)


def _lost_logins() -> tuple[type[Exception], ...]:
    """What botocore raises when a login that it could use is over, or cannot be read."""
    from botocore import exceptions

    names = ("CredentialRetrievalError", "LoginError", "NoAuthTokenError", "SSOError", "TokenRetrievalError")
    return tuple(getattr(exceptions, name) for name in names if hasattr(exceptions, name))


def _unreachable(error: Exception, operation: str, silence: str, region: str) -> CloudknotError:
    """No server of the name that the region makes: the region is misspelt, or the network is away."""
    try:
        check_region(region)
    except RegionException as unknown:
        return unknown
    return _unanswered(error, operation, silence)


def _translate_answer(answer: Mapping[str, object], operation: str, region: str) -> CloudknotError:
    code, message = str(answer.get("Code", "")), str(answer.get("Message", ""))
    said = {"operation": operation, "code": code, "message": message}
    if code in CLOCK_CODES or (code in SIGNATURE_CODES and _CLOCK_WORDS.search(message)):
        return ClockSkewError(CLOCK.format(**said))
    if code == "OptInRequired":
        return RegionException(f"{REGION_OFF.format(region=region)} AWS said of {operation}: {message}")
    if code in EXPIRED_CODES | UNKNOWN_KEY_CODES | SIGNATURE_CODES:
        # A region that is off knows no key at all.
        off = region and code in UNKNOWN_KEY_CODES and not is_on_by_default(region)
        hint = f"Or it is the region: {REGION_OFF.format(region=region)} " if off else ""
        return CredentialsError(f"{BAD_CREDENTIALS.format(code=code)} {hint}AWS said of {operation}: {message}")
    if code in QUOTA_CODES or (code.endswith("LimitExceeded") and code not in THROTTLING_CODES):
        return QuotaExceededError(QUOTA.format(**said), code=code, operation=operation)
    if code in THROTTLING_CODES:
        return CloudError(THROTTLED.format(**said), code=code, operation=operation)
    kind = ERROR_TABLE.get(code, CloudError)
    text = f"AWS refused {operation}: {code}: {message}"
    if kind is PermissionDeniedError:
        from cloudknot.aws.permissions.denials import advice

        text = f"{text.rstrip('. ')}. {advice(message, operation)}"
    return kind(text, code=code, operation=operation)
