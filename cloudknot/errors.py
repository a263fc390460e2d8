"""Every exception that cloudknot raises, in one tree.

::

    CloudknotError
    ├── CloudknotInputError (ValueError)        an argument is refused; nothing was made
    ├── CloudknotConfigurationError             settings or credentials do not work
    │   ├── ProfileException                    no such AWS profile
    │   ├── RegionException                     no such AWS region
    │   └── CredentialsError                    no AWS credentials, or expired ones
    ├── CloudError                              the cloud refused a call, or cannot be reached
    │   ├── ResourceDoesNotExistException
    │   ├── ResourceExistsException
    │   ├── PermissionDeniedError
    │   ├── CannotCreateResourceException
    │   └── CannotDeleteResourceException
    ├── ResourceClobberedException              the knot was clobbered
    ├── ImageError                              the program's image could not be made
    ├── BatchJobFailedError                     an element has no result
    │   ├── ElementError                        the function ended without a value that travels
    │   ├── WorkerDiedError                     the element's process died
    │   ├── JobTimeoutError (TimeoutError)      the attempt ran longer than its timeout
    │   └── JobCancelledError                   the job was cancelled or terminated
    └── CKTimeoutError (TimeoutError)           a wait ended before the result was there

An exception that the user's own function raised is not in this tree: it is raised again as it was, with the
remote traceback as its ``__cause__``.

This module imports nothing of cloudknot.
"""

from __future__ import annotations

__all__ = [
    "BatchJobFailedError",
    "CKTimeoutError",
    "CannotCreateResourceException",
    "CannotDeleteResourceException",
    "CloudError",
    "CloudknotConfigurationError",
    "CloudknotError",
    "CloudknotInputError",
    "CredentialsError",
    "ElementError",
    "ImageError",
    "JobCancelledError",
    "JobTimeoutError",
    "PermissionDeniedError",
    "ProfileException",
    "RegionException",
    "ResourceClobberedException",
    "ResourceDoesNotExistException",
    "ResourceExistsException",
    "WorkerDiedError",
]


class CloudknotError(Exception):
    """Base class of every error that cloudknot raises."""


class CloudknotInputError(CloudknotError, ValueError):
    """An argument is not acceptable. Nothing was created or submitted."""


class CloudknotConfigurationError(CloudknotError):
    """The settings or credentials in use do not work."""


class ProfileException(CloudknotConfigurationError):
    """The AWS profile asked for does not exist."""


class RegionException(CloudknotConfigurationError):
    """The AWS region asked for does not exist."""


class CredentialsError(CloudknotConfigurationError):
    """There are no usable AWS credentials."""


class CloudError(CloudknotError):
    """A call to the cloud was refused or could not be made.

    Attributes
    ----------
    code : str
        AWS's error code, for example ``"ThrottlingException"``; empty when no answer came.
    operation : str
        The call, for example ``"batch:SubmitJob"``; empty when there was none.
    """

    def __init__(self, message: str, *, code: str = "", operation: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.operation = operation


class ResourceDoesNotExistException(CloudError):
    """Something that was asked for does not exist in the cloud."""


class ResourceExistsException(CloudError):
    """Something of that name exists already."""


class PermissionDeniedError(CloudError):
    """The credentials in use may not make this call."""


class CannotCreateResourceException(CloudError):
    """A resource could not be created; what had been made of it was removed again."""


class CannotDeleteResourceException(CloudError):
    """A resource could not be deleted."""


class ResourceClobberedException(CloudknotError):
    """The knot was clobbered and cannot be used any more."""


class ImageError(CloudknotError):
    """The program's image could not be made.

    Attributes
    ----------
    instruction : str
        The instruction of the Dockerfile that failed; empty when it was something else.
    log : str
        The last lines that it printed.
    """

    def __init__(self, message: str, *, instruction: str = "", log: str = "") -> None:
        super().__init__(message)
        self.instruction = instruction
        self.log = log


class BatchJobFailedError(CloudknotError):
    """An element of a map ended without a result.

    Attributes
    ----------
    index : int or None
        The element's position in the input, from 0.
    job_id : str
        The Batch job (of an array, the child) that had the element.
    exit_code : int or None
        Exit code of the element's process, where it is known.
    log_url : str
        Where the output of that process is.
    """

    def __init__(
        self,
        message: str,
        *,
        index: int | None = None,
        job_id: str = "",
        exit_code: int | None = None,
        log_url: str = "",
    ) -> None:
        super().__init__(message)
        self.index = index
        self.job_id = job_id
        self.exit_code = exit_code
        self.log_url = log_url


class ElementError(BatchJobFailedError):
    """The function ended, but with nothing that could be sent back as it was.

    It called ``sys.exit``, its result or its exception cannot be pickled, or the program could not be loaded.
    """


class WorkerDiedError(BatchJobFailedError):
    """The process that ran the element died before it stored a result."""


class JobTimeoutError(BatchJobFailedError, TimeoutError):
    """The element's attempt ran longer than the job's timeout."""


class JobCancelledError(BatchJobFailedError):
    """The job was cancelled or terminated before the element had a result."""


class CKTimeoutError(CloudknotError, TimeoutError):
    """A wait ended before the result was there. The job goes on."""
