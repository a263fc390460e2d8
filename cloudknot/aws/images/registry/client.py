"""Registry: the images in one container registry. Reads, writes, copies and deletes manifests and blobs."""

from __future__ import annotations

import io
import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from cloudknot.aws.images.ecr import RegistryLogin
from cloudknot.aws.images.registry import docker_config
from cloudknot.aws.images.registry.blob_stream import BlobStream
from cloudknot.aws.images.registry.manifests import MEDIA_TYPES, Descriptor, ImageManifest, digest_of
from cloudknot.aws.images.registry.patience import StoppedTransferError
from cloudknot.aws.images.registry.reference import ImageReference
from cloudknot.aws.images.registry.refusals import RegistryAnswer, named, not_a_registry
from cloudknot.aws.images.registry.session import RegistrySession
from cloudknot.aws.images.registry.upload import CHUNK, Blob, BlobUpload, Progress
from cloudknot.aws.sdk import interrupts
from cloudknot.errors import ImageError

ABORT_PAUSE = 0.1
"""Seconds for the transfers of a call to end, before their connections are broken again."""
TIMEOUT = 60.0
"""Seconds without an answer until a request has failed."""
PATIENCE = 120.0
"""Seconds of attempts without progress until a transfer fails."""
AT_ONCE = 4
"""Blobs that are transferred at the same time."""

_ECR = re.compile(r"\d{12}\.dkr\.ecr(?:-fips)?\.([a-z0-9-]+)\.(amazonaws\.com(?:\.cn)?)")


