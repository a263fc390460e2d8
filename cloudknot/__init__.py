"""Run your own Python function on AWS Batch, from your own Python session.

>>> import cloudknot as ck
>>> knot = ck.Knot(name="pi-calc", func=monte_pi_count)  # doctest: +SKIP
>>> future = knot.map(args)  # doctest: +SKIP
>>> future.result()  # doctest: +SKIP

Importing cloudknot loads no other module of the package. Each public name loads its module at its first use (PEP 562).
"""

from __future__ import annotations

# After the main thread has ended, Python refuses to import this module, and another thread may still use cloudknot.
import concurrent.futures.thread  # noqa: F401
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cloudknot import aws as aws
    from cloudknot import errors as errors
    from cloudknot import local as local
    from cloudknot.aws.cloud import Cloud
    from cloudknot.aws.settings import (
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
    from cloudknot.deploy.inventory import KnotInfo, list_knots
    from cloudknot.deploy.pars import Pars
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
        StoredDataError,
        TaskStartError,
        UnknownArgumentError,
        WorkerDiedError,
    )
    from cloudknot.image.docker_image import DockerImage
    from cloudknot.image.repository import DockerRepo
    from cloudknot.knot import Knot
    from cloudknot.local.session.cloud import LocalCloud
    from cloudknot.run.collect.map_future import MapFuture
    from cloudknot.run.jobs.job import BatchJob
    from cloudknot.worker.program.seeds import element_index, seed

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
    "StoredDataError",
    "TaskStartError",
    "UnknownArgumentError",
    "WorkerDiedError",
    "__version__",
    "element_index",
    "get_ecr_repo",
    "get_profile",
    "get_region",
    "get_s3_params",
    "list_knots",
    "list_profiles",
    "refresh_clients",
    "seed",
    "set_ecr_repo",
    "set_profile",
    "set_region",
    "set_s3_params",
]

# A script that only reads a setting must not load boto3 or Docker's client. So names are grouped by module, and the
# module of a name is imported only when the name is used.
_PLACES = {
    "cloudknot.aws.cloud": ("Cloud",),
    "cloudknot.image.docker_image": ("DockerImage",),
    "cloudknot.run.collect.map_future": ("MapFuture",),
    "cloudknot.deploy.inventory": ("KnotInfo", "list_knots"),
    "cloudknot.run.jobs.job": ("BatchJob",),
    "cloudknot.knot": ("Knot",),
    "cloudknot.local.session.cloud": ("LocalCloud",),
    "cloudknot.deploy.pars": ("Pars",),
    "cloudknot.image.repository": ("DockerRepo",),
    "cloudknot.worker.program.seeds": ("element_index", "seed"),
    "cloudknot.aws.settings": (
        "get_ecr_repo",
        "get_profile",
        "get_region",
        "get_s3_params",
        "list_profiles",
        "refresh_clients",
        "set_ecr_repo",
        "set_profile",
        "set_region",
        "set_s3_params",
    ),
}
_MODULE_OF = {name: module for module, names in _PLACES.items() for name in names}
_MODULES = ("aws", "errors", "local")
"""Modules that are attributes of the package without an import. Old notebooks use ``ck.aws``."""


if not TYPE_CHECKING:
    # Type checkers read the imports above. With this function, they would accept any name, even a misspelt one.
    def __getattr__(name):
        if name in _MODULES:
            return import_module(f"{__name__}.{name}")
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_MODULE_OF.get(name, "cloudknot.errors")), name)
        globals()[name] = value  # Later uses of the name skip this function.
        return value


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES])
