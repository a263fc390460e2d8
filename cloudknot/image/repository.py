"""DockerRepo: an image repository, as people name it."""

from __future__ import annotations

from collections.abc import Mapping

from cloudknot.aws import Cloud
from cloudknot.aws.cloud import choose_cloud
from cloudknot.aws.images.ecr import RegistryLogin, Repository


class DockerRepo:
    """An ECR repository, made if there is none of that name.

    Parameters
    ----------
    name : str
    aws_resource_tags : mapping of str to str, optional
        Put on the repository when it is made.
    cloud : Cloud or {"aws", "local"}, optional
        Default: the settings'.
    """

    def __init__(
        self, name: str, aws_resource_tags: Mapping[str, str] | None = None, *, cloud: Cloud | str | None = None
    ) -> None:
        self._repository = Repository(name, aws_resource_tags, cloud=choose_cloud(cloud))
        self._repository.create()

    def __repr__(self) -> str:
        return f"DockerRepo(name={self.name!r})"

    @property
    def name(self) -> str:
        """Name of the repository."""
        return self._repository.name

    @property
    def repo_uri(self) -> str:
        """Address of the repository, for `docker push`."""
        return self._repository.repo_uri

    @property
    def repo_registry_id(self) -> str:
        """Id of its registry: the number of the account."""
        return self._repository.repo_registry_id

    @property
    def arn(self) -> str:
        """ARN of the repository."""
        return self._repository.arn

    def clobber(self) -> None:
        """Delete the repository and every image in it."""
        self._repository.clobber()


def login_to(repo: DockerRepo) -> RegistryLogin:
    """Return a login for the registry of a repository."""
    return repo._repository.login()


def repository_of(uri: str) -> str:
    """The name of the repository of an image: ``name`` in ``registry/name:tag``."""
    return split_uri(uri)[0]


def split_uri(uri: str) -> tuple[str, str]:
    """Repository, and tag or digest, of an image: of ``registry/name:tag`` or ``registry/name@digest``."""
    name, _, digest = uri.partition("/")[2].partition("@")
    repository, _, tag = name.partition(":")
    return repository, digest or tag or "latest"
