"""Every exception that cloudknot raises, in one tree.

::

    CloudknotError
    ├── CloudknotInputError (ValueError)        an argument is refused; nothing was made
    ├── CloudknotConfigurationError             settings or credentials do not work
    │   ├── ProfileException                    no such AWS profile
    │   ├── RegionException                     no such AWS region, or it is off
    │   ├── ClockSkewError                      the clock of this machine is wrong
    │   └── CredentialsError                    no AWS credentials, or expired ones
    ├── CloudError                              the cloud refused a call, or cannot be reached
    │   ├── ResourceDoesNotExistException
    │   ├── ResourceExistsException
    │   ├── PermissionDeniedError
    │   ├── QuotaExceededError                  the account has no more of that
    │   ├── CannotCreateResourceException
    │   └── CannotDeleteResourceException
    ├── ResourceClobberedException              the knot was clobbered
    ├── ImageError                              the program's image could not be made
    ├── BatchJobFailedError                     an element has no result
    │   ├── ElementError                        the function ended without a value that travels
    │   ├── WorkerDiedError                     the element's process died
    │   │   └── OutOfMemoryError                it was killed for using more memory than it had
    │   ├── JobTimeoutError (TimeoutError)      the attempt ran longer than its timeout
    │   ├── HostLostError                       the machine went away under the job
    │   │   └── SpotInterruptedError            because AWS took Spot capacity back
    │   ├── TaskStartError                      the container could not be started
    │   │   └── ImagePullError                  because its image could not be pulled
    │   ├── JobStuckError                       no machine of the queue could take the job
    │   ├── JobCancelledError                   the job was cancelled or terminated
    │   ├── DependencyFailedError               a job that it waited for failed
    │   ├── JobNotSubmittedError                its job was never submitted
    │   └── ResultMissingError                  no result is stored, and Batch names no failure
    ├── JobRunningError                         what is asked for must wait until the job has ended
    └── CKTimeoutError (TimeoutError)           a wait ended before the result was there

An exception that the user's own function raised is not in this tree: it is raised again as it was, with the
remote traceback as its ``__cause__``.

This module imports nothing of cloudknot.
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
    "TaskStartError",
    "WorkerDiedError",
]


class CloudknotError(Exception):
    """Base class of every error that cloudknot raises."""


class CloudknotInputError(CloudknotError, ValueError):
    """An argument is not acceptable. Nothing was created or submitted."""


def refuse(*, problem: str, fix: str, cause: str = "") -> NoReturn:
    """Raise `CloudknotInputError` with a message of whole sentences: problem, cause, fix.

    Parameters
    ----------
    problem : str
        The argument and its value, and the rule that it breaks: ``"retries=0 is not a whole number from 1 to 10."``
    fix : str
        A sentence that the reader can act on, best with an expression to paste: ``"Pass for example retries=3."``
    cause : str, default ""
        Why the rule exists, if that helps: ``"Batch makes ten attempts at most."``
    """
    raise CloudknotInputError(" ".join(filter(None, (problem, cause, fix))))


class CloudknotConfigurationError(CloudknotError):
    """The settings or credentials in use do not work."""


class ProfileException(CloudknotConfigurationError):
    """The AWS profile asked for does not exist."""


class RegionException(CloudknotConfigurationError):
    """The AWS region asked for does not exist, or is not switched on for the account."""


class ClockSkewError(CloudknotConfigurationError):
    """The clock of this machine is minutes wrong, so that AWS accepts none of its requests."""


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


class QuotaExceededError(CloudError):
    """The account's limit for something is reached."""


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
    attempt : int
        The attempt of its job that failed, from 1, as Batch counts them: those that AWS took away, too. 0 when it
        never ran, or that is not known.
    exit_code : int or None
        Exit code of the element's process, where it is known.
    reason : str
        Why, in AWS's words; empty when AWS gave no reason.
    log_url : str
        Where the output of that process is.
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
    """The function ended, but with nothing that could be sent back as it was.

    It called ``sys.exit``, its result or its exception cannot be pickled, or the program could not be loaded.
    """


class WorkerDiedError(BatchJobFailedError):
    """The process that ran the element died before it stored a result."""


class OutOfMemoryError(WorkerDiedError):
    """The process was killed because it used more memory than its job had.

    `MapFuture.retry_failed` with ``memory=`` runs the element again with more, and ``Knot(..., memory_growth=2)``
    does that by itself.
    """


class JobTimeoutError(BatchJobFailedError, TimeoutError):
    """The element's attempt ran longer than the job's timeout."""


class HostLostError(BatchJobFailedError):
    """The machine went away under the job, or stopped answering, in each of the attempts that Batch made."""


class SpotInterruptedError(HostLostError):
    """AWS took the Spot capacity back on which the job ran.

    Of EC2 instances Batch reports this as any other loss of a host, a `HostLostError`.
    """


class TaskStartError(BatchJobFailedError):
    """The job's container could not be started."""


class ImagePullError(TaskStartError):
    """The job's image could not be pulled from its registry."""


class JobStuckError(BatchJobFailedError):
    """The job was ended while it waited: no machine of the queue could take it, or none was to be had."""


class JobCancelledError(BatchJobFailedError):
    """The job was cancelled or terminated before the element had a result."""


class DependencyFailedError(BatchJobFailedError):
    """The job did not run, because a job that it waited for failed."""


class JobNotSubmittedError(BatchJobFailedError):
    """The element's job was never submitted: the session that submitted jobs one by one ended half-way."""


class ResultMissingError(BatchJobFailedError):
    """No result is stored, and no failure is known: Batch calls the job a success, or has forgotten it."""


class JobRunningError(CloudknotError):
    """The job still runs, so what failed of it cannot be run again yet. Nothing was submitted."""


class CKTimeoutError(CloudknotError, TimeoutError):
    """A wait ended before the result was there. The job goes on."""
