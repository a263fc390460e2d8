"""Listings: the operations that list objects, versions and uploads in pages."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping
from urllib.parse import quote

from cloudknot.local.iam.requests.objects import S3Request
from cloudknot.local.s3.errors import S3Error
from cloudknot.local.s3.protocol.answers import Reply, canonical_id, document, elements, escaped, text_reply, xml_time
from cloudknot.local.s3.protocol.incoming import Incoming
from cloudknot.local.s3.records import MultipartUpload, ObjectPage, ObjectVersion
from cloudknot.local.s3.store import ObjectStore

LONGEST_PAGE = 1000
"""The most entries in an answer (Amazon S3 API reference, "ListObjectsV2")."""


class Listings:
    """The operations that list a bucket.

    Parameters
    ----------
    store : ObjectStore
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def objects(self, request: S3Request, _: Incoming) -> Reply:
        """Answer ListObjects, the older way."""
        query, encode = request.query, _encoder(request)
        page, limit = self._page(request, query.get("marker", ""))
        # Without a delimiter, clients take the last key for the next marker.
        following = page.following if "delimiter" in query else None
        content = {
            "Name": request.bucket,
            "Prefix": encode(query.get("prefix", "")),
            "Marker": encode(query.get("marker", "")),
            "MaxKeys": limit,
            **_choices(query, encode),
            "IsTruncated": page.following is not None,
            "NextMarker": None if following is None else encode(following),
        }
        return _reply("ListBucketResult", content, self._entries(request, page, encode, with_owner=True))

    def objects_v2(self, request: S3Request, _: Incoming) -> Reply:
        """Answer ListObjectsV2."""
        query, encode = request.query, _encoder(request)
        token, start = query.get("continuation-token"), query.get("start-after")
        page, limit = self._page(request, (start or "") if token is None else base64.b64decode(token).decode())
        content = {
            "Name": request.bucket,
            "Prefix": encode(query.get("prefix", "")),
            "StartAfter": None if start is None else encode(start),
            "ContinuationToken": token,
            "KeyCount": len(page.objects) + len(page.prefixes),
            "MaxKeys": limit,
            **_choices(query, encode),
            "IsTruncated": page.following is not None,
            "NextContinuationToken": None if page.following is None else _token(page.following),
        }
        with_owner = query.get("fetch-owner") == "true"
        return _reply("ListBucketResult", content, self._entries(request, page, encode, with_owner))

    def versions(self, request: S3Request, _: Incoming) -> Reply:
        """Answer ListObjectVersions."""
        query, encode, limit = request.query, _encoder(request), _limit(request.query, "max-keys")
        key, version = query.get("key-marker", ""), query.get("version-id-marker", "")
        if version and not key:
            raise S3Error("InvalidArgument", message="A version-id marker cannot be specified without a key marker.")
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        owner = self._owner(request)
        page = self._store.versions(request.bucket, prefix, key, version, delimiter, limit) if limit else _NOTHING
        content = {
            "Name": request.bucket,
            "Prefix": encode(prefix),
            "KeyMarker": encode(key),
            "VersionIdMarker": version,
            "MaxKeys": limit,
            **_choices(query, encode),
            "IsTruncated": page.following is not None,
            "NextKeyMarker": None if page.following is None else encode(page.following),
            "NextVersionIdMarker": (page.following is not None and page.following_version) or None,
        }
        entries = (_version(item, encode, owner) for item in page.objects)
        return _reply("ListVersionsResult", content, [*entries, *_prefixes(page.prefixes, encode)])

    def uploads(self, request: S3Request, _: Incoming) -> Reply:
        """Answer ListMultipartUploads."""
        query, encode, limit = request.query, _encoder(request), _limit(request.query, "max-uploads")
        key, number = query.get("key-marker", ""), query.get("upload-id-marker", "")
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        owner = {"ID": canonical_id(self._store.bucket(request.bucket).owner)}
        page = self._store.uploads(request.bucket, prefix, key, number, delimiter, limit)
        content = {
            "Bucket": request.bucket,
            "KeyMarker": encode(key),
            "UploadIdMarker": number,
            "NextKeyMarker": None if page.following is None else encode(page.following),
            "NextUploadIdMarker": page.following_id or None,
            "Prefix": encode(prefix),
            "MaxUploads": limit,
            **_choices(query, encode),
            "IsTruncated": page.following is not None,
            "Upload": [_upload(upload, encode, owner) for upload in page.uploads],
        }
        return _reply("ListMultipartUploadsResult", content, _prefixes(page.prefixes, encode))

    def _page(self, request: S3Request, after: str) -> tuple[ObjectPage, int]:
        """Return a page of objects, and the most entries that it may have."""
        query, limit = request.query, _limit(request.query, "max-keys")
        if not limit:
            self._store.bucket(request.bucket)
            return _NOTHING, limit
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        return self._store.list(request.bucket, prefix, after, delimiter, limit), limit

    def _entries(
        self, request: S3Request, page: ObjectPage, encode: Callable[[str], str], with_owner: bool
    ) -> Iterator[str]:
        """Yield the XML of objects and common prefixes."""
        owner = self._owner(request) if with_owner else ""
        # Written as text: a page has a thousand entries.
        for item in page.objects:
            checksum = item.properties.checksum
            sums = f"<ChecksumAlgorithm>{checksum[0]}</ChecksumAlgorithm>" if checksum else ""
            yield (f"<Contents><Key>{escaped(encode(item.key))}</Key>{_attributes(item)}{sums}{owner}</Contents>")
        yield from _prefixes(page.prefixes, encode)

    def _owner(self, request: S3Request) -> str:
        return f"<Owner><ID>{canonical_id(self._store.bucket(request.bucket).owner)}</ID></Owner>"


