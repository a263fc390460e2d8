"""DockerRepo: an image repository, as people name it."""

from __future__ import annotations

from collections.abc import Mapping

from cloudknot.aws import Cloud
from cloudknot.aws.cloud import choose_cloud
from cloudknot.aws.ecr import Repository


class DockerRepo(Repository):
    """An ECR repository, made if there is none of that name.

    Parameters
    ----------
    name : str
    aws_resource_tags : mapping of str to str, optional
        Put on the repository when it is made.
    cloud : Cloud or {"aws", "local"}, optional
        Default: the settings'.

    Attributes
    ----------
    repo_uri, repo_registry_id, arn : str
    """

    def __init__(
        self, name: str, aws_resource_tags: Mapping[str, str] | None = None, *, cloud: Cloud | str | None = None
    ) -> None:
        super().__init__(name, aws_resource_tags, cloud=choose_cloud(cloud))
        self.create()

    def __repr__(self) -> str:
        return f"DockerRepo(name={self.name!r})"


def repository_of(uri: str) -> str:
    """The name of the repository of an image: ``name`` in ``registry/name:tag``."""
    return split_uri(uri)[0]


def split_uri(uri: str) -> tuple[str, str]:
    """Repository, and tag or digest, of an image: of ``registry/name:tag`` or ``registry/name@digest``."""
    name, _, digest = uri.partition("/")[2].partition("@")
    repository, _, tag = name.partition(":")
    return repository, digest or tag or "latest"
