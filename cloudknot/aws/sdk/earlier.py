"""Functions of ``cloudknot.aws`` for scripts of the earlier cloudknot, with the current settings."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cloudknot.aws import clients
from cloudknot.aws.cloud import Cloud, choose_cloud
from cloudknot.aws.tags import Tag, tag_list
from cloudknot.options.choices import complete_tags
from cloudknot.options.validators import tags

if TYPE_CHECKING:
    from botocore.client import BaseClient

CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_latest: dict[tuple[object, ...], Cloud] = {}
"""The cloud of the newest settings. It keeps its boto3 clients, which take a tenth of a second to make."""


def client_of(service: str) -> BaseClient:
    """Return the boto3 client for a service, in the cloud of the current settings."""
    cloud = choose_cloud()
    credentials = (os.environ.get(name) for name in CREDENTIALS)
    key = (type(cloud), cloud.profile, cloud.region, cloud.endpoint_url, *credentials)
    if key not in _latest:
        _latest.clear()
    return _latest.setdefault(key, cloud).client(service)


def get_user() -> str:
    """Return the name of the AWS user whose credentials are in use.

    For the credentials of a role, it is the name of the session, and ``"root"`` for those of the account itself.

    Raises
    ------
    CredentialsError
        There are no AWS credentials, or AWS does not accept them.
    """
    arn = clients.sts(choose_cloud()).get_caller_identity()["Arn"]
    return arn.rpartition(":")[2].rpartition("/")[2]


def get_tags(name: str, additional_tags: Mapping[str, str] | Sequence[Mapping[str, str]] | None = None) -> list[Tag]:
    """Return the tags of a resource with that name: Owner, Environment and Name, and the user's own.

    Parameters
    ----------
    name : str
        The value of the tag Name.
    additional_tags : dict or list of dict, optional
        More tags, as in ``aws_resource_tags`` of `cloudknot.Knot`. They win over the others.

    Returns
    -------
    list of dict
        ``{"Key": ..., "Value": ...}`` for each tag, as AWS has them.
    """
    return tag_list(complete_tags(tags("additional_tags", additional_tags or {}), name))
