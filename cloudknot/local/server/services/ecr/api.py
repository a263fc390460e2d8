"""ECR: repositories in the cloud's database, and their images in a registry.

In descriptions of repositories it sets the registry's address, so that clients push to that registry.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Protocol

from cloudknot.aws.images.registry.manifests import OCI_MANIFEST, ImageManifest
from cloudknot.errors import CloudError
from cloudknot.local.directory.database import Database
from cloudknot.local.directory.documents import Document, Documents
from cloudknot.local.directory.state import ACCOUNT, REGION
from cloudknot.local.iam.keys import Principal
from cloudknot.local.iam.requests.operations import Operation, Request, carry_out, page
from cloudknot.local.server.services.ecr.images import ImageDocuments
from cloudknot.local.server.services.service import with_tags, without_tags
from cloudknot.local.wsgi import Answer, ServiceError

if TYPE_CHECKING:
    from types_boto3_ecr import type_defs

    from cloudknot.aws.images.registry.client import Registry

LOGIN_VALIDITY = 12 * 3600
"""Seconds. The same as on AWS (Amazon ECR API reference, "GetAuthorizationToken")."""

REGISTRY_UNAVAILABLE = "RegistryUnavailable"
"""The error code when the registry does not answer or refuses a request. AWS has none for this."""
_INVALID = partial(ServiceError, "InvalidParameterException")
_RELATED = ("tags", "lifecyclePolicyText", "policyText")
"""Members of a record that its description does not show."""


class Images(Protocol):
    """The store of images, a registry or `ImageDocuments`."""

    def tags(self, repository: str) -> list[str]:
        """Return the tags of a repository."""

    def manifest(self, repository: str, reference: str) -> ImageManifest | None:
        """Return the manifest with a tag or digest, or None if there is none."""

    def put_manifest(self, repository: str, reference: str, media_type: str, body: bytes) -> str:
        """Store a manifest under a tag, and return its digest."""

    def delete(self, repository: str, digest: str) -> None:
        """Delete an image with all its tags."""


class Ecr:
    """The service ECR.

    Parameters
    ----------
    database : Database
        Keeps the repositories.
    registry : Registry or None
        Keeps the images. Without one, the database keeps manifests, and nothing can be pushed.
    """

    waits = True
    """Operations wait for the registry, so they hold no lock. Each of them writes one record at most."""

    def __init__(self, database: Database, registry: Registry | None = None) -> None:
        self._repositories = Documents(database, "ecr:repository")
        self._pushes = Documents(database, "ecr:push")
        self._registry = registry
        self._lock = threading.Lock()
        self._images: Images = registry or ImageDocuments(database)
        self._operations: dict[str, Operation] = {
            "GetAuthorizationToken": self._authorization_token,
            "CreateRepository": self._create_repository,
            "DescribeRepositories": self._describe_repositories,
            "DeleteRepository": self._delete_repository,
            "DescribeImages": self._describe_images,
            "ListImages": self._list_images,
            "BatchGetImage": self._batch_get_image,
            "BatchDeleteImage": self._batch_delete_image,
            "PutImage": self._put_image,
            "TagResource": self._tag,
            "UntagResource": self._untag,
            "ListTagsForResource": lambda request: {"tags": self._by_arn(request["resourceArn"])["tags"]},
            **self._text_operations("LifecyclePolicy", "lifecyclePolicyText"),
            **self._text_operations("RepositoryPolicy", "policyText", "Set"),
        }

    def answer(self, operation: str, request: Request, caller: Principal | None) -> Answer:
        """Answer a call."""
        try:
            return carry_out("ecr", self._operations, operation, request, _INVALID)
        except CloudError as error:
            # The registry failed. With a code of ECR, the client would repeat the call for minutes and blame AWS.
            raise ServiceError(REGISTRY_UNAVAILABLE, str(error)) from error

    def _authorization_token(self, request: type_defs.GetAuthorizationTokenRequestTypeDef) -> Answer:
        registry = self._registry
        username, password = (registry.login.username, registry.login.password) if registry else ("AWS", "")
        data = {
            "authorizationToken": base64.b64encode(f"{username}:{password}".encode()).decode(),
            "expiresAt": time.time() + LOGIN_VALIDITY,
            "proxyEndpoint": registry.url if registry else f"https://{self._address}",
        }
        return {"authorizationData": [data]}

    @property
    def _address(self) -> str:
        return self._registry.address if self._registry else f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"

    def _create_repository(self, request: type_defs.CreateRepositoryRequestTypeDef) -> Answer:
        name = request["repositoryName"]
        repository: Document = {
            "repositoryName": name,
            "repositoryArn": f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{name}",
            "registryId": ACCOUNT,
            "createdAt": time.time(),
            "imageTagMutability": request.get("imageTagMutability", "MUTABLE"),
            "imageScanningConfiguration": request.get("imageScanningConfiguration", {"scanOnPush": False}),
            "encryptionConfiguration": request.get("encryptionConfiguration", {"encryptionType": "AES256"}),
            "tags": list(request.get("tags", ())),
        }
        with self._lock:
            if name in self._repositories:
                raise ServiceError(
                    "RepositoryAlreadyExistsException",
                    f"The repository with name '{name}' already exists in the registry with id '{ACCOUNT}'",
                )
            self._repositories[name] = repository
        return {"repository": self._described(repository)}

    def _described(self, repository: Document) -> Document:
        """Return ECR's description of a repository, with the registry's address in place of AWS's."""
        shown = {name: value for name, value in repository.items() if name not in _RELATED}
        return {**shown, "repositoryUri": f"{self._address}/{repository['repositoryName']}"}

    def _describe_repositories(self, request: type_defs.DescribeRepositoriesRequestTypeDef) -> Answer:
        names = request.get("repositoryNames")
        found = [self._repository(name) for name in names] if names else self._repositories.all()
        shown, token = page(found, request.get("nextToken"), request.get("maxResults", 100))
        return {
            "repositories": [self._described(repository) for repository in shown],
            **({"nextToken": token} if token else {}),
        }

    def _repository(self, name: str) -> Document:
        try:
            return self._repositories[name]
        except KeyError as error:
            raise ServiceError(
                "RepositoryNotFoundException",
                f"The repository with name '{name}' does not exist in the registry with id '{ACCOUNT}'",
            ) from error

    def _by_arn(self, arn: str) -> Document:
        return self._repository(arn.partition(":repository/")[2])

    def _tag(self, request: type_defs.TagResourceRequestTypeDef) -> Answer:
        with self._lock:
            repository = self._by_arn(request["resourceArn"])
            self._repositories[repository["repositoryName"]] = with_tags(repository, "tags", request)
        return {}

    def _untag(self, request: type_defs.UntagResourceRequestTypeDef) -> Answer:
        with self._lock:
            repository = self._by_arn(request["resourceArn"])
            self._repositories[repository["repositoryName"]] = without_tags(repository, "tags", request["tagKeys"])
        return {}

    def _text_operations(self, noun: str, member: str, verb: str = "Put") -> dict[str, Operation]:
        """Return the operations on a policy of repositories, which is stored and has no effect."""

        def change(request: Request, text: str | None) -> Answer:
            with self._lock:
                repository = self._repository(request["repositoryName"])
                before = repository.pop(member, None)
                if text is None and before is None:
                    raise missing(request)
                self._repositories[request["repositoryName"]] = {**repository, **({member: text} if text else {})}
            return {"registryId": ACCOUNT, "repositoryName": request["repositoryName"], member: text or before}

        def read(request: Request) -> Answer:
            text = self._repository(request["repositoryName"]).get(member)
            if text is None:
                raise missing(request)
            return {"registryId": ACCOUNT, "repositoryName": request["repositoryName"], member: text}

        def missing(request: Request) -> ServiceError:
            message = (
                f"{'Lifecycle' if noun.startswith('L') else 'Repository'} policy does not exist for the repository "
                f"with name '{request['repositoryName']}' in the registry with id '{ACCOUNT}'"
            )
            return ServiceError(f"{noun}NotFoundException", message)

        return {
            f"{verb}{noun}": lambda request: change(request, request[member]),
            f"Get{noun}": read,
            f"Delete{noun}": lambda request: change(request, None),
        }

    def _delete_repository(self, request: type_defs.DeleteRepositoryRequestTypeDef) -> Answer:
        name = request["repositoryName"]
        repository = self._repository(name)
        tags = self._images.tags(name)
        if tags and not request.get("force"):
            raise ServiceError(
                "RepositoryNotEmptyException",
                f"The repository with name '{name}' in registry with id '{ACCOUNT}' cannot be deleted because it "
                "still contains images",
            )
        # By digest: a registry deletes an image with all its tags, so a later tag of the same image finds nothing.
        for manifest in filter(None, (self._images.manifest(name, tag) for tag in tags)):
            self._delete(name, manifest, None)
        self._repositories.pop(name, None)
        return {"repository": self._described(repository)}

    def _describe_images(self, request: type_defs.DescribeImagesRequestTypeDef) -> Answer:
        """Describe images. An image requested by a tag shows that tag only."""
        # Its other tags can only be found in the manifests of all tags.
        name = request["repositoryName"]
        self._repository(name)
        manifests: dict[str, ImageManifest] = {}
        tags: defaultdict[str, list[str]] = defaultdict(list)
        for image_id in request.get("imageIds") or self._all_ids(name):
            manifest = self._manifest(name, image_id)
            if manifest is None:
                raise ServiceError("ImageNotFoundException", _no_image(image_id, name))
            manifests[manifest.digest] = manifest
            tags[manifest.digest] += filter(None, [image_id.get("imageTag")])
        details = [
            {**_detail(manifest, tags[digest], name), "imagePushedAt": self._pushed_at(name, digest)}
            for digest, manifest in manifests.items()
        ]
        return {"imageDetails": details}

    def _pushed_at(self, name: str, digest: str) -> float:
        """Return the time at which an image was pushed, or first seen."""
        # A client pushes to the registry itself, which keeps no times. A later time keeps an image from being pruned
        # too early.
        with self._lock:
            return float(self._pushes.setdefault(f"{name}@{digest}", {"at": time.time()})["at"])

    def _list_images(self, request: type_defs.ListImagesRequestTypeDef) -> Answer:
        name = request["repositoryName"]
        self._repository(name)
        # A registry lists tags only, so images without a tag cannot be found.
        if request.get("filter", {}).get("tagStatus") == "UNTAGGED":
            return {"imageIds": []}
        pairs = ((image_id, self._manifest(name, image_id)) for image_id in self._all_ids(name))
        image_ids = [{**image_id, "imageDigest": manifest.digest} for image_id, manifest in pairs if manifest]
        return {"imageIds": image_ids}

    def _batch_get_image(self, request: type_defs.BatchGetImageRequestTypeDef) -> Answer:
        name = request["repositoryName"]
        self._repository(name)
        images, failures = [], []
        for image_id in request["imageIds"]:
            manifest = self._manifest(name, image_id)
            if manifest is None:
                failures.append(_failure(image_id))
            else:
                images.append(_image(manifest, image_id, name))
        return {"images": images, "failures": failures}

    def _put_image(self, request: type_defs.PutImageRequestTypeDef) -> Answer:
        name = request["repositoryName"]
        self._repository(name)
        body, tag = request["imageManifest"], request.get("imageTag")
        if tag is None:
            raise _INVALID("The embedded cloud keeps images with a tag only. Pass imageTag.")
        try:
            media_type = request.get("imageManifestMediaType") or json.loads(body).get("mediaType", OCI_MANIFEST)
        except (ValueError, AttributeError) as error:
            message = "Invalid parameter at 'ImageManifest' failed to satisfy constraint: 'Invalid JSON syntax'"
            raise _INVALID(message) from error
        # ECR refuses to store the same image under the same tag again. A registry accepts it, so compare the digests.
        before = self._images.manifest(name, tag)
        self._images.put_manifest(name, tag, media_type, body.encode())
        after = self._images.manifest(name, tag)
        if after is None or (before is not None and before.digest == after.digest):
            raise ServiceError("ImageAlreadyExistsException", f"Image with tag '{tag}' already exists in '{name}'")
        self._pushed_at(name, after.digest)
        return {"image": _image(after, {"imageTag": tag}, name)}

    def _batch_delete_image(self, request: type_defs.BatchDeleteImageRequestTypeDef) -> Answer:
        name = request["repositoryName"]
        self._repository(name)
        deleted, failures = [], []
        for image_id in request["imageIds"]:
            manifest = self._manifest(name, image_id)
            if manifest is None:
                failures.append(_failure(image_id))
            else:
                self._delete(name, manifest, image_id.get("imageTag"))
                deleted.append({**image_id, "imageDigest": manifest.digest})
        return {"imageIds": deleted, "failures": failures}

    def _delete(self, name: str, manifest: ImageManifest, tag: str | None) -> None:
        """Delete an image, or only one of its tags."""
        # A registry deletes all tags of an image at once, so the remaining ones are stored again.
        other_tags = [other for other in self._images.tags(name) if tag is not None and other != tag]
        remaining = [other for other in other_tags if self._images.manifest(name, other) == manifest]
        self._images.delete(name, manifest.digest)
        for other in remaining:
            self._images.put_manifest(name, other, manifest.media_type, manifest.body)
        if not remaining:
            self._pushes.pop(f"{name}@{manifest.digest}", None)

    def _all_ids(self, name: str) -> list[type_defs.ImageIdentifierTypeDef]:
        return [{"imageTag": tag} for tag in self._images.tags(name)]

    def _manifest(self, name: str, image_id: type_defs.ImageIdentifierTypeDef) -> ImageManifest | None:
        reference = image_id.get("imageDigest") or image_id.get("imageTag")
        return self._images.manifest(name, reference) if reference else None


