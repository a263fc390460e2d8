"""ECR, the image registry of AWS: repositories, their images, and the login for a push."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from cloudknot.aws import clients
from cloudknot.aws.tags import OWN_TAG, tag_list, with_own
from cloudknot.errors import (
    CannotDeleteResourceException,
    CloudError,
    PermissionDeniedError,
    ResourceDoesNotExistException,
    ResourceExistsException,
)

if TYPE_CHECKING:
    from types_boto3_ecr import ECRClient
    from types_boto3_ecr.type_defs import (
        ImageDetailTypeDef,
        ImageIdentifierTypeDef,
        PutImageRequestTypeDef,
        RepositoryTypeDef,
    )


LIFECYCLE = {
    "rules": [
        {
            "rulePriority": 1,
            "description": "Images without a tag are of no use to cloudknot",
            "selection": {
                "tagStatus": "untagged",
                "countType": "sinceImagePushed",
                "countUnit": "days",
                "countNumber": 1,
            },
            "action": {"type": "expire"},
        }
    ]
}
"""The lifecycle policy of a new repository. It deletes untagged images (ECR user guide, "Lifecycle policies")."""

DELETED_AT_A_TIME = 100
"""Most images that one request may delete (Amazon ECR API reference, "BatchDeleteImage")."""


class RegistryLogin(NamedTuple):
    """A registry with the user name and password for it. The ``repr`` hides the password."""

    registry: str
    username: str
    password: str

    def __repr__(self) -> str:
        return f"RegistryLogin(registry={self.registry!r}, username={self.username!r})"


class Repository:
    """An ECR repository, which may not exist yet: `create` creates it.

    Parameters
    ----------
    name : str
    aws_resource_tags : mapping of str to str, optional
        Tags for the repository when it is created.
    cloud : Cloud
        The cloud of the repository.
    """

    def __init__(
        self, name: str, aws_resource_tags: Mapping[str, str] | None = None, *, cloud: clients.Caller
    ) -> None:
        self.name = name
        self.tags = dict(aws_resource_tags or {})
        self.cloud = cloud

    @property
    def _ecr(self) -> ECRClient:
        return clients.ecr(self.cloud)

    def describe(self) -> RepositoryTypeDef:
        """Return ECR's description; raise `ResourceDoesNotExistException` if the repository does not exist."""
        return self._ecr.describe_repositories(repositoryNames=[self.name])["repositories"][0]

    @property
    def repo_uri(self) -> str:
        return self.describe()["repositoryUri"]

    @property
    def repo_registry_id(self) -> str:
        return self.describe()["registryId"]

    @property
    def arn(self) -> str:
        return self.describe()["repositoryArn"]

    def find(self) -> str | None:
        """Return the URI of the repository; None if it does not exist."""
        try:
            return self.repo_uri
        except ResourceDoesNotExistException:
            return None

    def create(self) -> str:
        """Create the repository unless it exists, and return its URI."""
        return self.find() or self.make()

    def make(self) -> str:
        """Create the repository, which did not exist a moment ago, and return its URI."""
        uri = None
        # Another session, or this call before its answer was lost, may have created it in the meantime.
        with contextlib.suppress(ResourceExistsException):
            answer = self._ecr.create_repository(
                repositoryName=self.name,
                imageScanningConfiguration={"scanOnPush": True},
                tags=tag_list(with_own(self.tags, self.name)),
            )
            uri = answer["repository"]["repositoryUri"]
        self._put_lifecycle()
        return uri or self.repo_uri

    def finish(self) -> None:
        """Add the lifecycle policy to a repository that an interrupted session of cloudknot created without it."""
        if self._is_unfinished():
            self._put_lifecycle()

    def _put_lifecycle(self) -> None:
        # Called only for a repository without a policy: a person may have changed an existing one.
        policy = json.dumps(LIFECYCLE)
        self._ecr.put_lifecycle_policy(repositoryName=self.name, lifecyclePolicyText=policy)

    def _is_unfinished(self) -> bool:
        """Return whether cloudknot created the repository, and its lifecycle policy is missing."""
        try:
            self._ecr.get_lifecycle_policy(repositoryName=self.name)
            return False
        except PermissionDeniedError:
            # A person without these permissions can still use the repository as it is.
            return False
        except CloudError as error:
            if error.code != "LifecyclePolicyNotFoundException":
                raise
        with contextlib.suppress(PermissionDeniedError):
            tags = self._ecr.list_tags_for_resource(resourceArn=self.arn)["tags"]
            return any(tag["Key"] == OWN_TAG for tag in tags)
        return False

    def has_tag(self, tag: str) -> bool:
        """Return whether the repository has an image with that tag."""
        try:
            answer = self._ecr.describe_images(repositoryName=self.name, imageIds=[{"imageTag": tag}])
        except ResourceDoesNotExistException:
            return False
        # ECR usually answers with an error for a tag that is not there. An answer without images means the same.
        return bool(answer["imageDetails"])

    def add_tag(self, tag: str, new_tag: str) -> None:
        """Move or add ``new_tag`` to the image that has ``tag``. Nothing is pulled or pushed."""
        answer = self._ecr.batch_get_image(repositoryName=self.name, imageIds=[{"imageTag": tag}])
        if not answer["images"]:
            raise ResourceDoesNotExistException(
                f"The repository {self.name} has no image with the tag {tag}. Somebody may have deleted it just now. "
                "Call again to build and push it."
            )
        image = answer["images"][0]
        # ECR adds a tag by storing the same manifest once more.
        request: PutImageRequestTypeDef = {
            "repositoryName": self.name,
            "imageManifest": image["imageManifest"],
            "imageTag": new_tag,
        }
        # Required for a manifest that does not contain its own media type (ECR API reference, "PutImage").
        if "imageManifestMediaType" in image:
            request["imageManifestMediaType"] = image["imageManifestMediaType"]
        # The image has that tag already.
        with contextlib.suppress(ResourceExistsException):
            self._ecr.put_image(**request)

    def details(self) -> list[ImageDetailTypeDef]:
        """Return ECR's descriptions of the images; raise `ResourceDoesNotExistException` without a repository."""
        pages = self._ecr.get_paginator("describe_images").paginate(repositoryName=self.name)
        return [image for page in pages for image in page["imageDetails"]]

    def images(self) -> dict[str, tuple[str, ...]]:
        """Return the tags of each image by its digest; empty without a repository."""
        try:
            details = self.details()
        except ResourceDoesNotExistException:
            return {}
        return {image["imageDigest"]: tuple(image.get("imageTags", ())) for image in details}

    def delete_images(self, digests: Sequence[str]) -> None:
        """Delete images with all their tags. Images that are already gone are ignored.

        Raises
        ------
        CannotDeleteResourceException
            ECR did not delete an image. The message names the image and the reason.
        """
        for start in range(0, len(digests), DELETED_AT_A_TIME):
            ids: list[ImageIdentifierTypeDef] = [
                {"imageDigest": digest} for digest in digests[start : start + DELETED_AT_A_TIME]
            ]
            try:
                answer = self._ecr.batch_delete_image(repositoryName=self.name, imageIds=ids)
            except ResourceDoesNotExistException:
                return
            # ECR reports images that it did not delete in a successful answer.
            failures = [item for item in answer.get("failures", ()) if item.get("failureCode") != "ImageNotFound"]
            if failures:
                reason = str(failures[0].get("failureReason") or failures[0].get("failureCode")).rstrip(".")
                raise CannotDeleteResourceException(
                    f"The image {failures[0]['imageId'].get('imageDigest')} in the repository {self.name!r} was not "
                    f"deleted. AWS's reason: {reason}. Call again to delete it and the images after it.",
                    operation="ecr:batch_delete_image",
                    resource_id=self.name,
                )

    def login(self) -> RegistryLogin:
        """Return a login for the repository's registry, valid for 12 hours."""
        # The token is the user name and the password in base64 (ECR API reference, "AuthorizationData").
        data = self._ecr.get_authorization_token()["authorizationData"][0]
        username, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
        return RegistryLogin(data["proxyEndpoint"].partition("://")[2], username, password)

    def check_right_to_delete(self) -> None:
        """Raise `PermissionDeniedError` if the caller may not delete the repository. Changes nothing.

        The right to an empty repository cannot be checked.
        """
        # Without force, ECR refuses to delete a repository with images, but it checks the caller's rights before that.
        if not self.images():
            return
        try:
            self._ecr.delete_repository(repositoryName=self.name)
        except PermissionDeniedError:
            raise
        except CloudError as error:
            # Without a code, there was no answer.
            if not error.code:
                raise

    def clobber(self) -> None:
        """Delete the repository and every image in it. Does nothing if it is already gone."""
        # Without force, ECR refuses to delete a repository that contains images.
        with contextlib.suppress(ResourceDoesNotExistException):
            self._ecr.delete_repository(repositoryName=self.name, force=True)


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