class Registry:
    """A client of one registry with one login, and a context manager that closes its connections.

    Threads may share it. Its methods raise `CloudError` when the registry does not answer or refuses a request.

    Parameters
    ----------
    login : RegistryLogin
        Its ``registry`` is the address, for example ``"127.0.0.1:5000"``; anonymous if the user name is empty. A
        registry without access control ignores user name and password.
    renew : callable, optional
        Returns a new login when this one has expired, as ECR's does after 12 hours.
    timeout : float
        Seconds without an answer until a request has failed.
    patience : float
        Seconds of attempts without progress until a call fails. 0 means one attempt.
    at_once : bool
        Whether the first request already has the password. If not, the registry must ask for it.
    chunk : int
        Bytes of one request of an upload.
    """

    def __init__(
        self,
        login: RegistryLogin,
        *,
        renew: Callable[[], RegistryLogin] | None = None,
        timeout: float = TIMEOUT,
        patience: float = PATIENCE,
        at_once: bool = True,
        chunk: int = CHUNK,
    ) -> None:
        self._chunk = chunk
        self._session = RegistrySession(login, timeout=timeout, patience=patience, renew=renew, at_once=at_once)

    @classmethod
    def for_reference(cls, reference: ImageReference, *logins: RegistryLogin) -> Registry:
        """Return a client for the registry of an image, with the first login for it: one of these, or Docker's own."""
        given = next((login for login in logins if _is_for(login, reference.registry)), None)
        if given is not None:
            return cls(given._replace(registry=reference.registry))
        return cls(docker_config.login_for(reference.registry), at_once=False)

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *error: object) -> None:
        # An interrupted caller may have left transfers in threads, which would go on for hours.
        if any(error):
            self._session.stop()
        self._session.close()

    @property
    def login(self) -> RegistryLogin:
        return self._session.login

    @property
    def address(self) -> str:
        """Host and port, for example ``"127.0.0.1:5000"``."""
        return self._session.address

    @property
    def url(self) -> str:
        """The address with ``http://`` or ``https://``."""
        return self._session.url

    def ping(self) -> int:
        """Return the HTTP status of the registry's root; raise `PermissionDeniedError` if it refuses the login."""
        return self._session.call("GET", "/v2/", "").status

    def tags(self, repository: str) -> list[str]:
        """Return the tags in a repository, sorted. A repository that the registry does not know has none."""
        # A registry creates a repository at the first push, so one that exists in ECR may be unknown here.
        tags: list[str] = []
        path = f"/v2/{repository}/tags/list"
        while path:
            answer = self._session.call("GET", path, _pull(repository))
            if answer.status == 404:
                return []
            # Some registries send null for a repository without tags.
            tags += json.loads(self._checked(answer, path, _pull(repository)).body)["tags"] or []
            path = _next_page(answer.headers.get("link", ""))
        return sorted(tags)

    def manifest(self, repository: str, reference: str) -> ImageManifest | None:
        """Return the manifest for a tag or digest, or None if it does not exist."""
        path = f"/v2/{repository}/manifests/{reference}"
        # Without these types, a registry may convert the manifest to an old format with another digest.
        answer = self._session.call("GET", path, _pull(repository), {"Accept": ", ".join(MEDIA_TYPES)})
        if answer.status == 404:
            return None
        body = self._checked(answer, path, _pull(repository)).body
        digest = digest_of(body)
        for promised in (reference, answer.headers.get("docker-content-digest", "")):
            if promised.startswith("sha256:") and promised != digest:
                raise self._other_digest(f"sent the manifest {reference} of {repository}", promised, digest)
        return ImageManifest(digest, self._media_type(answer, path), body)

    def image_manifest(self, repository: str, reference: str, platform: str) -> ImageManifest | None:
        """Return the manifest of the image for a platform, or None if the tag or digest does not exist.

        Raises
        ------
        ImageError
            The image does not exist for that platform, or it has a format of its own. An image that is not in an
            index may have any platform: its configuration names it.
        """
        manifest = self.manifest(repository, reference)
        if manifest is None:
            return None
        if manifest.media_type not in MEDIA_TYPES:
            raise ImageError(
                f"{named(self.address)} has {repository}:{reference} in the format {manifest.media_type}, which "
                "engines no longer run. Choose another image, or pull and push it with a recent Docker."
            )
        if not manifest.is_index:
            return manifest
        found = manifest.platforms.get(platform)
        if found is None:
            others = ", ".join(sorted(name for name in manifest.platforms if "unknown" not in name))
            raise ImageError(
                f"{named(self.address)} has the image {repository}:{reference} for {others or 'no platform'}, but not "
                f"for {platform}. Pass as base_image= an image for {platform}, or choose other instance types."
            )
        return self.manifest(repository, found.digest)

    def config(self, repository: str, manifest: ImageManifest) -> dict[str, Any]:
        """Return the configuration of an image."""
        return dict(json.loads(self.read_blob(repository, manifest.config)))

    def read_blob(self, repository: str, descriptor: Descriptor) -> bytes:
        """Return the content of a small blob."""
        with self.open_blob(repository, descriptor.digest, descriptor.size) as stream:
            return stream.read()

    def open_blob(self, repository: str, digest: str, size: int) -> BinaryIO:
        """Return a blob as a seekable file, which goes on after a cut.

        Reading raises `ImageError` in place of the last bytes if the blob has another digest.
        """
        return self._open(repository, Descriptor("", digest, size), None)

    def has_blob(self, repository: str, digest: str) -> bool:
        """Return whether a repository has a blob."""
        return self._has(repository, digest, None)

    def push_blob(
        self, repository: str, blob: Blob, progress: Progress | None = None, *, mount_from: str = ""
    ) -> bool:
        """Upload a blob, unless the repository has it, and return whether it was uploaded.

        Parameters
        ----------
        progress : callable, optional
            Gets numbers of bytes; see `Progress`.
        mount_from : str
            Another repository of the registry that has the blob, so that nothing need be sent.
        """
        return self._push(repository, blob, progress, mount_from, None)

    def push_blobs(self, repository: str, blobs: Iterable[Blob], progress: Progress | None = None) -> None:
        """Upload several blobs at once, except those that the repository has. The first error ends all."""
        jobs = [lambda stop, blob=blob: self._push(repository, blob, progress, "", stop) for blob in blobs]
        _at_once(jobs, self._session)

    def copy_blob(
        self,
        repository: str,
        descriptor: Descriptor,
        source: Registry,
        source_repository: str,
        progress: Progress | None = None,
    ) -> bool:
        """Copy a blob from another registry, unless the repository has it, and return whether it was copied.

        The bytes are passed on as they arrive. Within one registry, nothing is sent.
        """
        return self._copy(repository, descriptor, source, source_repository, progress, None)

    def copy_blobs(
        self,
        repository: str,
        descriptors: Iterable[Descriptor],
        source: Registry,
        source_repository: str,
        progress: Progress | None = None,
    ) -> None:
        """Copy several blobs at once, as `copy_blob` does. The first error ends all."""
        jobs = [
            lambda stop, one=one: self._copy(repository, one, source, source_repository, progress, stop)
            for one in dict.fromkeys(descriptors)
        ]
        _at_once(jobs, self._session, source._session)

    def put_manifest(self, repository: str, reference: str, media_type: str, body: bytes) -> str:
        """Store a manifest under a tag or its digest, and return its digest. The repository must hold its blobs.

        Raises
        ------
        ResourceExistsException
            The repository has immutable tags, and another image has this one.
        """
        path, scope = f"/v2/{repository}/manifests/{reference}", _push_scope(repository)
        digest = digest_of(body)
        for pause in (0.2, 0.5, 1.0, 0.0):
            answer = self._session.call("PUT", path, scope, {"Content-Type": media_type}, body)
            # With immutable tags, ECR refuses even the image that has the tag already.
            if 400 <= answer.status < 500 and self._stores(repository, reference, digest):
                return digest
            # docker-registry 2.8 says so when it gets one manifest twice at the same moment.
            if answer.code != "DIGEST_INVALID":
                break
            # Sessions that collided once must not wait for equal times.
            time.sleep(pause * random.uniform(0.5, 1.5))
        stored = self._checked(answer, path, scope).headers.get("docker-content-digest", "")
        if stored not in ("", digest):
            raise self._other_digest(f"stored the manifest {reference} of {repository}", digest, stored)
        return digest

    def delete(self, repository: str, digest: str) -> None:
        """Delete an image with all its tags. Does nothing if the image does not exist."""
        path, scope = f"/v2/{repository}/manifests/{digest}", f"repository:{repository}:delete"
        answer = self._session.call("DELETE", path, scope)
        if answer.status != 404:
            self._checked(answer, path, scope)

    def _stores(self, repository: str, reference: str, digest: str) -> bool:
        manifest = self.manifest(repository, reference)
        return manifest is not None and manifest.digest == digest

    def _has(self, repository: str, digest: str, stop: threading.Event | None) -> bool:
        path = f"/v2/{repository}/blobs/{digest}"
        answer = self._session.call("HEAD", path, _pull(repository), stop=stop)
        return answer.status != 404 and self._checked(answer, path, _pull(repository)).status == 200

    def _open(self, repository: str, blob: Descriptor, stop: threading.Event | None) -> BinaryIO:
        stream = BlobStream(self._session, repository, blob.digest, blob.size, stop)
        return cast(BinaryIO, io.BufferedReader(stream, 1 << 18))

    def _push(
        self,
        repository: str,
        blob: Blob,
        progress: Progress | None,
        mount_from: str,
        stop: threading.Event | None,
    ) -> bool:
        if self._has(repository, blob.digest, stop):
            return False
        BlobUpload(self._session, repository, blob, progress, stop, self._chunk).run(mount_from)
        return True

    def _copy(
        self,
        repository: str,
        descriptor: Descriptor,
        source: Registry,
        source_repository: str,
        progress: Progress | None,
        stop: threading.Event | None,
    ) -> bool:
        mount_from = source_repository if source.address == self.address else ""
        blob = Blob(descriptor.digest, descriptor.size, lambda: source._open(source_repository, descriptor, stop))
        return self._push(repository, blob, progress, mount_from, stop)

    def _checked(self, answer: RegistryAnswer, path: str, scope: str) -> RegistryAnswer:
        if answer.status >= 300:
            raise self._session.refused(answer, path, scope)
        return answer

    def _media_type(self, answer: RegistryAnswer, path: str) -> str:
        """Return the media type of a manifest: the one inside it, else that of the answer."""
        try:
            inside = json.loads(answer.body).get("mediaType")
        except (ValueError, AttributeError) as error:
            raise not_a_registry(self.address, path) from error
        return str(inside or answer.headers.get("content-type", "").partition(";")[0])

    def _other_digest(self, action: str, expected: str, actual: str) -> ImageError:
        return ImageError(
            f"{named(self.address)} {action} with the digest {actual} in place of {expected}. Try again. If it "
            "fails again, use another registry: this one, or a proxy before it, changes images."
        )


