"""The data classes of the object store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class StoredBucket:
    """A bucket. ``created`` is in seconds since 1970. ``versioning`` is empty, ``Enabled`` or ``Suspended``."""

    name: str
    owner: str
    created: float
    versioning: str = ""


@dataclass(frozen=True)
class Properties:
    """What a request that stores an object says about it.

    Attributes
    ----------
    headers : mapping
        Those that S3 returns with the object, by names in lower case: ``content-type``, ``content-encoding``,
        ``cache-control``, ``x-amz-meta-...``, ``x-amz-storage-class``.
    tags : mapping
    checksum : tuple of str, optional
        S3's name of the algorithm, such as ``CRC32``, and the checksum in base64.
    """

    headers: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    checksum: tuple[str, str] | None = None


@dataclass(frozen=True)
class ObjectVersion:
    """A version of an object, or a delete marker.

    Attributes
    ----------
    bucket, key : str
    version : str
        ``"null"`` in a bucket without versions.
    size : int
        Bytes.
    etag : str
        Without quotes.
    modified : float
        Seconds since 1970.
    properties : Properties
    parts : tuple of int
        The sizes of the parts of a multipart upload. Empty for other objects.
    is_latest, is_delete_marker : bool
    row : int
        The object's place in the store's database.
    """

    bucket: str
    key: str
    version: str
    size: int
    etag: str
    modified: float
    properties: Properties = field(default_factory=Properties)
    parts: tuple[int, ...] = ()
    is_latest: bool = True
    is_delete_marker: bool = False
    row: int = 0


@dataclass(frozen=True)
class Condition:
    """The conditions of a request on the current object: the values of ``If-Match`` and ``If-None-Match``."""

    if_match: str = ""
    if_none_match: str = ""


@dataclass(frozen=True)
class ObjectPage:
    """A page of a listing. ``following`` is the key or prefix after which the next page begins, or None at the end."""

    objects: tuple[ObjectVersion, ...]
    prefixes: tuple[str, ...] = ()
    following: str | None = None


@dataclass(frozen=True)
class MultipartUpload:
    """A multipart upload. ``started`` is in seconds since 1970."""

    id: str
    bucket: str
    key: str
    started: float
    properties: Properties = field(default_factory=Properties)


@dataclass(frozen=True)
class UploadedPart:
    """A part of a multipart upload. ``modified`` is in seconds since 1970."""

    number: int
    size: int
    etag: str
    modified: float
    checksum: tuple[str, str] | None = None


@dataclass(frozen=True)
class Deleted:
    """The result of a deletion: the version that was deleted, or the delete marker that was made. Empty without."""

    version: str = ""
    marker: str = ""


@dataclass(frozen=True)
class Usage:
    """The stored objects, and the bytes that they and unfinished uploads take."""

    objects: int
    bytes: int
