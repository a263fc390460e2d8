"""Cloud: the one place that differs between AWS and the embedded cloud.

The stages above call a `Cloud` and may not ask which kind it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from functools import cached_property
from importlib import import_module
from shlex import quote
from typing import TYPE_CHECKING, Any

from cloudknot.aws import clients
from cloudknot.aws.batch import LogStream, console_log_url
from cloudknot.aws.door import Door
from cloudknot.aws.images.ecr import Repository
from cloudknot.aws.images.image_store import ImageStore
from cloudknot.aws.outages import Outages, outages_of
from cloudknot.aws.s3.storage import Storage
from cloudknot.aws.sdk.process_limits import check_limits
from cloudknot.aws.sdk.settings import profiles
from cloudknot.aws.sdk.settings.variables import check_aws_variables
from cloudknot.errors import CloudknotError
from cloudknot.options import config
from cloudknot.options.config import Chosen
from cloudknot.options.public import public_function
from cloudknot.options.variables import check_variables

if TYPE_CHECKING:
    from botocore.client import BaseClient

CLOUDS = {"aws": (__name__, "Cloud"), "local": ("cloudknot.local.session.cloud", "LocalCloud")}
"""The module and class for each value of the setting ``cloud``. A session on AWS never loads the embedded cloud."""


class Cloud:
    """AWS in one region, with the credentials of one profile.

    Creating the object makes no calls. The first use does.

    Parameters
    ----------
    region : str, optional
        The AWS region. Default: `set_region`, else ``AWS_REGION``, else the config file, else the profile's own
        region, else ``us-east-1``.
    profile : str, optional
        The AWS profile with the credentials. Default: `set_profile`, else ``AWS_PROFILE``, else the config file, else
        boto3's own search for credentials.
    endpoint_url : str, optional
        An AWS-compatible server to use instead of AWS.
    bucket : str, optional
        The S3 bucket for inputs and results. Default: `set_s3_params`, else ``cloudknot-<account>-<region>``.
    bucket_owner : str, optional
        Number of the AWS account that owns ``bucket``. Default: the account of the credentials. S3 refuses every
        request to a bucket of another account.
    """

    @public_function
    def __init__(
        self,
        region: str | None = None,
        profile: str | None = None,
        *,
        endpoint_url: str | None = None,
        bucket: str | None = None,
        bucket_owner: str | None = None,
    ) -> None:
        self._region, self._profile, self._bucket, self._bucket_owner = region, profile, bucket, bucket_owner
        self._endpoint_url = endpoint_url
        self._in_buckets: dict[tuple[str, str], Cloud] = {}
        self._chosen_by = "by cloud="

    @cached_property
    def profile(self) -> str | None:
        """The AWS profile in use; None if boto3 searches for credentials."""
        return profiles.profile(self._profile)

    @cached_property
    def region(self) -> str:
        """The AWS region in use."""
        return self._region_setting.value

    @cached_property
    def _region_setting(self) -> Chosen:
        return profiles.region(self._region, self.profile)

    @property
    def place(self) -> str:
        """The cloud and its region for a message, with the sources of both choices."""
        region, source = self._region_setting
        server = f" at {self._endpoint_url}" if self._endpoint_url else ""
        return f"the AWS region {region}{server} (AWS {self._chosen_by}, the region {_shown(source)})"

    @property
    def has_regions(self) -> bool:
        """Whether this cloud has several regions and profiles to choose from."""
        return True

    @cached_property
    def endpoint_url(self) -> str | None:
        """The server that is used instead of AWS, or None."""
        return config.endpoint_url(self._endpoint_url)

    @cached_property
    def door(self) -> Door:
        check_variables()
        check_aws_variables()
        check_limits()
        # Not ``self.endpoint_url``: boto3 itself reads endpoints, also of single services, from AWS's variables and
        # profiles.
        return Door(self._session_arguments(), self._endpoint_url, place=self.place)

    def _session_arguments(self) -> dict[str, str | None]:
        # Not ``self.profile``: boto3 prefers keys in the environment to a profile that AWS_PROFILE names.
        return {"region_name": self.region, "profile_name": profiles.named_profile(self._profile)}

    def _expected(self) -> AbstractContextManager[None]:
        """Prepare the first call during the block. This creates nothing. AWS needs no preparation."""
        return nullcontext()

    def client(self, service: str) -> BaseClient:
        """Return the boto3 client for a service, for the user's own calls.

        In contrast to cloudknot itself, its requests to S3 may go to buckets of any account.
        """
        return self.door.users_client(service)

    def call(self, service: str, operation: str, /, **arguments: object) -> dict[str, object]:
        """Call an operation of AWS and return its answer; see `Door.call`."""
        return self.door.call(service, operation, **arguments)

    def pages(self, service: str, operation: str, /, **arguments: object) -> Iterator[dict[str, object]]:
        """Yield the pages of a paginated operation; see `Door.pages`."""
        return self.door.pages(service, operation, **arguments)

    @cached_property
    def account(self) -> str:
        """The AWS account number. Calls AWS once, and raises `CredentialsError` without credentials."""
        owners = self.door.owners
        owners.account = owners.account or clients.sts(self).get_caller_identity()["Account"]
        return owners.account

    def account_if_known(self, seconds: float = 3.0) -> str | None:
        """Return the AWS account number; None if AWS refuses the call or does not answer within ``seconds``."""
        from botocore.config import Config

        from cloudknot.worker.s3.retries import is_botocore_error

        # Not through the door, which would retry for minutes.
        quick = Config(connect_timeout=seconds, read_timeout=seconds, retries={"total_max_attempts": 1})
        try:
            client: Any = self.door.session().create_client("sts", endpoint_url=self.endpoint_url, config=quick)
            return str(client.get_caller_identity()["Account"])
        except Exception as error:
            if not (isinstance(error, CloudknotError) or is_botocore_error(error)):
                raise
            return None

    @property
    def patience(self) -> float:
        """The seconds for which a wait for results continues without an answer from AWS."""
        # The network may be away, or the laptop asleep, while the jobs continue.
        return 1800.0

    @property
    def renewal(self) -> float:
        """The seconds for which a wait for results continues with expired credentials."""
        # Only a person can renew them, and that person may be asleep.
        return 24 * 3600.0

    @property
    def shortest_child(self) -> float:
        """The seconds that a child job with ``chunksize="auto"`` should take at least."""
        # A container starts in a second or two on a machine that runs, and in minutes on a new one.
        return 60.0

    @cached_property
    def outages(self) -> Outages:
        """The outages that all clouds with the same login share."""
        return outages_of(*self._login)

    @cached_property
    def _login(self) -> tuple[str, ...]:
        return self.endpoint_url or "", self.profile or ""

    def log_url(self, stream: LogStream) -> str:
        """Return the address of the web page that shows a log stream."""
        return console_log_url(self.region, stream, self.partition, self._dns_suffix)

    def command(self, arguments: str) -> str:
        """Return a command line of ``cloudknot`` that uses this cloud, for a message.

        >>> Cloud("eu-west-1").command("jobs pi-calc")
        'cloudknot jobs pi-calc --region eu-west-1'
        """
        # With all options: the reader may be in another shell, with other settings.
        profile = f" --profile {quote(self.profile)}" if self.profile else ""
        return f"cloudknot {arguments} --region {self.region}{profile}"

    @cached_property
    def partition(self) -> str:
        """The region's partition, the second part of its ARNs: ``aws``, ``aws-cn``, ``aws-us-gov``, ..."""
        return str(self.door.session().get_partition_for_region(self.region))

    @property
    def _dns_suffix(self) -> str:
        """The end of the names of the partition's hosts, such as ``amazonaws.com.cn``."""
        partitions = self.door.session().get_data("partitions")["partitions"]
        return next(str(item["outputs"]["dnsSuffix"]) for item in partitions if item["id"] == self.partition)

    @cached_property
    def bucket(self) -> str:
        """The name of the bucket for inputs and results. Reading it does not create the bucket."""
        return self.chosen_bucket or f"cloudknot-{self.account}-{self.region}"

    @property
    def chosen_bucket(self) -> str | None:
        """The bucket that an argument or a setting names; None if nobody chose one."""
        return config.bucket(self._bucket)

    @property
    def bucket_owner(self) -> str:
        """Number of the AWS account that must own the bucket: the named one, else that of the credentials."""
        # The named one may also come from a job of another session.
        self.door.owners.name(self.bucket, self._named_owner)
        return self.door.owners.of(self.bucket)

    @property
    def _named_owner(self) -> str:
        """The owner that an argument, a setting or a knot names; empty if none does."""
        # A setting names the owner of its own bucket only.
        setting = config.bucket_owner() if self._bucket in (None, config.bucket()) else None
        return self._bucket_owner or setting or ""

    def in_bucket(self, bucket: str, owner: str = "") -> Cloud:
        """Return this cloud with its inputs and results in another bucket.

        ``owner`` is the account that owns the bucket. Empty stands for the account of the credentials.
        """
        # The bucket is part of a knot, not of a session: with other settings, a session must find the knot's jobs, and
        # its maps must go where the jobs may read.
        # Not ``self.bucket``, which may have to ask AWS for the account first.
        if bucket == (self.chosen_bucket or self.__dict__.get("bucket")) and owner in ("", self._named_owner):
            return self
        if (bucket, owner) not in self._in_buckets:
            # Before the copy, so that both share it.
            _ = self.door
            twin = copy(self)
            twin._bucket, twin._bucket_owner = bucket, owner
            for name in ("bucket", "storage"):
                twin.__dict__.pop(name, None)
            self._in_buckets.setdefault((bucket, owner), twin)
        return self._in_buckets[bucket, owner]

    @cached_property
    def storage(self) -> Storage:
        """The objects of the bucket."""
        has_default_name = re.fullmatch(rf"cloudknot-\d{{12}}-{self.region}", self.bucket) is not None
        # Before the first request: S3 then refuses a bucket that another account has created under this name.
        named = self._named_owner
        self.door.owners.name(self.bucket, named)
        return Storage(
            self.door,
            self.bucket,
            self.region,
            sse=config.sse(),
            has_default_name=has_default_name,
            is_foreign=bool(named) and named != self.account,
        )

    def repository(self, name: str, tags: Mapping[str, str] | None = None) -> Repository:
        """Return the image repository with that name. This does not create it: `cloudknot.image.publish` does."""
        return Repository(name, tags, cloud=self)

    @property
    def image_store(self) -> ImageStore | None:
        """The store that keeps this cloud's images instead of a registry; None for a cloud with a registry."""
        return None


def choose_cloud(choice: Cloud | str | None = None, argument: str = "cloud=") -> Cloud:
    """Return the cloud to use.

    Parameters
    ----------
    choice : Cloud or {"aws", "local"}, optional
        Default: ``CLOUDKNOT_CLOUD``, else the config file, else AWS.
    argument : str
        The user's name for ``choice``, for messages.

    Raises
    ------
    CloudknotInputError
        ``choice`` is neither a `Cloud` nor the name of one.
    """
    if isinstance(choice, Cloud):
        return choice
    check_variables()
    chosen, source = config.cloud(choice)
    if choice:
        source = argument
    module, name = CLOUDS[chosen]
    cloud: Cloud = getattr(import_module(module), name)()
    cloud._chosen_by = _shown(source)
    return cloud


def _shown(source: str) -> str:
    """Return the source of a choice in words that follow its value."""
    return source if source == config.BY_DEFAULT else f"by {source}"
