"""Cloud: the one seam between cloudknot and where it runs.

A cloud is a region, a profile and an endpoint, and gives clients, the account, the bucket and the image store.
Nothing above this module knows which cloud it has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from copy import copy
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING

from cloudknot.aws import clients
from cloudknot.aws.batch import LogStream, console_log_url
from cloudknot.aws.door import Door
from cloudknot.aws.images.ecr import Repository
from cloudknot.aws.images.image_store import ImageStore
from cloudknot.aws.outages import Outages, outages_of
from cloudknot.aws.s3.storage import Storage
from cloudknot.errors import CloudknotError
from cloudknot.options import config

if TYPE_CHECKING:
    from botocore.client import BaseClient

CLOUDS = {"aws": (__name__, "Cloud"), "local": ("cloudknot.local.cloud", "LocalCloud")}
"""The module and the class of each cloud that the settings can name."""


class Cloud:
    """AWS, as one region and profile see it.

    Parameters
    ----------
    region : str, optional
        Default: the settings' (``AWS_REGION``, the config file, the profile's own, ``us-east-1``).
    profile : str, optional
        Default: the settings', else boto3's own search for credentials.
    endpoint_url : str, optional
        An AWS-compatible server to use instead of AWS.
    bucket : str, optional
        The S3 bucket of inputs and results. Default: the settings', else ``cloudknot-<account>-<region>``.

    Making one does no I/O; the first call does.
    """

    def __init__(
        self,
        region: str | None = None,
        profile: str | None = None,
        *,
        endpoint_url: str | None = None,
        bucket: str | None = None,
    ) -> None:
        self._region, self._profile, self._bucket = region, profile, bucket
        self._endpoint_url = endpoint_url
        self._in_buckets: dict[str, Cloud] = {}

    @cached_property
    def profile(self) -> str | None:
        """The AWS profile in use; None leaves the search for credentials to boto3."""
        return config.profile(self._profile)

    @cached_property
    def region(self) -> str:
        """The AWS region in use."""
        return config.region(self._region, self.profile)

    @property
    def has_regions(self) -> bool:
        """Whether a user can choose among regions and profiles."""
        return True

    @cached_property
    def endpoint_url(self) -> str | None:
        """The server in place of AWS, or None."""
        return config.endpoint_url(self._endpoint_url)

    @cached_property
    def door(self) -> Door:
        # What AWS's own variables and profiles say of endpoints, of single services too, is boto3's to read.
        return Door(self._session_arguments(), self._endpoint_url)

    def _session_arguments(self) -> dict[str, str | None]:
        return {"region_name": self.region, "profile_name": self.profile}

    def client(self, service: str) -> BaseClient:
        """A boto3 client of this cloud."""
        return self.door.client(service)

    def call(self, service: str, operation: str, /, **arguments: object) -> dict[str, object]:
        """Call one operation; see `Door.call`."""
        return self.door.call(service, operation, **arguments)

    def pages(self, service: str, operation: str, /, **arguments: object) -> Iterator[dict[str, object]]:
        """Call one paginated operation; see `Door.pages`."""
        return self.door.pages(service, operation, **arguments)

    @cached_property
    def account(self) -> str:
        """The AWS account number. Asks STS once; raises `CredentialsError` without credentials."""
        return clients.sts(self).get_caller_identity()["Account"]

    def account_if_known(self, seconds: float = 3.0) -> str | None:
        """The same for whoever can do without it: asks once, for that long, and is None whatever hinders it."""
        from botocore.config import Config

        from cloudknot.worker.s3.retries import is_botocore_error

        quick = Config(connect_timeout=seconds, read_timeout=seconds, retries={"total_max_attempts": 1})
        try:
            client = self.door.session().client("sts", endpoint_url=self.endpoint_url, config=quick)
            return str(client.get_caller_identity()["Account"])
        except Exception as error:
            if not (isinstance(error, CloudknotError) or is_botocore_error(error)):
                raise
            return None

    @property
    def patience(self) -> float:
        """Seconds that a wait for results bears silence from the cloud: a network away, a laptop asleep."""
        return 1800.0

    @property
    def renewal(self) -> float:
        """The same, of expired credentials: it is a person who renews them, and that person may be asleep."""
        return 24 * 3600.0

    @cached_property
    def outages(self) -> Outages:
        """What the user has been told of outages: the same of all clouds that have a login in common."""
        return outages_of(*self._login)

    @cached_property
    def _login(self) -> tuple[str, ...]:
        return self.endpoint_url or "", self.profile or ""

    def log_url(self, stream: LogStream) -> str:
        """Where a person can read a log stream of Batch."""
        return console_log_url(self.region, stream)

    @cached_property
    def partition(self) -> str:
        """The part of AWS that the region is in, as ARNs name it: ``aws``, ``aws-cn``, ``aws-us-gov``, ..."""
        return str(self.door.session().get_partition_for_region(self.region))

    @cached_property
    def bucket(self) -> str:
        """Name of the bucket of inputs and results. It is not made by asking."""
        return self.chosen_bucket or f"cloudknot-{self.account}-{self.region}"

    @property
    def chosen_bucket(self) -> str | None:
        """The bucket that an argument or the settings name; None when nobody chose one."""
        return config.bucket(self._bucket)

    def in_bucket(self, bucket: str) -> Cloud:
        """This cloud, with its inputs and results in that bucket: where a knot or a job has them is its own."""
        if bucket == self.bucket:
            return self
        if bucket not in self._in_buckets:
            other = copy(self)
            other._bucket = bucket
            for name in ("bucket", "storage"):
                other.__dict__.pop(name, None)
            self._in_buckets.setdefault(bucket, other)
        return self._in_buckets[bucket]

    @cached_property
    def storage(self) -> Storage:
        """The bucket's objects."""
        ours = re.fullmatch(rf"cloudknot-\d{{12}}-{self.region}", self.bucket) is not None
        return Storage(self.door, self.bucket, self.region, sse=config.sse(), ours=ours)

    def repository(self, name: str, tags: Mapping[str, str] | None = None) -> Repository:
        """The image repository of that name. It is made by `cloudknot.image.publish`, not by asking."""
        return Repository(name, tags, cloud=self)

    @property
    def image_store(self) -> ImageStore | None:
        """The store that takes this cloud's images in place of its registry; None for the registry itself."""
        return None


def choose_cloud(choice: Cloud | str | None = None) -> Cloud:
    """Return the cloud to use.

    Parameters
    ----------
    choice : Cloud or {"aws", "local"}, optional
        Default: ``CLOUDKNOT_CLOUD``, else the config file, else AWS.

    Raises
    ------
    CloudknotInputError
        It is neither.
    """
    if isinstance(choice, Cloud):
        return choice
    module, name = CLOUDS[config.cloud(choice)]
    cloud: Cloud = getattr(import_module(module), name)()
    return cloud