_NOTHING = ObjectPage(())


def _limit(query: Mapping[str, str], name: str) -> int:
    return min(int(query.get(name) or LONGEST_PAGE), LONGEST_PAGE)


def _token(following: str) -> str:
    return base64.b64encode(following.encode()).decode()


def _encoder(request: S3Request) -> Callable[[str], str]:
    """Return the function that encodes keys as the request asks for it."""
    kind = request.query.get("encoding-type")
    if kind not in (None, "url"):
        raise S3Error("InvalidArgument", message="Invalid Encoding Method specified in Request")
    return quote if kind else str


def _choices(query: Mapping[str, str], encode: Callable[[str], str]) -> dict[str, object]:
    """Return the elements that repeat the choices in a request."""
    delimiter = query.get("delimiter")
    return {"Delimiter": encode(delimiter) if delimiter else None, "EncodingType": query.get("encoding-type")}


def _attributes(item: ObjectVersion) -> str:
    """Return the XML of the attributes that listings of objects and of versions have."""
    storage = item.properties.headers.get("x-amz-storage-class", "STANDARD")
    return (
        f"<LastModified>{xml_time(int(item.modified))}</LastModified><ETag>&quot;{item.etag}&quot;</ETag>"
        f"<Size>{item.size}</Size><StorageClass>{storage}</StorageClass>"
    )


def _version(item: ObjectVersion, encode: Callable[[str], str], owner: str) -> str:
    """Return the XML of a version or a delete marker."""
    place = f"<Key>{escaped(encode(item.key))}</Key><VersionId>{item.version}</VersionId>"
    place += f"<IsLatest>{'true' if item.is_latest else 'false'}</IsLatest>"
    if item.is_delete_marker:
        time = f"<LastModified>{xml_time(int(item.modified))}</LastModified>"
        return f"<DeleteMarker>{place}{time}{owner}</DeleteMarker>"
    return f"<Version>{place}{_attributes(item)}{owner}</Version>"


def _upload(upload: MultipartUpload, encode: Callable[[str], str], owner: Mapping[str, str]) -> dict[str, object]:
    kind = upload.properties.checksum
    return {
        "Key": encode(upload.key),
        "UploadId": upload.id,
        "Initiator": owner,
        "Owner": owner,
        "StorageClass": upload.properties.headers.get("x-amz-storage-class", "STANDARD"),
        "Initiated": xml_time(int(upload.started)),
        "ChecksumAlgorithm": kind[0] if kind else None,
        "ChecksumType": kind[1] if kind else None,
    }


def _prefixes(prefixes: Iterable[str], encode: Callable[[str], str]) -> Iterator[str]:
    for prefix in prefixes:
        yield f"<CommonPrefixes><Prefix>{escaped(encode(prefix))}</Prefix></CommonPrefixes>"


def _reply(root: str, content: Mapping[str, object], entries: Iterable[str]) -> Reply:
    """Return a page: first its attributes, then its entries."""
    return text_reply(f"{document(root)}{''.join(elements(content))}{''.join(entries)}</{root}>")
