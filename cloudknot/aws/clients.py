"""Typed clients over the one door: boto3's own names and types, with errors of our tree.

``clients.batch(cloud).describe_jobs(jobs=ids)["jobs"]`` calls ``cloud.call("batch", "describe_jobs", jobs=ids)``, and
``clients.batch(cloud).get_paginator("list_jobs").paginate(jobQueue=queue)`` iterates over
``cloud.pages("batch", "list_jobs", jobQueue=queue)``. Type checkers take the client for boto3's own, as
``types_boto3_batch`` describes it. Nothing of these packages is imported at run time. No I/O of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from types_boto3_batch import BatchClient
    from types_boto3_cloudformation import CloudFormationClient
    from types_boto3_ec2 import EC2Client
    from types_boto3_ecr import ECRClient
    from types_boto3_iam import IAMClient
    from types_boto3_logs import CloudWatchLogsClient
    from types_boto3_s3 import S3Client
    from types_boto3_sts import STSClient


class Caller(Protocol):
    """A `Cloud`, a `Door`, or the fake of a test."""

    def call(self, service: str, operation: str, /, **arguments: object) -> object: ...
    def pages(self, service: str, operation: str, /, **arguments: object) -> Iterator[object]: ...


class _Client:
    """One service of a caller, with boto3's methods for each operation."""

    def __init__(self, caller: Caller, service: str) -> None:
        self._caller, self._service = caller, service

    def __getattr__(self, operation: str) -> Callable[..., object]:
        return partial(self._caller.call, self._service, operation)

    def get_paginator(self, operation: str) -> _Paginator:
        return _Paginator(self._caller, self._service, operation)


class _Paginator:
    """One paginated operation of a caller."""

    def __init__(self, caller: Caller, service: str, operation: str) -> None:
        self.paginate = partial(caller.pages, service, operation)


def batch(caller: Caller) -> BatchClient:
    """Return AWS Batch as ``caller`` reaches it."""
    return cast("BatchClient", _Client(caller, "batch"))


def cloudformation(caller: Caller) -> CloudFormationClient:
    """Return CloudFormation as ``caller`` reaches it."""
    return cast("CloudFormationClient", _Client(caller, "cloudformation"))


def ec2(caller: Caller) -> EC2Client:
    """Return EC2 as ``caller`` reaches it."""
    return cast("EC2Client", _Client(caller, "ec2"))


def ecr(caller: Caller) -> ECRClient:
    """Return ECR as ``caller`` reaches it."""
    return cast("ECRClient", _Client(caller, "ecr"))


def iam(caller: Caller) -> IAMClient:
    """Return IAM as ``caller`` reaches it."""
    return cast("IAMClient", _Client(caller, "iam"))


def logs(caller: Caller) -> CloudWatchLogsClient:
    """Return CloudWatch Logs as ``caller`` reaches it."""
    return cast("CloudWatchLogsClient", _Client(caller, "logs"))


def s3(caller: Caller) -> S3Client:
    """Return S3 as ``caller`` reaches it."""
    return cast("S3Client", _Client(caller, "s3"))


def sts(caller: Caller) -> STSClient:
    """Return STS as ``caller`` reaches it."""
    return cast("STSClient", _Client(caller, "sts"))
