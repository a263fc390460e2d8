"""DockerRepo: the public face of an image repository."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cloudknot.aws import Cloud
from cloudknot.aws.cloud import choose_cloud
from cloudknot.aws.images.ecr import RegistryLogin, Repository
from cloudknot.errors import ResourceClobberedException, ResourceDoesNotExistException
from cloudknot.image.unused_images import refuse_in_use
from cloudknot.options.public import public
from cloudknot.options.validators import tags


@public
class DockerRepo:
    """A repository for Docker images in ECR, the registry of AWS. It is created if it does not exist.

    Parameters
    ----------
    name : str
        The repository's name, for example ``"cloudknot"``.
    aws_resource_tags : dict or list of dict, optional
        Tags for a repository that is created. Default: none.
    cloud : Cloud or {"aws", "local"}, optional
        The cloud of the repository. Default: ``CLOUDKNOT_CLOUD``, else the config file, else AWS.

    Raises
    ------
    CloudknotInputError
        A tag is not valid.
    CredentialsError
        There are no AWS credentials, or AWS does not accept them.
    PermissionDeniedError
        The credentials do not allow reading or creating the repository.
    """

    def __init__(
        self,
        name: str,
        aws_resource_tags: Mapping[str, str] | Sequence[Mapping[str, str]] | None = None,
        *,
        cloud: Cloud | str | None = None,
    ) -> None:
        # Held, not inherited, so that completion in a notebook shows only the documented names.
        self._cloud = choose_cloud(cloud)
        self._repository = Repository(name, tags("aws_resource_tags", aws_resource_tags or {}), cloud=self._cloud)
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
        CannotDeleteResourceException
            A knot uses images of the repository. Nothing was changed. `Knot.clobber` with ``clobber_repo=True``
            deletes the repository with the last knot that uses it.
        PermissionDeniedError
            The credentials do not allow it. Nothing was changed.
        ResourceClobberedException
            Somebody has deleted the repository and created a new one of the same name. The new one is left unchanged.
        """
        try:
            created = self._repository.describe()["createdAt"]
        except ResourceDoesNotExistException:
            return
        if created != self._created:
            raise ResourceClobberedException(
                f"The repository {self.name!r} was already deleted, and a new repository with its name exists. "
                f"The new one was left unchanged. To delete it, run DockerRepo({self.name!r}).clobber().",
                resource_id=self.name,
            )
        # First, so that a person without the right learns about that.
        self._repository.check_right_to_delete()
        refuse_in_use(self._cloud, self.name)
        self._repository.clobber()


def login_to(repo: DockerRepo) -> RegistryLogin:
    """Return a login for the registry of a repository."""
    return repo._repository.login()
