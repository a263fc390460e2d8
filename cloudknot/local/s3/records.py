"""The data classes of the object store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class StoredBucket:
    """A bucket. ``created`` is in seconds since 1970. ``versioning`` is empty, ``Enabled`` or ``Suspended``.

    ``row`` is its place in the store's database.
    """

    name: str
    owner: str
    created: float
    versioning: str = ""
    row: int = 0


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
class Extent:
    """A range of a data file. ``size`` is in bytes."""

    file: str
    start: int
    size: int


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
    content : bytes, optional
        The data of a small object. Empty in listings.
    extents : tuple of Extent
        The data of a larger object. Empty in listings.
    is_versioned : bool
        Whether the bucket keeps versions, or did. Answers then name the version, also ``"null"``. False in listings.
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
    content: bytes | None = field(default=None, repr=False)
    extents: tuple[Extent, ...] = field(default=(), repr=False)
    is_versioned: bool = False


@dataclass(frozen=True)
class Condition:
    """The conditions of a request on the current object: the values of ``If-Match`` and ``If-None-Match``."""

    if_match: str = ""
    if_none_match: str = ""


@dataclass(frozen=True)
class ObjectPage:
    """A page of a listing.

    Attributes
    ----------
    objects : tuple of ObjectVersion
    prefixes : tuple of str
    following : str, optional
        The key or prefix after which the next page begins, or None at the end.
    following_version : str
        In a listing of versions, the version of that key after which the next page begins.
    """

    objects: tuple[ObjectVersion, ...]
    prefixes: tuple[str, ...] = ()
    following: str | None = None
    following_version: str = ""


@dataclass(frozen=True)
class MultipartUpload:
    """A multipart upload. ``started`` is in seconds since 1970, ``row`` its place in the store's database."""

    id: str
    bucket: str
    key: str
    started: float
    properties: Properties = field(default_factory=Properties)
    row: int = 0


@dataclass(frozen=True)
class UploadPage:
    """A page of a listing of uploads. ``following`` and ``following_id`` are markers, as in `ObjectPage`."""

    uploads: tuple[MultipartUpload, ...]
    prefixes: tuple[str, ...] = ()
    following: str | None = None
    following_id: str = ""


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
    """The result of a deletion.

    Attributes
    ----------
    version : str
        The deleted version, if the caller named one. Empty otherwise.
    marker : str
        The version of the delete marker that was made, or that was deleted. Empty without.
    """

    version: str = ""
    marker: str = ""


def is_named(etag: str, header: str) -> bool:
    """Return whether the value of ``If-Match`` or ``If-None-Match`` names an entity tag."""
    return header.strip() == "*" or etag in (tag.strip().removeprefix("W/").strip('"') for tag in header.split(","))
