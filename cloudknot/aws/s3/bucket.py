"""The bucket of inputs and results: found as it is, or made private, encrypted and cheap to forget. No objects here.

A bucket that cloudknot makes says by a tag that it is being made, until it has all its settings: so what one
session left half made is finished by the next.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from cloudknot.aws import clients
from cloudknot.errors import (
    CannotDeleteResourceException,
    CloudError,
    PermissionDeniedError,
    ResourceDoesNotExistException,
    ResourceExistsException,
)

if TYPE_CHECKING:
    from types_boto3_s3.literals import BucketLocationConstraintType, ServerSideEncryptionType
    from types_boto3_s3.type_defs import (
        LifecycleRuleTypeDef,
        PublicAccessBlockConfigurationTypeDef,
        ServerSideEncryptionRuleTypeDef,
        TagTypeDef,
    )

    from cloudknot.aws.door import Door

ABANDONED_AFTER = 7
"""Days until S3 drops the parts of an upload that was never completed; until then they cost as much as an object."""
TAG, BEING_MADE, MADE = "cloudknot", "being made", "bucket"
"""The tag by which cloudknot knows a bucket that it made, and what it says."""
HOW_TO_CHOOSE = "Choose one of your own: cloudknot.set_s3_params(bucket=...)."


class Bucket:
    """One bucket.

    Parameters
    ----------
    door : Door
    name : str
    region : str
        Where it is made, and where jobs run.
    sse : {None, "AES256", "aws:kms"}
        How a bucket that is made encrypts what it is given; None is S3's own default, ``AES256``.
    ours : bool
        Whether the name is cloudknot's default one: a bucket of that name without any tags is half made, too. A bucket
        of the user's own is used as it is.
    """

    def __init__(self, door: Door, name: str, region: str, *, sse: str | None = None, ours: bool = False) -> None:
        self._door, self.name, self._region, self._sse, self._ours = door, name, region, sse, ours
        self._s3 = clients.s3(door)

    def ensure(self, tags: Mapping[str, str]) -> None:
        """Make the bucket unless it is there.

        It is made in the region of the jobs, with public access blocked, encryption on, requests without TLS refused,
        and the parts of abandoned uploads dropped after a week. It takes ``s3:ListBucket``, and when it is made
        ``s3:CreateBucket``, ``s3:PutBucketPublicAccessBlock``, ``s3:PutEncryptionConfiguration``,
        ``s3:PutBucketPolicy``, ``s3:PutLifecycleConfiguration`` and ``s3:PutBucketTagging``; to see whether another
        session left it half made, ``s3:GetBucketTagging``, which may be missing.

        Warns
        -----
        UserWarning
            The bucket is in another region than the jobs.

        Raises
        ------
        ResourceExistsException
            Another account has a bucket of that name.
        PermissionDeniedError
            The bucket may not be looked at, made or set up.
        """
        region = self._found()
        if region is None:
            self._create()
            self._tag(tags, BEING_MADE)
        if region is None or self._is_half_made():
            self._set_up(tags)
        if region not in (None, self._region):
            warnings.warn(
                f"The bucket {self.name} is in {region}, and jobs run in {self._region}: every transfer between them "
                f"costs money and time. Use a bucket in {self._region} (cloudknot.set_s3_params) or run the jobs in "
                f"{region} (cloudknot.set_region).",
                UserWarning,
                stacklevel=4,
            )

    def _found(self) -> str | None:
        """The bucket's region; None when there is no bucket of that name."""
        try:
            answer = self._s3.head_bucket(Bucket=self.name)
        except ResourceDoesNotExistException:
            return None
        except PermissionDeniedError as error:
            from cloudknot.aws.permissions.denials import advice

            # A HEAD request is refused without a word of explanation.
            raise PermissionDeniedError(
                f"The bucket {self.name} may not be used with these credentials: it is another account's, or they "
                f"lack s3:ListBucket for it. {HOW_TO_CHOOSE} {advice('', 's3:head_bucket')}",
                code=error.code,
                operation=error.operation,
            ) from error
        return str(answer.get("BucketRegion") or self._region)

    def _create(self) -> None:
        try:
            if self._region == "us-east-1":
                self._s3.create_bucket(Bucket=self.name)
            else:
                region = cast("BucketLocationConstraintType", self._region)
                self._s3.create_bucket(Bucket=self.name, CreateBucketConfiguration={"LocationConstraint": region})
        except ResourceExistsException as error:
            if error.code != "BucketAlreadyOwnedByYou":
                raise ResourceExistsException(
                    f"Another AWS account has a bucket of the name {self.name}; such names are unique in all of AWS. "
                    f"{HOW_TO_CHOOSE}",
                    code=error.code,
                    operation=error.operation,
                ) from error

    def _set_up(self, tags: Mapping[str, str]) -> None:
        block_all: PublicAccessBlockConfigurationTypeDef = {
            "BlockPublicAcls": True,
            "IgnorePublicAcls": True,
            "BlockPublicPolicy": True,
            "RestrictPublicBuckets": True,
        }
        algorithm = cast("ServerSideEncryptionType", self._sse or "AES256")
        rule: ServerSideEncryptionRuleTypeDef = {
            "ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": algorithm},
            # A bucket key spares a call to KMS, which costs, for each object.
            "BucketKeyEnabled": algorithm == "aws:kms",
        }
        s3, name = self._s3, self.name
        s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=block_all)
        s3.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration={"Rules": [rule]})
        s3.put_bucket_policy(Bucket=name, Policy=json.dumps(tls_policy(name, self._partition)))
        s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": [ABANDONED_UPLOADS]})
        self._tag(tags, MADE)

    def _tag(self, tags: Mapping[str, str], state: str) -> None:
        wanted = {**tags, "Name": self.name, TAG: state}
        pairs: list[TagTypeDef] = [{"Key": key, "Value": value} for key, value in wanted.items()]
        self._s3.put_bucket_tagging(Bucket=self.name, Tagging={"TagSet": pairs})

    @property
    def _partition(self) -> str:
        return str(self._door.session().get_partition_for_region(self._region))

    def is_made_by_cloudknot(self) -> bool:
        """Whether cloudknot made the bucket: its tag says so. One of the default name without any tags is half made.

        False when there is no bucket, and for one whose tags may not be read and that has another name.
        """
        try:
            tags = self._tags()
        except ResourceDoesNotExistException:
            return False
        except PermissionDeniedError:
            return self._ours
        return tags.get(TAG) in (BEING_MADE, MADE) if tags else self._ours

    def _is_half_made(self) -> bool:
        """Whether a session was broken off that made this bucket; by the name alone, when it has no tags yet."""
        try:
            tags = self._tags()
        except PermissionDeniedError:
            return False
        return tags.get(TAG) == BEING_MADE if tags else self._ours

    def _tags(self) -> dict[str, str]:
        try:
            listed = self._s3.get_bucket_tagging(Bucket=self.name)["TagSet"]
        except CloudError as error:
            if error.code == "NoSuchTagSet":
                return {}
            raise
        return {item["Key"]: item["Value"] for item in listed}

    def delete(self) -> None:
        """Delete the bucket, which must be empty.

        Raises
        ------
        CannotDeleteResourceException
            There is something else in it.
        """
        try:
            self._s3.delete_bucket(Bucket=self.name)
        except CloudError as error:
            if error.code != "BucketNotEmpty":
                raise
            raise CannotDeleteResourceException(
                f"The bucket {self.name} was kept: cloudknot made it, and its runs were deleted, but there is "
                "something else in it (objects, or old versions of some). Move that away, or delete all of it by "
                f"`aws s3 rb s3://{self.name} --force`.",
                code=error.code,
                operation=error.operation,
            ) from error


ABANDONED_UPLOADS: LifecycleRuleTypeDef = {
    "ID": "cloudknot-abandoned-uploads",
    "Status": "Enabled",
    "Filter": {"Prefix": ""},
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": ABANDONED_AFTER},
}


def tls_policy(bucket: str, partition: str) -> dict[str, object]:
    """A bucket policy that refuses every request without TLS (S3 user guide, "Security best practices")."""
    arn = f"arn:{partition}:s3:::{bucket}"
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "TLSOnly",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:*",
                "Resource": [arn, f"{arn}/*"],
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            }
        ],
    }
