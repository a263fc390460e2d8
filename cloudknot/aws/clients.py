"""Typed clients with boto3's own names and types. Their calls go through a `Door` and raise cloudknot's errors.

``clients.batch(cloud).describe_jobs(jobs=ids)["jobs"]`` calls ``cloud.call("batch", "describe_jobs", jobs=ids)``, and
``clients.batch(cloud).get_paginator("list_jobs").paginate(jobQueue=queue)`` iterates over
``cloud.pages("batch", "list_jobs", jobQueue=queue)``. To a type checker, the client is boto3's own as described by
``types_boto3_batch``. These packages are not imported at run time.

The module itself is also a dictionary, for scripts of the earlier cloudknot: ``cloudknot.aws.clients["s3"]`` is the
client of boto3 itself, with the current settings.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from botocore.client import BaseClient
    from types_boto3_batch import BatchClient
    from types_boto3_cloudformation import CloudFormationClient
    from types_boto3_ec2 import EC2Client
    from types_boto3_ecr import ECRClient
    from types_boto3_iam import IAMClient
    from types_boto3_logs import CloudWatchLogsClient
    from types_boto3_s3 import S3Client
    from types_boto3_sts import STSClient

    from cloudknot.aws.images.codebuild import CodeBuildClient
SERVICES = ("batch", "cloudformation", "ec2", "ecr", "ecs", "iam", "logs", "s3", "sts")


# Overloads of `Cloud.call` for each operation would be a second list of AWS's API to maintain.
class Caller(Protocol):
    """A `Cloud`, a `Door`, or the fake of a test."""

    def call(self, service: str, operation: str, /, **arguments: object) -> object: ...
    def pages(self, service: str, operation: str, /, **arguments: object) -> Iterator[object]: ...


class _Client:
    """One AWS service, with boto3's method for each operation."""

    def __init__(self, caller: Caller, service: str) -> None:
        self._caller, self._service = caller, service

    def __getattr__(self, operation: str) -> Callable[..., object]:
        return partial(self._caller.call, self._service, operation)

    def get_paginator(self, operation: str) -> _Paginator:
        return _Paginator(self._caller, self._service, operation)


class _Paginator:
    """One paginated operation."""

    def __init__(self, caller: Caller, service: str, operation: str) -> None:
        self.paginate = partial(caller.pages, service, operation)


def batch(caller: Caller) -> BatchClient:
    """Return AWS Batch reached through ``caller``."""
    return cast("BatchClient", _Client(caller, "batch"))


def cloudformation(caller: Caller) -> CloudFormationClient:
    """Return CloudFormation reached through ``caller``."""
    return cast("CloudFormationClient", _Client(caller, "cloudformation"))


def codebuild(caller: Caller) -> CodeBuildClient:
    """Return CodeBuild reached through ``caller``."""
    return cast("CodeBuildClient", _Client(caller, "codebuild"))


def ec2(caller: Caller) -> EC2Client:
    """Return EC2 reached through ``caller``."""
    return cast("EC2Client", _Client(caller, "ec2"))


def ecr(caller: Caller) -> ECRClient:
    """Return ECR reached through ``caller``."""
    return cast("ECRClient", _Client(caller, "ecr"))


def iam(caller: Caller) -> IAMClient:
    """Return IAM reached through ``caller``."""
    return cast("IAMClient", _Client(caller, "iam"))


def logs(caller: Caller) -> CloudWatchLogsClient:
    """Return CloudWatch Logs reached through ``caller``."""
    return cast("CloudWatchLogsClient", _Client(caller, "logs"))


def s3(caller: Caller) -> S3Client:
    """Return S3 reached through ``caller``."""
    return cast("S3Client", _Client(caller, "s3"))


def sts(caller: Caller) -> STSClient:
    """Return STS reached through ``caller``."""
    return cast("STSClient", _Client(caller, "sts"))


class _Dictionary(ModuleType):
    """This module with the keys of a dictionary: the names of AWS's services."""

    def __getitem__(self, service: str) -> BaseClient:
        """Return boto3's client for a service, in the cloud of the current settings."""
        # By its name, because that module imports this one.
        client: BaseClient = import_module("cloudknot.aws.sdk.earlier").client_of(service)
        return client

    def __iter__(self) -> Iterator[str]:
        """Iterate over the services that cloudknot uses. Others are available, too."""
        return iter(SERVICES)

    def __len__(self) -> int:
        return len(SERVICES)

    def keys(self) -> tuple[str, ...]:
        """Return the services that cloudknot uses."""
        return SERVICES


# Python's data model, "Customizing module attribute access". An object of another class would be replaced, because an
# import sets the attribute of the package to the module.
sys.modules[__name__].__class__ = _Dictionary