def _at_once(jobs: Sequence[Callable[[threading.Event], object]], *sessions: RegistrySession) -> None:
    """Run jobs in a few threads. The first error, or an interrupt, stops the others, and is raised."""
    stop = threading.Event()
    with ThreadPoolExecutor(AT_ONCE, "cloudknot-blob") as pool:
        futures = [pool.submit(job, stop) for job in jobs]
        try:
            interrupts.wait_for_first_error(futures)
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            # A thread may wait for minutes for the answer of a registry. It may also be about to send a request, on a
            # connection that is not open yet, so the connections are broken until all threads have ended.
            while running := [future for future in futures if not future.done()]:
                for session in sessions:
                    session.abort()
                wait(running, ABORT_PAUSE)
    errors = [future.exception() for future in futures if not future.cancelled()]
    for error in errors:
        if error is not None and not isinstance(error, StoppedTransferError):
            raise error


def _is_for(login: RegistryLogin, registry: str) -> bool:
    """Return whether a login is for a registry. ECR's is for the registries of all accounts in its region."""
    own, other = _ECR.fullmatch(login.registry), _ECR.fullmatch(registry)
    return login.registry == registry or (own is not None and other is not None and own.groups() == other.groups())


def _pull(repository: str) -> str:
    return f"repository:{repository}:pull"


def _push_scope(repository: str) -> str:
    return f"repository:{repository}:pull,push"


def _next_page(link: str) -> str:
    """Return the path in a ``Link: <...>; rel="next"`` header, empty if there is no next page."""
    match = re.match(r'<([^>]+)>;\s*rel="?next"?', link)
    if match is None:
        return ""
    parts = urlsplit(match[1])
    return f"{parts.path}?{parts.query}"
