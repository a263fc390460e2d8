"""The public utilities ``cloudknot.get_...`` and ``cloudknot.set_...``: account, region, bucket and repository.

They are for people. The code reads each setting from `cloudknot.options.config`, which resolves it.

Each ``set_...`` writes to the config file of `cloudknot.options.config` and holds from the next `Cloud` on, in
this session and in later ones. No getter creates anything.
"""

from __future__ import annotations

from typing import NamedTuple

from cloudknot.errors import PermissionDeniedError, ProfileException
from cloudknot.options import config
from cloudknot.options.config import list_profiles
from cloudknot.options.validators import POLICY_PATTERN, REPOSITORY, near_matches, one_of, text

__all__ = [
    "S3Params",
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
]

SSE = one_of(None, "AES256", "aws:kms")
# S3 user guide, "Bucket naming rules"; a dot would break TLS host names.
BUCKET = text(
    r"(?!xn--|sthree-|amzn-s3-demo-)[a-z0-9][a-z0-9-]{1,61}[a-z0-9](?<!-s3alias)(?<!--ol-s3)",
    "the name of an S3 bucket",
    cause="It has 3 to 63 lower-case letters, digits and hyphens, with a letter or digit at both ends.",
    example="my-lab-results",
)


POLICY = text(POLICY_PATTERN, "the name or ARN of an IAM policy", example="lab-data")


class S3Params(NamedTuple):
    """The bucket of inputs and results.

    ``policy`` is the name of an IAM policy, the user's own or AWS's, that jobs get besides cloudknot's. ``policy_arn``
    is its ARN, or None when there is no such policy, or IAM may not be asked for it. ``sse`` is the server-side
    encryption asked for: None, ``"AES256"`` or ``"aws:kms"``.
    """

    bucket: str
    policy: str | None
    policy_arn: str | None
    sse: str | None


def get_profile(fallback: str | None = config.FROM_ENVIRONMENT) -> str | None:
    """The AWS profile in use, or ``fallback`` when credentials come from the environment or the machine."""
    chosen = config.profile()
    if chosen is None and config.uses_default_profile():
        chosen = "default"
    return chosen or fallback


def set_profile(profile_name: str) -> None:
    """Use the credentials of another AWS profile; ``"from-env"`` leaves the search for them to boto3.

    Raises
    ------
    ProfileException
        There is no such profile; the message lists near matches.
    """
    names, credentials_file, config_file = list_profiles()
    if profile_name not in (*names, config.FROM_ENVIRONMENT):
        near = near_matches(str(profile_name), names) or names
        raise ProfileException(
            f"There is no AWS profile {profile_name!r} in {credentials_file} or {config_file}. "
            f"Near matches: {', '.join(near) or 'none'}. `aws configure --profile NAME` makes one."
        )
    config.save({"profile": profile_name})


def get_region() -> str:
    """The AWS region in use."""
    return config.region(None, config.profile())


def set_region(region: str = config.DEFAULT_REGION) -> None:
    """Use another AWS region.

    Raises
    ------
    RegionException
        AWS has no such region; the message lists near matches.
    """
    from cloudknot.aws.regions import check_region

    config.save({"region": check_region(region)})


def get_s3_params() -> S3Params:
    """The bucket of inputs and results, and what goes with it.

    When no bucket was chosen, AWS is asked for the account number, which is part of the default bucket's name:
    ``cloudknot-<account>-<region>``; and IAM for a policy that was chosen by its name. Raises `CredentialsError` when
    that takes credentials that are not there.
    """
    policy = config.bucket_policy()
    return S3Params(_bucket(), policy, _policy_arn(policy), config.sse())


def set_s3_params(bucket: str, policy: str | None = None, sse: str | None = None) -> None:
    """Keep inputs and results in another S3 bucket. It is made when it is first needed, not now.

    Parameters
    ----------
    bucket : str
        3 to 63 lower-case letters, digits and hyphens.
    policy : str, optional
        Name or ARN of an IAM policy that jobs get besides the one for the bucket.
    sse : {None, "AES256", "aws:kms"}
        Server-side encryption; None leaves it to the bucket.

    Raises
    ------
    CloudknotInputError
    """
    values = {"s3-bucket": BUCKET("bucket", bucket), "s3-sse": SSE("sse", sse)}
    config.save({**values, "s3-bucket-policy": None if policy is None else POLICY("policy", policy)})


def get_ecr_repo() -> str:
    """Name of the image repository in use."""
    return config.ecr_repo()


def set_ecr_repo(repo: str) -> None:
    """Keep images in another ECR repository. It is made when it is first needed, not now."""
    config.save({"ecr-repo": REPOSITORY("repo", repo)})


def refresh_clients(max_pool: int = 10) -> None:
    """Kept for old scripts. Clients are made with the settings of the moment, so there is nothing to refresh."""


def _bucket() -> str:
    from cloudknot.aws.cloud import choose_cloud

    return config.bucket() or choose_cloud().bucket


def _policy_arn(policy: str | None) -> str | None:
    if policy is None or policy.startswith("arn:"):
        return policy
    from cloudknot.aws.cloud import choose_cloud
    from cloudknot.aws.permissions.managed_policies import policy_arn

    try:
        return policy_arn(choose_cloud(), policy)
    except PermissionDeniedError:
        return None
