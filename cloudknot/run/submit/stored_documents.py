"""Manifests and records as S3 holds them: read, and checked before they are used."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from cloudknot.errors import StoredDataError
from cloudknot.worker.wire.documents import from_document
from cloudknot.worker.wire.manifest import Manifest, Record, record_from_document
from cloudknot.worker.wire.seal import NewerFormatError, UnusableError

if TYPE_CHECKING:
    from cloudknot.aws.s3.storage import Storage

T = TypeVar("T")
UPGRADE = "Upgrade cloudknot: pip install --upgrade cloudknot."


def get_manifest(storage: Storage, key: str) -> Manifest:
    """Return the manifest that is stored under ``key``.

    Raises
    ------
    ResourceDoesNotExistException
        No object has that key.
    StoredDataError
        The object is damaged, or a newer cloudknot stored it.
    """
    return parse_manifest(storage, key, storage.get(key))


def parse_manifest(storage: Storage, key: str, data: bytes) -> Manifest:
    """Return the manifest in the bytes of the object ``key``. Raises `StoredDataError` as `get_manifest` does."""
    return checked(storage, key, lambda: Manifest.from_document(data, key))


def parse_fields(storage: Storage, key: str, data: bytes) -> Any:
    """Return all fields of a document. Raises `StoredDataError` as `get_manifest` does."""
    return checked(storage, key, lambda: from_document(data, key))


def get_record(storage: Storage, key: str) -> Record:
    """Return the record that is stored under ``key``. Raises the errors of `get_manifest`."""
    data = storage.get(key)
    return checked(storage, key, lambda: record_from_document(data, key))


def checked(storage: Storage, key: str, read: Callable[[], T]) -> T:
    """Return the result of ``read``, which decodes the object ``key``. Translates its `UnusableError`."""
    try:
        return read()
    except UnusableError as error:
        fix = UPGRADE if isinstance(error, NewerFormatError) else "Map again, because nothing can repair it."
        raise StoredDataError(f"The object s3://{storage.bucket}/{key} {error}. {fix}") from error
