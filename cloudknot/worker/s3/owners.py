"""The expected owner of each bucket. Every request to S3 names it, and S3 refuses the request for any other owner.

A bucket name can be guessed, so another account may create the bucket first. It would then receive inputs, and could
store pickles that run code where they are read (Amazon S3 user guide, "Verifying bucket ownership with bucket owner
condition").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from botocore.model import OperationModel
    from types_boto3_s3 import S3Client

HEADER = "x-amz-expected-bucket-owner"
SOURCE_HEADER = "x-amz-source-expected-bucket-owner"
"""The same for the source of a copy."""


class BucketOwners:
    """The accounts that own the buckets in use.

    Parameters
    ----------
    find_account : callable
        Returns the number of the AWS account of the credentials. Called once, and only if `account` is unknown.

    Attributes
    ----------
    account : str
        The account of the credentials. It owns every bucket without a named owner. Empty until it is known.
    """

    def __init__(self, find_account: Callable[[], str]) -> None:
        self._find_account = find_account
        self._named: dict[str, str] = {}
        self.account = ""

    def name(self, bucket: str, owner: str) -> None:
        """Name the owner of a bucket. An empty ``owner`` changes nothing."""
        if owner:
            self._named[bucket] = owner

    def learn(self, account: str) -> None:
        """Take the account of the credentials from an answer of AWS, to save the call that finds it."""
        self.account = self.account or account

    def of(self, bucket: str) -> str:
        """Return the expected owner of a bucket."""
        if owner := self._named.get(bucket):
            return owner
        if not self.account:
            self.learn(self._find_account())
        return self.account

    def guard(self, client: S3Client) -> None:
        """Make every later request of a client name the owner of its bucket."""
        # One handler for all operations, so that none can be forgotten.
        client.meta.events.register("before-parameter-build.s3", self._add)

    def _add(self, params: MutableMapping[str, Any], model: OperationModel, **_: object) -> None:
        accepted = model.input_shape.members if model.input_shape else {}
        if "ExpectedBucketOwner" in accepted:
            params.setdefault("ExpectedBucketOwner", self.of(params["Bucket"]))
        if "ExpectedSourceBucketOwner" in accepted and "CopySource" in params:
            params.setdefault("ExpectedSourceBucketOwner", self.of(_bucket_of(params["CopySource"])))


def _bucket_of(source: str | Mapping[str, str]) -> str:
    """Return the bucket of a copy's source: a mapping, or ``"bucket/key"``."""
    return source.lstrip("/").partition("/")[0] if isinstance(source, str) else source["Bucket"]
