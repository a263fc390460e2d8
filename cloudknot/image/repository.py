"""DockerRepo: the public face of an image repository."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from cloudknot.aws import Cloud
from cloudknot.aws.cloud import choose_cloud
from cloudknot.aws.images.ecr import RegistryLogin, Repository
from cloudknot.errors import ResourceClobberedException, ResourceDoesNotExistException


class DockerRepo:
    """A repository for Docker images in ECR, the registry of AWS. It is created if it does not exist.

    Parameters
    ----------
    name : str
        The repository's name, for example ``"cloudknot"``.
    aws_resource_tags : mapping of str to str, optional
        Tags for a repository that is created. Default: none.
    cloud : Cloud or {"aws", "local"}, optional
        The cloud of the repository. Default: ``CLOUDKNOT_CLOUD``, else the config file, else AWS.

    Raises
    ------
    CredentialsError
        There are no AWS credentials, or AWS does not accept them.
    PermissionDeniedError
        The credentials do not allow reading or creating the repository.
    """

    def __init__(
        self, name: str, aws_resource_tags: Mapping[str, str] | None = None, *, cloud: Cloud | str | None = None
    ) -> None:
        # Held, not inherited, so that completion in a notebook shows only the documented names.
        self._repository = Repository(name, aws_resource_tags, cloud=choose_cloud(cloud))
        self._repository.create()
        # The repository has no id but its name. Its time of creation distinguishes it from a newer one of that name.
        self._created = self._repository.describe()["createdAt"]

    def __repr__(self) -> str:
        return f"DockerRepo(name={self.name!r})"

    @property
    def name(self) -> str:
        """The name of the repository."""
        return self._repository.name

    @property
    def repo_uri(self) -> str:
        """The address of the repository, for `docker push`."""
        return self._repository.repo_uri

    @property
    def repo_registry_id(self) -> str:
        """The id of the repository's registry, which is the AWS account number."""
        return self._repository.repo_registry_id

    @property
    def arn(self) -> str:
        """The ARN of the repository, its unique name in AWS."""
        return self._repository.arn

    def clobber(self) -> None:
        """Delete the repository and every image in it. Does nothing if it is already gone.

        Raises
        ------
        PermissionDeniedError
            The credentials do not allow it. Nothing was changed.
        ResourceClobberedException
            Somebody has deleted the repository and created a new one of the same name. The new one is left unchanged.
        """
        with suppress(ResourceDoesNotExistException):
            if self._repository.describe()["createdAt"] != self._created:
                raise ResourceClobberedException(
                    f"The repository {self.name!r} was already deleted, and a new repository with its name exists. "
                    f"The new one was left unchanged. To delete it, run DockerRepo({self.name!r}).clobber()."
                )
        self._repository.clobber()


def login_to(repo: DockerRepo) -> RegistryLogin:
    """Return a login for the registry of a repository."""
    return repo._repository.login()


def repository_of(uri: str) -> str:
    """Return the repository in an image's URI: ``name`` in ``registry/name:tag``."""
    return split_uri(uri)[0]


def split_uri(uri: str) -> tuple[str, str]:
    """Return the repository and the tag or digest of ``registry/name:tag`` or ``registry/name@digest``.

    A URI without either has Docker's default tag, ``latest``.
    """
    name, _, digest = uri.partition("/")[2].partition("@")
    repository, _, tag = name.partition(":")
    return repository, digest or tag or "latest"
