"""The exceptions that cloudknot raises, in one tree. This module imports nothing from cloudknot.

::

    CloudknotError
    ├── CloudknotInputError (ValueError)        an argument is invalid; nothing was created
    │   └── UnknownArgumentError (TypeError)    a keyword is misspelt
    ├── CloudknotConfigurationError             settings or credentials are unusable
    │   ├── ProfileException                    the AWS profile does not exist
    │   ├── RegionException                     the AWS region does not exist or is disabled
    │   ├── ClockSkewError                      the clock of this machine is wrong
    │   └── CredentialsError                    AWS credentials are missing or expired
    ├── CloudError                              the cloud refused a call or is unreachable
    │   ├── ResourceDoesNotExistException       a resource is missing
    │   ├── ResourceExistsException             the name is already in use
    │   ├── PermissionDeniedError               the credentials lack a permission
    │   ├── QuotaExceededError                  a limit of the account is reached
    │   ├── CannotCreateResourceException       creation failed and was undone
    │   └── CannotDeleteResourceException       deletion failed
    ├── ResourceClobberedException              the knot was clobbered
    ├── ImageError                              the image could not be built
    ├── BatchJobFailedError                     an element has no result
    │   ├── ElementError                        its result or exception cannot be stored
    │   ├── WorkerDiedError                     its process died
    │   │   └── OutOfMemoryError                the process exceeded its memory
    │   ├── JobTimeoutError (TimeoutError)      the attempt exceeded its timeout
    │   ├── HostLostError                       the machine of the job was lost
    │   │   └── SpotInterruptedError            AWS reclaimed the Spot capacity
    │   ├── TaskStartError                      the container did not start
    │   │   └── ImagePullError                  its image could not be pulled
    │   ├── JobStuckError                       no machine was available for the job
    │   ├── JobCancelledError                   the job was cancelled or terminated
    │   ├── DependencyFailedError               a job in depends_on failed
    │   ├── JobNotSubmittedError                its job was never submitted
    │   └── ResultMissingError                  no result is stored; the reason is unknown
    ├── StoredDataError                         a stored object of a run is damaged, or of a newer cloudknot
    ├── JobRunningError                         the job has not ended yet
    └── CKTimeoutError (TimeoutError)           a wait ended before the result was ready

An exception of the user's own function is not in this tree. cloudknot raises it again unchanged, with the remote
traceback as its ``__cause__``.
"""

from __future__ import annotations

from typing import NoReturn

__all__ = [
    "BatchJobFailedError",
    "CKTimeoutError",
    "CannotCreateResourceException",
    "CannotDeleteResourceException",
    "ClockSkewError",
    "CloudError",
    "CloudknotConfigurationError",
    "CloudknotError",
    "CloudknotInputError",
    "CredentialsError",
    "DependencyFailedError",
    "ElementError",
    "HostLostError",
    "ImageError",
    "ImagePullError",
    "JobCancelledError",
    "JobNotSubmittedError",
    "JobRunningError",
    "JobStuckError",
    "JobTimeoutError",
    "OutOfMemoryError",
    "PermissionDeniedError",
    "ProfileException",
    "QuotaExceededError",
    "RegionException",
    "ResourceClobberedException",
    "ResourceDoesNotExistException",
    "ResourceExistsException",
    "ResultMissingError",
    "SpotInterruptedError",
    "StoredDataError",
    "TaskStartError",
    "UnknownArgumentError",
    "WorkerDiedError",
]


class CloudknotError(Exception):
    """Base class of all errors that cloudknot raises."""


# Also a ValueError, as Python's own functions raise for an invalid argument.
class CloudknotInputError(CloudknotError, ValueError):
    """An invalid argument. Nothing was created or submitted."""


# Also a TypeError, as Python itself raises for an unexpected keyword.
class UnknownArgumentError(CloudknotInputError, TypeError):
    """A keyword argument that the function does not have. Nothing was created or submitted."""


class JobTraceback(Exception):
    """The traceback in a job: the cause of an exception that the user's function raised there.

    The exception is the user's own, so its class does not show that it comes from a job.
    """


def refuse(*, problem: str, fix: str, cause: str = "") -> NoReturn:
    """Raise `CloudknotInputError` with a message of complete sentences: problem, cause, fix.

    Parameters
    ----------
    problem : str
        The argument, its value and the broken rule: ``"retries=0 is not a whole number from 1 to 10."``
    fix : str
        An instruction, ideally with an expression to paste: ``"Pass for example retries=3."``
    cause : str, default ""
        The reason for the rule, if it helps the reader: ``"Batch makes ten attempts at most."``
    """
    raise CloudknotInputError(" ".join(filter(None, (problem, cause, fix))))


class CloudknotConfigurationError(CloudknotError):
    """Unusable settings or credentials."""


class ProfileException(CloudknotConfigurationError):
    """An AWS profile that does not exist on this machine."""


class RegionException(CloudknotConfigurationError):
    """An AWS region that does not exist or is not enabled for the account."""


class ClockSkewError(CloudknotConfigurationError):
    """A machine clock that is wrong by minutes. AWS then rejects all requests."""


class CredentialsError(CloudknotConfigurationError):
    """Missing, invalid or expired AWS credentials."""


