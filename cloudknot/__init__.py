"""Run your own Python function on AWS Batch, from your own Python session.

>>> import cloudknot as ck
>>> knot = ck.Knot(name="pi-calc", func=monte_pi_count)  # doctest: +SKIP
>>> future = knot.map(args)  # doctest: +SKIP
>>> future.result()  # doctest: +SKIP
"""

from cloudknot.aws import Cloud
from cloudknot.docker_image import DockerImage
from cloudknot.errors import (
    BatchJobFailedError,
    CannotCreateResourceException,
    CannotDeleteResourceException,
    CKTimeoutError,
    ClockSkewError,
    CloudError,
    CloudknotConfigurationError,
    CloudknotError,
    CloudknotInputError,
    CredentialsError,
    DependencyFailedError,
    ElementError,
    HostLostError,
    ImageError,
    ImagePullError,
    JobCancelledError,
    JobNotSubmittedError,
    JobRunningError,
    JobStuckError,
    JobTimeoutError,
    OutOfMemoryError,
    PermissionDeniedError,
    ProfileException,
    QuotaExceededError,
    RegionException,
    ResourceClobberedException,
    ResourceDoesNotExistException,
    ResourceExistsException,
    ResultMissingError,
    SpotInterruptedError,
    TaskStartError,
    WorkerDiedError,
)
from cloudknot.futures import MapFuture
from cloudknot.inventory import KnotInfo, list_knots
from cloudknot.job import BatchJob
from cloudknot.knot import Knot
from cloudknot.local import LocalCloud
from cloudknot.pars import Pars
from cloudknot.repo import DockerRepo
from cloudknot.settings import (
    get_ecr_repo,
    get_profile,
    get_region,
    get_s3_params,
    list_profiles,
    refresh_clients,
    set_ecr_repo,
    set_profile,
    set_region,
    set_s3_params,
)

__version__ = "1.0.0.dev0"

__all__ = [
    "BatchJob",
    "BatchJobFailedError",
    "CKTimeoutError",
    "CannotCreateResourceException",
    "CannotDeleteResourceException",
    "ClockSkewError",
    "Cloud",
    "CloudError",
    "CloudknotConfigurationError",
    "CloudknotError",
    "CloudknotInputError",
    "CredentialsError",
    "DependencyFailedError",
    "DockerImage",
    "DockerRepo",
    "ElementError",
    "HostLostError",
    "ImageError",
    "ImagePullError",
    "JobCancelledError",
    "JobNotSubmittedError",
    "JobRunningError",
    "JobStuckError",
    "JobTimeoutError",
    "Knot",
    "KnotInfo",
    "LocalCloud",
    "MapFuture",
    "OutOfMemoryError",
    "Pars",
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
    "__version__",
    "get_ecr_repo",
    "get_profile",
    "get_region",
    "get_s3_params",
    "list_knots",
    "list_profiles",
    "refresh_clients",
    "set_ecr_repo",
    "set_profile",
    "set_region",
    "set_s3_params",
]