def _detail(manifest: ImageManifest, tags: list[str], name: str) -> type_defs.ImageDetailTypeDef:
    return {
        "registryId": ACCOUNT,
        "repositoryName": name,
        "imageDigest": manifest.digest,
        "imageTags": tags,
        "imageSizeInBytes": manifest.size,
        "imageManifestMediaType": manifest.media_type,
    }


def _image(manifest: ImageManifest, image_id: type_defs.ImageIdentifierTypeDef, name: str) -> type_defs.ImageTypeDef:
    return {
        "registryId": ACCOUNT,
        "repositoryName": name,
        "imageId": {**image_id, "imageDigest": manifest.digest},
        "imageManifest": manifest.body.decode(),
        "imageManifestMediaType": manifest.media_type,
    }


def _failure(image_id: type_defs.ImageIdentifierTypeDef) -> type_defs.ImageFailureTypeDef:
    return {"imageId": image_id, "failureCode": "ImageNotFound", "failureReason": "Requested image not found"}


def _no_image(image_id: type_defs.ImageIdentifierTypeDef, name: str) -> str:
    identifier = f"imageDigest:'{image_id.get('imageDigest', 'null')}', imageTag:'{image_id.get('imageTag', 'null')}'"
    return (
        f"The image with imageId {{{identifier}}} does not exist within the repository with name '{name}' in the "
        f"registry with id '{ACCOUNT}'"
    )
