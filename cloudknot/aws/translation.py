"""The one error table: what boto3 raises, as errors of our tree, in words for people who do not know AWS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cloudknot.errors import (
    CloudError,
    CloudknotError,
    CredentialsError,
    PermissionDeniedError,
    ProfileException,
    ResourceDoesNotExistException,
    ResourceExistsException,
)

NO_CREDENTIALS = (
    "No AWS credentials were found. Either set them up for AWS (run `aws configure`, or set AWS_PROFILE or "
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY), or run on this machine without AWS: "
    'Knot(..., cloud="local") or the environment variable CLOUDKNOT_CLOUD=local.'
)
BAD_CREDENTIALS = (
    "AWS does not accept the credentials in use ({code}). Renew them (for example `aws sso login`), check "
    "`aws sts get-caller-identity`, and call again; jobs already submitted go on."
)

SILENCE = "Check the network and call again."

ERROR_TABLE: dict[str, type[CloudError]] = {
    "AccessDenied": PermissionDeniedError,
    "AccessDeniedException": PermissionDeniedError,
    "UnauthorizedOperation": PermissionDeniedError,
    "AuthorizationError": PermissionDeniedError,
    "NoSuchBucket": ResourceDoesNotExistException,
    "NoSuchKey": ResourceDoesNotExistException,
    "404": ResourceDoesNotExistException,
    "NoSuchEntity": ResourceDoesNotExistException,
    "ImageNotFoundException": ResourceDoesNotExistException,
    "RepositoryNotFoundException": ResourceDoesNotExistException,
    "ResourceNotFoundException": ResourceDoesNotExistException,
    "BucketAlreadyOwnedByYou": ResourceExistsException,
    "BucketAlreadyExists": ResourceExistsException,
    "AlreadyExistsException": ResourceExistsException,
    "EntityAlreadyExists": ResourceExistsException,
    "ImageAlreadyExistsException": ResourceExistsException,
    "RepositoryAlreadyExistsException": ResourceExistsException,
    "ResourceAlreadyExistsException": ResourceExistsException,
}
CREDENTIAL_CODES = {
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "RequestExpired",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
    "AuthFailure",
}


def foreign_errors() -> tuple[type[Exception], ...]:
    """What a call can raise: refusals, requests that got no answer, and answers that make no sense."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    return BotoCoreError, ClientError, ResponseParserError


def translate(error: Exception, operation: str, silence: str = SILENCE) -> CloudknotError:
    """The error of our tree that stands for a botocore one; raise it ``from`` the original.

    ``silence`` says what to do when there was no answer.
    """
    from botocore import exceptions

    if isinstance(error, exceptions.ClientError):
        return _translate_answer(error.response.get("Error", {}), operation)
    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return CredentialsError(NO_CREDENTIALS)
    if isinstance(error, exceptions.ProfileNotFound):
        return ProfileException(f"{error}. `cloudknot.list_profiles()` shows the profiles of this machine.")
    if isinstance(error, exceptions.TokenRetrievalError | exceptions.CredentialRetrievalError):
        return CredentialsError(BAD_CREDENTIALS.format(code=error))
    if isinstance(error, exceptions.ParamValidationError):
        return CloudError(f"{operation} was not sent: {error}", operation=operation)
    return CloudError(f"{operation} got no answer: {error}. {silence}", operation=operation)


def _translate_answer(answer: Mapping[str, Any], operation: str) -> CloudknotError:
    code, message = str(answer.get("Code", "")), str(answer.get("Message", ""))
    if code in CREDENTIAL_CODES:
        return CredentialsError(f"{BAD_CREDENTIALS.format(code=code)} AWS said of {operation}: {message}")
    kind = ERROR_TABLE.get(code, CloudError)
    return kind(f"AWS refused {operation}: {code}: {message}", code=code, operation=operation)
