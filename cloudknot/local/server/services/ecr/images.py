"""ImageDocuments: the manifests of images in the cloud's database, for a cloud without a registry."""

from __future__ import annotations

from cloudknot.aws.images.registry.manifests import ImageManifest, digest_of
from cloudknot.local.directory.database import Database
from cloudknot.local.directory.documents import Documents


class ImageDocuments:
    """The manifests in the repositories of a cloud. It has no layers.

    Parameters
    ----------
    database : Database
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def _tags(self, repository: str) -> Documents:
        return Documents(self._database, f"ecr:tag:{repository}")

    def _manifests(self, repository: str) -> Documents:
        return Documents(self._database, f"ecr:manifest:{repository}")

    def tags(self, repository: str) -> list[str]:
        """Return the tags of a repository."""
        return sorted(self._tags(repository))

    def manifest(self, repository: str, reference: str) -> ImageManifest | None:
        """Return the manifest with a tag or digest, or None if there is none."""
        tag = self._tags(repository).get(reference)
        found = self._manifests(repository).get(tag["digest"] if tag else reference)
        return ImageManifest(found["digest"], found["type"], found["body"].encode()) if found else None

    def put_manifest(self, repository: str, reference: str, media_type: str, body: bytes) -> str:
        """Store a manifest under a tag, and return its digest."""
        digest = digest_of(body)
        with self._database.transaction():
            self._manifests(repository)[digest] = {"digest": digest, "type": media_type, "body": body.decode()}
            self._tags(repository)[reference] = {"digest": digest}
        return digest

    def delete(self, repository: str, digest: str) -> None:
        """Delete an image with all its tags."""
        with self._database.transaction():
            self._manifests(repository).pop(digest, None)
            tags = self._tags(repository)
            for tag in [tag for tag, value in tags.items() if value["digest"] == digest]:
                del tags[tag]
