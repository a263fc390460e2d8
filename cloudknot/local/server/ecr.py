"""ECR with a real registry: moto keeps the repositories, the registry keeps the images in them.

A layer in front of moto. It answers requests for images and logins from the registry. In moto's descriptions of
repositories it sets the registry's address, so that clients push to that registry.
"""

from __future__ import annotations

import base64
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from cloudknot.aws.images.registry.client import Registry
from cloudknot.aws.images.registry.manifests import OCI_MANIFEST, ImageManifest
from cloudknot.errors import CloudError
from cloudknot.local import wsgi
from cloudknot.local.iam.requests.received import received, with_call
from cloudknot.local.wsgi import Answer

if TYPE_CHECKING:
    from types_boto3_ecr.type_defs import (
        BatchDeleteImageRequestTypeDef,
        BatchGetImageRequestTypeDef,
        CreateRepositoryRequestTypeDef,
        DeleteRepositoryRequestTypeDef,
        DescribeImagesRequestTypeDef,
        DescribeRepositoriesRequestTypeDef,
        GetAuthorizationTokenRequestTypeDef,
        ImageDetailTypeDef,
        ImageFailureTypeDef,
        ImageIdentifierTypeDef,
        ImageTypeDef,
        ListImagesRequestTypeDef,
        PutImageRequestTypeDef,
        RepositoryTypeDef,
    )

LOGIN_VALIDITY = 12 * 3600
"""Seconds. The same as on AWS (Amazon ECR API reference, "GetAuthorizationToken")."""

REGISTRY_UNAVAILABLE = "RegistryUnavailable"
"""The error code when the registry does not answer or refuses a request. AWS has none for this."""


class _EcrError(Exception):
    """An error in ECR's format: code and message."""


