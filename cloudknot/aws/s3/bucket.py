"""The S3 bucket for inputs and results: create it with safe settings, or use an existing one as it is.

Reading and writing objects belongs to `cloudknot.aws.s3.storage`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from cloudknot.aws import clients
from cloudknot.aws.images.codebuild import CONTEXTS
from cloudknot.errors import (
    CannotDeleteResourceException,
    CloudError,
    PermissionDeniedError,
    ResourceDoesNotExistException,
    ResourceExistsException,
)
from cloudknot.options import streams

if TYPE_CHECKING:
    from types_boto3_s3.literals import BucketLocationConstraintType, ServerSideEncryptionType
    from types_boto3_s3.type_defs import (
        LifecycleRuleTypeDef,
        PublicAccessBlockConfigurationTypeDef,
        ServerSideEncryptionRuleTypeDef,
        TagTypeDef,
    )

    from cloudknot.aws.door import Door

# The parts of an upload that was never completed cost as much as an object of their size.
ABANDONED_AFTER = 7
"""Days until S3 deletes the parts of an upload that was never completed."""
# The tag has the value "being made" until the bucket has all its settings. If a session is interrupted in between, the
# next session finishes the bucket.
TAG, BEING_MADE, MADE = "cloudknot", "being made", "bucket"
"""Name and values of the tag on a bucket that cloudknot created."""
SET_BUCKET = "cloudknot.set_s3_params(bucket=...)"
SET_OWNER = "cloudknot.set_s3_params(bucket=..., owner='ACCOUNT')"


class Bucket:
    """An S3 bucket.

    Parameters
    ----------
    door : Door
    name : str
    region : str
        The region of the jobs. The bucket is created there.
    sse : {None, "AES256", "aws:kms"}
        Default encryption of a new bucket. None is S3's own default, ``AES256``.
    has_default_name : bool, default False
        Whether the name is cloudknot's default name.
    is_foreign : bool, default False
        Whether the bucket belongs to another account, which the user has named. It is used as it is.
    """

    def __init__(
        self,
        door: Door,
        name: str,
        region: str,
        *,
        sse: str | None = None,
        has_default_name: bool = False,
        is_foreign: bool = False,
    ) -> None:
        self._door, self.name, self._region, self._sse = door, name, region, sse
        self._has_default_name, self._is_foreign = has_default_name, is_foreign
        self._s3 = clients.s3(door)

    def ensure(self, tags: Mapping[str, str]) -> None:
        """Create the bucket in the region of the jobs, unless it exists.

        A new bucket blocks public access, encrypts its objects, refuses requests without TLS, and drops the parts of
        abandoned uploads after a week.

        Notes
        -----
        An existing bucket needs the permission ``s3:ListBucket``. With ``s3:GetBucketTagging``, an unfinished bucket
        of another session is recognised. A new bucket needs ``s3:CreateBucket``, ``s3:PutBucketPublicAccessBlock``,
        ``s3:PutEncryptionConfiguration``, ``s3:PutBucketPolicy``, ``s3:PutLifecycleConfiguration`` and
        ``s3:PutBucketTagging``.

        Warns
        -----
        UserWarning
            The bucket is in another region than the jobs.

        Raises
        ------
        ResourceExistsException
            Another account has a bucket of that name.
        ResourceDoesNotExistException
            The bucket should belong to another account, and does not exist.
        PermissionDeniedError
            The credentials do not allow reading, creating or configuring the bucket, or another account owns it.
        """
        region = self._find_region()
        if region is None and self._is_foreign:
            raise ResourceDoesNotExistException(
                f"The bucket {self.name} does not exist, and cloudknot cannot create it in the other AWS account that "
                f"you have named as its owner. Ask that account for the bucket, or use one of your own: {SET_BUCKET}.",
                operation="s3:head_bucket",
                resource_id=self.name,
            )
        if region is None:
            self._create()
            # First of all settings, so that an interruption from here on can be recognised.
            self._tag(tags, BEING_MADE)
        if region is None or self._is_unfinished():
            self._set_up(tags)
        if region not in (None, self._region):
            streams.warn(
                f"The bucket {self.name} is in {region}, and jobs run in {self._region}. Every transfer between them "
                f"costs money and time. Use a bucket in {self._region}: cloudknot.set_s3_params(bucket=...). Or run "
                f"the jobs in {region}: cloudknot.set_region({region!r}).",
            )

    def _find_region(self) -> str | None:
        """Return the bucket's region; None when no bucket has that name."""
        try:
            answer = self._s3.head_bucket(Bucket=self.name)
        except ResourceDoesNotExistException:
            return None
        except PermissionDeniedError as error:
            from cloudknot.aws.permissions.denials import advice

            # S3 refuses a HEAD request without a message, so AWS's error has no explanation to pass on.
            missing = advice("", "s3:head_bucket")
            raise PermissionDeniedError(
                f"Your AWS credentials do not allow access to the bucket {self.name}. cloudknot has stored nothing in "
                "it, and has read nothing from it. Perhaps another AWS account owns it: anybody can create a bucket "
                f"under a name that can be guessed. In that case, choose a bucket of your own: {SET_BUCKET}. Or, if "
                f"you trust its owner with your data and your code, name that account: {SET_OWNER}. If the bucket "
                f"belongs to your account, {missing[0].lower()}{missing[1:]}",
                code=error.code,
                operation=error.operation,
                resource_id=self.name,
            ) from error
        return str(answer.get("BucketRegion") or self._region)

    def _create(self) -> None:
        try:
            # S3 refuses the name of this one region as a location.
            if self._region == "us-east-1":
                self._s3.create_bucket(Bucket=self.name)
            else:
                region = cast("BucketLocationConstraintType", self._region)
                self._s3.create_bucket(Bucket=self.name, CreateBucketConfiguration={"LocationConstraint": region})
        except ResourceExistsException as error:
            # Another session, or this call before its answer was lost, may have created the bucket a moment ago.
            if error.code != "BucketAlreadyOwnedByYou":
                raise ResourceExistsException(
                    f"Another AWS account has a bucket named {self.name}. Bucket names are unique in all of AWS. "
                    f"Choose another name: {SET_BUCKET}.",
                    code=error.code,
                    operation=error.operation,
                    resource_id=self.name,
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
            # Without a bucket key, S3 would make a call to KMS for each object, and each call costs.
            "BucketKeyEnabled": algorithm == "aws:kms",
        }
        s3, name = self._s3, self.name
        s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=block_all)
        s3.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration={"Rules": [rule]})
        s3.put_bucket_policy(Bucket=name, Policy=json.dumps(tls_policy(name, self._partition)))
        s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": LIFECYCLE_RULES})
        # Last, so that only a bucket with all its settings counts as made.
        self._tag(tags, MADE)

    def _tag(self, tags: Mapping[str, str], state: str) -> None:
        all_tags = {**tags, "Name": self.name, TAG: state}
        pairs: list[TagTypeDef] = [{"Key": key, "Value": value} for key, value in all_tags.items()]
        self._s3.put_bucket_tagging(Bucket=self.name, Tagging={"TagSet": pairs})

    @property
    def _partition(self) -> str:
        return str(self._door.session().get_partition_for_region(self._region))

    def is_made_by_cloudknot(self) -> bool:
        """Return whether cloudknot created the bucket, as its tag shows.

        A bucket without tags, or with tags that may not be read, counts as cloudknot's if it has the default name.
        """
        if self._is_foreign:
            return False
        try:
            tags = self._tags()
        except ResourceDoesNotExistException:
            return False
        except PermissionDeniedError:
            return self._has_default_name
        return tags.get(TAG) in (BEING_MADE, MADE) if tags else self._has_default_name

    def _is_unfinished(self) -> bool:
        """Return whether a session was interrupted while it created this bucket.

        A bucket of the user's own never is: it is used as it is.
        """
        if self._is_foreign:
            return False
        try:
            tags = self._tags()
        except PermissionDeniedError:
            return False
        # The session may have ended before it set the first tag.
        return tags.get(TAG) == BEING_MADE if tags else self._has_default_name

    def _tags(self) -> dict[str, str]:
        try:
            listed = self._s3.get_bucket_tagging(Bucket=self.name)["TagSet"]
        except CloudError as error:
            if error.code == "NoSuchTagSet":
                return {}
            raise
        return {item["Key"]: item["Value"] for item in listed}

    def delete(self) -> None:
        """Delete the bucket.

        Raises
        ------
        CannotDeleteResourceException
            The bucket is not empty.
        """
        try:
            self._s3.delete_bucket(Bucket=self.name)
        except CloudError as error:
            if error.code != "BucketNotEmpty":
                raise
            raise CannotDeleteResourceException(
                f"The bucket {self.name} was not deleted, because it still has objects that cloudknot did not store, "
                f"or old versions. List them with `aws s3api list-object-versions --bucket {self.name}`. Move or "
                "delete them, then try again.",
                code=error.code,
                operation=error.operation,
                resource_id=self.name,
            ) from error


LIFECYCLE_RULES: list[LifecycleRuleTypeDef] = [
    {
        "ID": "cloudknot-abandoned-uploads",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": ABANDONED_AFTER},
    },
    # A session deletes them after the build, unless it is killed.
    {
        "ID": "cloudknot-files-of-builds",
        "Status": "Enabled",
        "Filter": {"Prefix": f"{CONTEXTS}/"},
        "Expiration": {"Days": 1},
    },
]


def tls_policy(bucket: str, partition: str) -> dict[str, object]:
    """Return a bucket policy that denies every request without TLS (S3 user guide, "Security best practices")."""
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
