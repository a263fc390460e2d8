"""ECR: an image repository, made on first use, and the login for a push to it."""

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
"""What ECR deletes by itself (ECR user guide, "Lifecycle policies"). A person may change it; it is set where there is
none."""

DELETED_AT_A_TIME = 100
"""Images that one request may delete (Amazon ECR API reference, "BatchDeleteImage")."""


class RegistryLogin(NamedTuple):
    """What a Docker client needs to push. The password never appears in the ``repr``."""

    registry: str
    username: str
    password: str

    def __repr__(self) -> str:
        return f"RegistryLogin(registry={self.registry!r}, username={self.username!r})"


class Repository:
    """An ECR repository.

    Parameters
    ----------
    name : str
    aws_resource_tags : mapping of str to str, optional
        Put on the repository when it is made.
    cloud : Cloud
        Where it is.

    Making the object does not make the repository: `create` does.
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
        """ECR's own description. Raises `ResourceDoesNotExistException` when there is none."""
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
        """Return the URI of the repository; None when there is none."""
        try:
            return self.repo_uri
        except ResourceDoesNotExistException:
            return None

    def create(self) -> str:
        """Make the repository unless it exists, and return its URI."""
        return self.find() or self.make()

    def make(self) -> str:
        """Make the repository, which was not there a moment ago, and return its URI."""
        uri = None
        # That it exists means: made by another session a moment ago, or by this call, whose first answer was lost.
        with contextlib.suppress(ResourceExistsException):
            made = self._ecr.create_repository(
                repositoryName=self.name,
                imageScanningConfiguration={"scanOnPush": True},
                tags=tag_list(with_own(self.tags, self.name)),
            )
            uri = made["repository"]["repositoryUri"]
        self._put_lifecycle()
        return uri or self.repo_uri

    def finish(self) -> None:
        """Give it the lifecycle policy that a maker who was interrupted did not, if cloudknot made it."""
        if self._is_half_made():
            self._put_lifecycle()

    def _put_lifecycle(self) -> None:
        policy = json.dumps(LIFECYCLE)
        self._ecr.put_lifecycle_policy(repositoryName=self.name, lifecyclePolicyText=policy)

    def _is_half_made(self) -> bool:
        """Whether cloudknot made it, but not its lifecycle policy. One that may not be looked at is used as it is."""
        try:
            self._ecr.get_lifecycle_policy(repositoryName=self.name)
            return False
        except PermissionDeniedError:
            return False
        except CloudError as error:
            if error.code != "LifecyclePolicyNotFoundException":
                raise
        with contextlib.suppress(PermissionDeniedError):
            tags = self._ecr.list_tags_for_resource(resourceArn=self.arn)["tags"]
            return any(tag["Key"] == OWN_TAG for tag in tags)
        return False

    def has_tag(self, tag: str) -> bool:
        """Whether an image of that tag is in the repository."""
        try:
            self._ecr.describe_images(repositoryName=self.name, imageIds=[{"imageTag": tag}])
        except ResourceDoesNotExistException:
            return False
        return True

    def add_tag(self, tag: str, other: str) -> None:
        """Give the image of a tag another tag, which may have been another image's. Nothing is pulled or pushed."""
        answer = self._ecr.batch_get_image(repositoryName=self.name, imageIds=[{"imageTag": tag}])
        if not answer["images"]:
            raise ResourceDoesNotExistException(f"The repository {self.name} has no image of the tag {tag}.")
        image = answer["images"][0]
        again: PutImageRequestTypeDef = {
            "repositoryName": self.name,
            "imageManifest": image["imageManifest"],
            "imageTag": other,
        }
        if "imageManifestMediaType" in image:
            again["imageManifestMediaType"] = image["imageManifestMediaType"]
        with contextlib.suppress(ResourceExistsException):
            self._ecr.put_image(**again)

    def details(self) -> list[ImageDetailTypeDef]:
        """ECR's descriptions of the images. Raises `ResourceDoesNotExistException` without a repository."""
        pages = self._ecr.get_paginator("describe_images").paginate(repositoryName=self.name)
        return [image for page in pages for image in page["imageDetails"]]

    def images(self) -> dict[str, tuple[str, ...]]:
        """The tags of each image, by its digest; none without a repository."""
        try:
            found = self.details()
        except ResourceDoesNotExistException:
            return {}
        return {one["imageDigest"]: tuple(one.get("imageTags", ())) for one in found}

    def delete_images(self, digests: Sequence[str]) -> None:
        """Delete images with all their tags; those that are gone already are no error.

        Raises
        ------
        CannotDeleteResourceException
            ECR kept one. The message says which and why.
        """
        for start in range(0, len(digests), DELETED_AT_A_TIME):
            ids: list[ImageIdentifierTypeDef] = [
                {"imageDigest": digest} for digest in digests[start : start + DELETED_AT_A_TIME]
            ]
            try:
                answer = self._ecr.batch_delete_image(repositoryName=self.name, imageIds=ids)
            except ResourceDoesNotExistException:
                return
            kept = [one for one in answer.get("failures", ()) if one.get("failureCode") != "ImageNotFound"]
            if kept:
                raise CannotDeleteResourceException(
                    f"The image {kept[0]['imageId'].get('imageDigest')} in the repository {self.name!r} was not "
                    f"deleted: {kept[0].get('failureReason') or kept[0].get('failureCode')}. Call again.",
                    operation="ecr:batch_delete_image",
                )

    def login(self) -> RegistryLogin:
        """A login for this repository's registry, valid for 12 hours."""
        data = self._ecr.get_authorization_token()["authorizationData"][0]
        username, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
        return RegistryLogin(data["proxyEndpoint"].partition("://")[2], username, password)

    def clobber(self) -> None:
        """Delete the repository and every image in it."""
        with contextlib.suppress(ResourceDoesNotExistException):
            self._ecr.delete_repository(repositoryName=self.name, force=True)