class CloudError(CloudknotError):
    """A call that the cloud refused, or that did not reach the cloud.

    Attributes
    ----------
    code : str
        The error code of AWS, for example ``"ThrottlingException"``. Empty if no answer arrived.
    operation : str
        The call, for example ``"batch:SubmitJob"``. Empty if no call was made.
    resource_id : str
        The name or id of the resource, for example of the knot. Empty if it is unknown.
    """

    def __init__(self, message: str, *, code: str = "", operation: str = "", resource_id: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.operation = operation
        self.resource_id = resource_id


class ResourceDoesNotExistException(CloudError):
    """A resource, such as a knot, that does not exist in the cloud."""


class ResourceExistsException(CloudError):
    """A name that another resource already has."""


class PermissionDeniedError(CloudError):
    """A call for which the current credentials lack a permission."""


class QuotaExceededError(CloudError):
    """A limit of the AWS account, such as its number of vCPUs, that is reached."""


class CannotCreateResourceException(CloudError):
    """A resource that could not be created. Its finished parts were removed again."""


class CannotDeleteResourceException(CloudError):
    """A resource that could not be deleted."""


# Not a CloudError, because it is raised before any call.
class ResourceClobberedException(CloudknotError):
    """A clobbered knot, which can no longer be used.

    Attributes
    ----------
    resource_id : str
        The name of the knot, Pars, repository or image.
    """

    def __init__(self, message: str, *, resource_id: str = "") -> None:
        super().__init__(message)
        self.resource_id = resource_id


class ImageError(CloudknotError):
    """An image that could not be built or pushed.

    Attributes
    ----------
    instruction : str
        The failed instruction of the Dockerfile. Empty if the failure has another origin.
    log : str
        The last lines of its output.
    """

    def __init__(self, message: str, *, instruction: str = "", log: str = "") -> None:
        super().__init__(message)
        self.instruction = instruction
        self.log = log


class BatchJobFailedError(CloudknotError):
    """An element of a map that ended without a result.

    Attributes
    ----------
    index : int or None
        The element's position in the input, from 0.
    job_id : str
        The id of the Batch job that processed the element. In an array job, the id of the child job.
    attempt : int
        The failed attempt of that job, from 1. Attempts that AWS interrupted count, too. 0 if the element never ran
        or the number is unknown.
    exit_code : int or None
        The exit code of the element's process, if known.
    reason : str
        The reason in AWS's words. Empty if AWS gave none.
    log_url : str
        The address of the process's output.
    """

    def __init__(
        self,
        message: str,
        *,
        index: int | None = None,
        job_id: str = "",
        attempt: int = 0,
        exit_code: int | None = None,
        reason: str = "",
        log_url: str = "",
    ) -> None:
        super().__init__(message)
        self.index = index
        self.job_id = job_id
        self.attempt = attempt
        self.exit_code = exit_code
        self.reason = reason
        self.log_url = log_url


class ElementError(BatchJobFailedError):
    """A call of the function that produced no storable result or exception.

    The function called ``sys.exit``, its result or exception cannot be pickled, or the job could not load the program.
    """


class WorkerDiedError(BatchJobFailedError):
    """A process that died before it stored the element's result."""


class OutOfMemoryError(WorkerDiedError):
    """A process that was killed because it exceeded the memory of its job.

    ``future.retry_failed(memory=16000)`` runs the element again with more memory. ``Knot(..., memory_growth=2)`` does
    so automatically.
    """


# Both timeouts are also the TimeoutError of concurrent.futures, which callers of futures expect.
class JobTimeoutError(BatchJobFailedError, TimeoutError):
    """An attempt that ran longer than the job's ``timeout``."""


class HostLostError(BatchJobFailedError):
    """A machine that was lost while the job ran, or stopped responding, in every attempt that Batch made."""


class SpotInterruptedError(HostLostError):
    """A Fargate Spot job that AWS interrupted to reclaim its capacity.

    On EC2 Spot instances, such a job raises `HostLostError`, because Batch reports only the loss of the machine.
    """


class TaskStartError(BatchJobFailedError):
    """A container that did not start."""


class ImagePullError(TaskStartError):
    """An image that could not be pulled from its registry."""


class JobStuckError(BatchJobFailedError):
    """A job that was ended while it waited, because no machine fits it or AWS had none available."""


class JobCancelledError(BatchJobFailedError):
    """A job that was cancelled or terminated before the element had a result."""


class DependencyFailedError(BatchJobFailedError):
    """A job that did not run because a job in its ``depends_on`` failed."""


class JobNotSubmittedError(BatchJobFailedError):
    """An element whose job was never submitted, because the session ended while it was submitting jobs one by one."""


class ResultMissingError(BatchJobFailedError):
    """An element without a stored result or a known failure. Batch reports success, or has forgotten the job."""


class StoredDataError(CloudknotError):
    """A stored object of a run, such as its manifest, that is damaged or has the format of a newer cloudknot.

    A damaged result concerns one element, and raises `ElementError`.
    """


class JobRunningError(CloudknotError):
    """A job that still runs, so its failed elements cannot be retried yet. Nothing was submitted.

    Attributes
    ----------
    job_id : str
        The id of the Batch job.
    """

    def __init__(self, message: str, *, job_id: str = "") -> None:
        super().__init__(message)
        self.job_id = job_id


class CKTimeoutError(CloudknotError, TimeoutError):
    """A wait that ended before the result was ready. The job continues.

    Attributes
    ----------
    job_id : str
        The id of the Batch job.
    """

    def __init__(self, message: str = "", *, job_id: str = "") -> None:
        super().__init__(message)
        self.job_id = job_id
