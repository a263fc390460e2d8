"""The errors of the object store, with the codes, messages and HTTP statuses of Amazon S3."""

from __future__ import annotations

from cloudknot.local.wsgi import ServiceError

ERRORS: dict[str, tuple[int, str]] = {
    "BadDigest": (400, "The Content-MD5 or checksum value that you specified did not match what we received."),
    "BucketAlreadyExists": (
        409,
        "The requested bucket name is not available. The bucket namespace is shared by all users of the system. "
        "Please select a different name and try again.",
    ),
    "BucketAlreadyOwnedByYou": (
        409,
        "Your previous request to create the named bucket succeeded and you already own it.",
    ),
    "BucketNotEmpty": (409, "The bucket you tried to delete is not empty"),
    "EntityTooLarge": (400, "Your proposed upload exceeds the maximum allowed size"),
    "EntityTooSmall": (400, "Your proposed upload is smaller than the minimum allowed size"),
    "InvalidPart": (
        400,
        "One or more of the specified parts could not be found. The part may not have been uploaded, or the "
        "specified entity tag may not match the part's entity tag.",
    ),
    "InvalidPartOrder": (
        400,
        "The list of parts was not in ascending order. Parts must be ordered by part number.",
    ),
    "MalformedXML": (
        400,
        "The XML you provided was not well-formed or did not validate against our published schema",
    ),
    "MethodNotAllowed": (405, "The specified method is not allowed against this resource."),
    "NoSuchBucket": (404, "The specified bucket does not exist"),
    "NoSuchKey": (404, "The specified key does not exist."),
    "NoSuchUpload": (
        404,
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or "
        "completed.",
    ),
    "NoSuchVersion": (404, "The specified version does not exist."),
    "PreconditionFailed": (412, "At least one of the pre-conditions you specified did not hold"),
    "SlowDown": (503, "Please reduce your request rate."),
}
"""The HTTP status and message of each error code."""


class S3Error(ServiceError):
    """A refusal by S3.

    Parameters
    ----------
    code : str
        One of `ERRORS`, or another code with its own ``message`` and ``status``.
    resource : str, optional
        The bucket, the key, the version or the upload that the error is about.
    message : str, optional
        Default: AWS's message for the code.
    status : int, optional
        Default: the HTTP status for the code.
    marker : str, optional
        The version of the delete marker that hides the object. S3 names it in its answer.
    """

    def __init__(self, code: str, resource: str = "", message: str = "", status: int = 0, marker: str = "") -> None:
        usual_status, usual_message = ERRORS.get(code, (400, code))
        super().__init__(code, message or usual_message, status or usual_status)
        self.resource, self.marker = resource, marker