class RegistryEcr:
    """The WSGI application that answers ECR's image operations for one registry, and forwards all other requests.

    Parameters
    ----------
    services : WSGI application
        Receives all other requests. It also keeps the repositories with their tags and policies.
    registry : Registry
        Keeps the images.
    """

    def __init__(self, services: WSGIApplication, registry: Registry) -> None:
        self._services, self._registry = services, registry
        self._operations: dict[str, Callable[[WSGIEnvironment, Any], Answer]] = {
            "GetAuthorizationToken": self._authorization_token,
            "CreateRepository": self._create_repository,
            "DescribeRepositories": self._describe_repositories,
            "DeleteRepository": self._delete_repository,
            "DescribeImages": self._describe_images,
            "ListImages": self._list_images,
            "BatchGetImage": self._batch_get_image,
            "BatchDeleteImage": self._batch_delete_image,
            "PutImage": self._put_image,
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        call = received(environ).calls("ecr")
        operation = self._operations.get(call.operation) if call else None
        if call is None or operation is None:
            return self._services(environ, start_response)
        status = 200
        try:
            answer = operation(environ, call.arguments)
        except _EcrError as error:
            code, message = error.args
            status, answer = 400, {"__type": code, "message": message}
        except CloudError as error:
            # The registry failed. With a code of ECR, the client would repeat the call for minutes and blame AWS.
            status, answer = 400, {"__type": REGISTRY_UNAVAILABLE, "message": str(error)}
        return wsgi.send_json(start_response, answer, status, "application/x-amz-json-1.1")

    def _ask(self, environ: WSGIEnvironment, operation: str, request: Mapping[str, object]) -> dict[str, Any]:
        """Return the answer of the application behind this one to an ECR operation."""
        status, answer = wsgi.ask_json(self._services, environ, with_call(environ, operation, request))
        if not status.startswith("200"):
            raise _EcrError(answer.get("__type", "ServerException").rpartition("#")[2], answer.get("message", status))
        return answer

    def _authorization_token(self, environ: WSGIEnvironment, request: GetAuthorizationTokenRequestTypeDef) -> Answer:
        login = self._registry.login
        token = base64.b64encode(f"{login.username}:{login.password}".encode()).decode()
        data = {
            "authorizationToken": token,
            "expiresAt": time.time() + LOGIN_VALIDITY,
            "proxyEndpoint": self._registry.url,
        }
        return {"authorizationData": [data]}

    def _create_repository(self, environ: WSGIEnvironment, request: CreateRepositoryRequestTypeDef) -> Answer:
        answer = self._ask(environ, "CreateRepository", request)
        return {**answer, "repository": self._with_address(answer["repository"])}

    def _describe_repositories(self, environ: WSGIEnvironment, request: DescribeRepositoriesRequestTypeDef) -> Answer:
        answer = self._ask(environ, "DescribeRepositories", request)
        return {**answer, "repositories": [self._with_address(repository) for repository in answer["repositories"]]}

    def _delete_repository(self, environ: WSGIEnvironment, request: DeleteRepositoryRequestTypeDef) -> Answer:
        name = request["repositoryName"]
        account = self._account(environ, name)
        tags = self._registry.tags(name)
        if tags and not request.get("force"):
            raise _EcrError(
                "RepositoryNotEmptyException",
                f"The repository with name '{name}' in registry with id '{account}' cannot be deleted because it "
                "still contains images",
            )
        # moto first: if it refuses, all images remain.
        answer = self._ask(environ, "DeleteRepository", request)
        # By digest: a registry deletes an image with all its tags, so a later tag of the same image finds nothing.
        for manifest in filter(None, (self._registry.manifest(name, tag) for tag in tags)):
            self._registry.delete(name, manifest.digest)
        return {**answer, "repository": self._with_address(answer["repository"])}

    def _describe_images(self, environ: WSGIEnvironment, request: DescribeImagesRequestTypeDef) -> Answer:
        """Describe images. An image requested by a tag shows that tag only."""
        # Its other tags can only be found in the manifests of all tags.
        name = request["repositoryName"]
        account = self._account(environ, name)
        manifests: dict[str, ImageManifest] = {}
        tags: defaultdict[str, list[str]] = defaultdict(list)
        for image_id in request.get("imageIds") or self._all_ids(name):
            manifest = self._manifest(name, image_id)
            if manifest is None:
                raise _EcrError("ImageNotFoundException", _no_image(image_id, name, account))
            manifests[manifest.digest] = manifest
            tags[manifest.digest] += filter(None, [image_id.get("imageTag")])
        details = [_detail(manifest, tags[digest], name, account) for digest, manifest in manifests.items()]
        return {"imageDetails": details}

    def _list_images(self, environ: WSGIEnvironment, request: ListImagesRequestTypeDef) -> Answer:
        name = request["repositoryName"]
        self._account(environ, name)
        # A registry lists tags only, so images without a tag cannot be found.
        if request.get("filter", {}).get("tagStatus") == "UNTAGGED":
            return {"imageIds": []}
        pairs = ((image_id, self._manifest(name, image_id)) for image_id in self._all_ids(name))
        image_ids = [{**image_id, "imageDigest": manifest.digest} for image_id, manifest in pairs if manifest]
        return {"imageIds": image_ids}

    def _batch_get_image(self, environ: WSGIEnvironment, request: BatchGetImageRequestTypeDef) -> Answer:
        name = request["repositoryName"]
        account = self._account(environ, name)
        images, failures = [], []
        for image_id in request["imageIds"]:
            manifest = self._manifest(name, image_id)
            if manifest is None:
                failures.append(_failure(image_id))
            else:
                images.append(_image(manifest, image_id, name, account))
        return {"images": images, "failures": failures}

    def _put_image(self, environ: WSGIEnvironment, request: PutImageRequestTypeDef) -> Answer:
        name = request["repositoryName"]
        account = self._account(environ, name)
        body, tag = request["imageManifest"], request["imageTag"]
        media_type = request.get("imageManifestMediaType") or json.loads(body).get("mediaType", OCI_MANIFEST)
        # ECR refuses to store the same image under the same tag again. A registry accepts it, so compare the digests.
        before = self._registry.manifest(name, tag)
        self._registry.put_manifest(name, tag, media_type, body.encode())
        after = self._registry.manifest(name, tag)
        if after is None or (before is not None and before.digest == after.digest):
            raise _EcrError("ImageAlreadyExistsException", f"Image with tag '{tag}' already exists in '{name}'")
        return {"image": _image(after, {"imageTag": tag}, name, account)}

    def _batch_delete_image(self, environ: WSGIEnvironment, request: BatchDeleteImageRequestTypeDef) -> Answer:
        name = request["repositoryName"]
        self._account(environ, name)
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
        other_tags = [other for other in self._registry.tags(name) if tag is not None and other != tag]
        remaining = [other for other in other_tags if self._registry.manifest(name, other) == manifest]
        self._registry.delete(name, manifest.digest)
        for other in remaining:
            self._registry.put_manifest(name, other, manifest.media_type, manifest.body)

    def _account(self, environ: WSGIEnvironment, repository: str) -> str:
        """Return the account of a repository. Raises `_EcrError` if the repository does not exist."""
        answer = self._ask(environ, "DescribeRepositories", {"repositoryNames": [repository]})
        description: RepositoryTypeDef = answer["repositories"][0]
        return description["registryId"]

    def _with_address(self, repository: RepositoryTypeDef) -> RepositoryTypeDef:
        """Return a description of a repository with the registry's address in place of AWS's."""
        return {**repository, "repositoryUri": f"{self._registry.address}/{repository['repositoryName']}"}

    def _all_ids(self, name: str) -> list[ImageIdentifierTypeDef]:
        return [{"imageTag": tag} for tag in self._registry.tags(name)]

    def _manifest(self, name: str, image_id: ImageIdentifierTypeDef) -> ImageManifest | None:
        return self._registry.manifest(name, image_id.get("imageDigest") or image_id["imageTag"])


def _detail(manifest: ImageManifest, tags: list[str], name: str, account: str) -> ImageDetailTypeDef:
    return {
        "registryId": account,
        "repositoryName": name,
        "imageDigest": manifest.digest,
        "imageTags": tags,
        "imageSizeInBytes": manifest.size,
        "imageManifestMediaType": manifest.media_type,
    }


def _image(manifest: ImageManifest, image_id: ImageIdentifierTypeDef, name: str, account: str) -> ImageTypeDef:
    return {
        "registryId": account,
        "repositoryName": name,
        "imageId": {**image_id, "imageDigest": manifest.digest},
        "imageManifest": manifest.body.decode(),
        "imageManifestMediaType": manifest.media_type,
    }


def _failure(image_id: ImageIdentifierTypeDef) -> ImageFailureTypeDef:
    return {"imageId": image_id, "failureCode": "ImageNotFound", "failureReason": "Requested image not found"}


def _no_image(image_id: ImageIdentifierTypeDef, name: str, account: str) -> str:
    identifier = f"imageDigest:'{image_id.get('imageDigest', 'null')}', imageTag:'{image_id.get('imageTag', 'null')}'"
    return (
        f"The image with imageId {{{identifier}}} does not exist within the repository with name '{name}' in the "
        f"registry with id '{account}'"
    )
