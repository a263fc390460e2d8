"""The public functions ``cloudknot.get_...`` and ``cloudknot.set_...`` for profile, region, bucket and repository.

They are for users. The package itself reads settings from `cloudknot.options.config`. No getter creates anything.
"""

from __future__ import annotations

from typing import NamedTuple

from cloudknot.aws.sdk.settings import profiles
from cloudknot.aws.sdk.settings.profiles import Profiles
from cloudknot.errors import PermissionDeniedError
from cloudknot.options import config
from cloudknot.options.public import public_function
from cloudknot.options.validators import ACCOUNT, BUCKET, POLICY_PATTERN, REPOSITORY, one_of, text

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
POLICY = text(POLICY_PATTERN, "the name or ARN of an IAM policy", example="lab-data")


class S3Params(NamedTuple):
    """The S3 bucket for inputs and results, with its options.

    Attributes
    ----------
    bucket : str
        Name of the bucket.
    policy : str or None
        Name or ARN of an IAM policy that jobs get besides cloudknot's own.
    policy_arn : str or None
        The policy's ARN. None if there is no such policy, or if your credentials do not allow listing policies.
    sse : str or None
        Server-side encryption: None, ``"AES256"`` or ``"aws:kms"``.
    """

    bucket: str
    policy: str | None
    policy_arn: str | None
    sse: str | None


@public_function
def get_profile(fallback: str | None = config.FROM_ENVIRONMENT) -> str | None:
    """Return the name of the AWS profile in use.

    Parameters
    ----------
    fallback : str or None, default "from-env"
        The value to return when no profile is in use. Credentials then come from environment variables or from the
        machine itself.

    Returns
    -------
    str or None
        A profile name, or ``fallback``.
    """
    chosen = profiles.profile()
    if chosen is None and profiles.uses_default_profile():
        chosen = "default"
    return chosen or fallback


@public_function
def list_profiles() -> Profiles:
    """Return the profiles in the AWS credentials and config files, and the paths of both files.

    The paths come from ``AWS_SHARED_CREDENTIALS_FILE`` and ``AWS_CONFIG_FILE``, if these are set. A missing file has
    no profiles.

    Returns
    -------
    Profiles
        ``(profile_names, credentials_file, aws_config_file)``

    Raises
    ------
    CloudknotConfigurationError
        A file cannot be parsed.
    """
    return profiles.list_profiles()


@public_function
def set_profile(profile_name: str) -> None:
    """Use the credentials of another AWS profile, in this session and in later ones.

    The setting is saved in cloudknot's config file. It applies to every `Cloud` and `Knot` that is made afterwards.

    Parameters
    ----------
    profile_name : str
        A profile of this machine, see `list_profiles`. With ``"from-env"``, boto3 searches for credentials.

    Raises
    ------
    ProfileException
        There is no such profile. The message lists near matches.
    """
    if profile_name not in (*list_profiles().profile_names, config.FROM_ENVIRONMENT):
        raise profiles.missing_profile(str(profile_name))
    config.save({"profile": profile_name})


@public_function
def get_region() -> str:
    """Return the name of the AWS region in use, for example ``"us-east-1"``."""
    return profiles.region(None, profiles.profile()).value


@public_function
def set_region(region: str = config.DEFAULT_REGION) -> None:
    """Use another AWS region, in this session and in later ones.

    The setting is saved in cloudknot's config file. It applies to every `Cloud` and `Knot` that is made afterwards.

    Parameters
    ----------
    region : str, default "us-east-1"
        The name of a region, for example ``"eu-west-1"``.

    Raises
    ------
    RegionException
        AWS has no such region. The message lists near matches.
    """
    from cloudknot.aws.sdk.regions import check_region

    config.save({"region": check_region(region)})


@public_function
def get_s3_params() -> S3Params:
    """Return the S3 bucket for inputs and results, with its policy and encryption.

    This calls AWS in two cases. The default bucket, ``cloudknot-<account>-<region>``, contains the account number. The
    ARN of a policy that was set by name is looked up in IAM.

    Returns
    -------
    S3Params
        ``(bucket, policy, policy_arn, sse)``

    Raises
    ------
    CredentialsError
        A call to AWS is needed, and there are no usable credentials.
    """
    policy = config.bucket_policy()
    return S3Params(_bucket(), policy, _policy_arn(policy), config.sse())


@public_function
def set_s3_params(bucket: str, policy: str | None = None, sse: str | None = None, *, owner: str | None = None) -> None:
    """Keep inputs and results in another S3 bucket, in this session and in later ones.

    The setting is saved in cloudknot's config file. A bucket that does not exist is created when it is first needed.

    Parameters
    ----------
    bucket : str
        Name of the bucket: 3 to 63 lower-case letters, digits and hyphens.
    policy : str, optional
        Name or ARN of an IAM policy that jobs get besides the one for the bucket. Default: none.
    sse : {None, "AES256", "aws:kms"}
        Server-side encryption for every stored object. Default: the encryption that the bucket is set to.
    owner : str, optional
        Number of the AWS account that owns the bucket, 12 digits. Default: the account of your credentials. S3 refuses
        every request if the bucket belongs to another account. Results are pickles, so whoever owns the bucket can
        run code in your sessions and jobs.

    Raises
    ------
    CloudknotInputError
        An argument is not a valid bucket name, policy name, encryption or account number. Nothing was saved.
    """
    values = {
        "s3-bucket": BUCKET("bucket", bucket),
        "s3-sse": SSE("sse", sse),
        "s3-bucket-policy": None if policy is None else POLICY("policy", policy),
        "s3-bucket-owner": None if owner is None else ACCOUNT("owner", owner),
    }
    config.save(values)


@public_function
def get_ecr_repo() -> str:
    """Return the name of the ECR repository for Docker images."""
    return config.ecr_repo()


@public_function
def set_ecr_repo(repo: str) -> None:
    """Keep Docker images in another ECR repository, in this session and in later ones.

    The setting is saved in cloudknot's config file. A repository that does not exist is created when it is first
    needed.

    Parameters
    ----------
    repo : str
        Name of the repository, for example ``"lab/images"``.

    Raises
    ------
    CloudknotInputError
        ECR allows no such name.
    """
    config.save({"ecr-repo": REPOSITORY("repo", repo)})


@public_function
def refresh_clients(max_pool: int = 10) -> None:
    """Do nothing. Old scripts call this function; clients now always follow the current settings.

    Parameters
    ----------
    max_pool : int, default 10
        Ignored.
    """


def _bucket() -> str:
    from cloudknot.aws.cloud import choose_cloud

    return config.bucket() or choose_cloud().bucket


def _policy_arn(policy: str | None) -> str | None:
    if policy is None or policy.startswith("arn:"):
        return policy
    from cloudknot.aws.cloud import choose_cloud
    from cloudknot.aws.permissions.managed_policies import policy_arn

    # A person who may only run maps may not list policies, and still needs to read the bucket's name.
    try:
        return policy_arn(choose_cloud(), policy)
    except PermissionDeniedError:
        return None
