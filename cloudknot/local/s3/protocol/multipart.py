"""Multipart: the operations on multipart uploads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from xml.etree import ElementTree

from cloudknot.local.iam.requests.objects import S3Request
from cloudknot.local.s3.errors import S3Error
from cloudknot.local.s3.protocol.answers import Reply, canonical_id, xml_reply, xml_time
from cloudknot.local.s3.protocol.checksums import (
    ALGORITHMS,
    COMPOSITE,
    CYCLIC,
    FULL,
    PREFIX,
    Checksum,
    combined,
    composite,
)
from cloudknot.local.s3.protocol.conditions import write_condition
from cloudknot.local.s3.protocol.documents import malformed, parsed
from cloudknot.local.s3.protocol.incoming import Incoming, new_etag
from cloudknot.local.s3.protocol.objects import Objects, copy_result
from cloudknot.local.s3.protocol.properties import (
    SOURCE_VERSION,
    checksum_members,
    encryption_headers,
    stored_properties,
    version_headers,
)
from cloudknot.local.s3.protocol.ranges import copied_span
from cloudknot.local.s3.records import MultipartUpload, ObjectVersion, UploadedPart
from cloudknot.local.s3.store import ObjectStore

MOST_PARTS = 10_000
"""Parts of an upload (Amazon S3 user guide, "Amazon S3 multipart upload limits")."""
PAGE = 1000


@dataclass(frozen=True)
class ListedPart:
    """A part in the list that completes an upload."""

    number: int
    etag: str
    checksums: Mapping[str, str]


class Multipart:
    """The operations on multipart uploads.

    Parameters
    ----------
    store : ObjectStore
    objects : Objects
        Finds the source of a copy.
    """

    def __init__(self, store: ObjectStore, objects: Objects) -> None:
        self._store, self._objects = store, objects

    def create(self, request: S3Request, _: Incoming) -> Reply:
        """Answer CreateMultipartUpload."""
        kind = _wanted_checksum(request.headers)
        upload = self._store.create_upload(request.bucket, request.key, stored_properties(request, kind))
        headers = [("x-amz-checksum-algorithm", kind[0]), ("x-amz-checksum-type", kind[1])] if kind else []
        content = {"Bucket": request.bucket, "Key": request.key, "UploadId": upload.id}
        return xml_reply("InitiateMultipartUploadResult", content, headers + encryption_headers(upload.properties))

    def put_part(self, request: S3Request, body: Incoming) -> Reply:
        """Answer UploadPart and UploadPartCopy."""
        number = int(request.query["partNumber"])
        if not 1 <= number <= MOST_PARTS:
            message = f"Part number must be an integer between 1 and {MOST_PARTS}, inclusive"
            raise S3Error("InvalidArgument", request.key, message)
        upload = self._upload(request)
        asked = upload.properties.checksum[0] if upload.properties.checksum else ""
        if request.source is not None:
            return self._copy_part(request, upload, number, asked)
        with self._store.writer(body.length) as writer:
            etag, checksum = body.receive(writer, request.headers, asked)
            if asked and checksum and checksum[0] != asked:
                message = f"Checksum Type mismatch occurred, expected checksum Type: {asked}, actual: {checksum[0]}"
                raise S3Error("InvalidRequest", request.key, message)
            part = self._store.put_part(upload, number, writer, etag, checksum)
        headers = [(PREFIX + checksum[0].lower(), checksum[1])] if checksum else []
        return Reply(200, [("ETag", f'"{part.etag}"'), *headers, *encryption_headers(upload.properties)])

    def complete(self, request: S3Request, body: Incoming) -> Reply:
        """Answer CompleteMultipartUpload. A repeated request has the answer of the first one, as in S3."""
        listed = _listed_parts(body.document())
        pairs = [(part.number, part.etag) for part in listed]
        try:
            version = self._complete(request, listed, pairs)
        except S3Error as error:
            # The client may have lost the first answer.
            earlier = None
            if error.code == "NoSuchUpload":
                earlier = self._store.completed(request.bucket, request.key, request.query["uploadId"], pairs)
            if earlier is None:
                raise
            version = earlier
        content = {
            "Location": f"/{request.bucket}/{request.key}",
            "Bucket": request.bucket,
            "Key": request.key,
            "ETag": f'"{version.etag}"',
            **checksum_members(version.properties.checksum),
        }
        headers = version_headers(version) + encryption_headers(version.properties)
        return xml_reply("CompleteMultipartUploadResult", content, headers)

    def _complete(
        self, request: S3Request, listed: Sequence[ListedPart], pairs: Sequence[tuple[int, str]]
    ) -> ObjectVersion:
        upload = self._upload(request)
        stored = {part.number: part for part in self._store.parts(upload, 0, MOST_PARTS)}
        kind = upload.properties.checksum
        _check_parts(listed, stored)
        checksum = _whole_checksum(kind, [stored[part.number] for part in listed]) if kind else None
        _check_whole(request.headers, checksum, sum(stored[part.number].size for part in listed))
        condition = write_condition(request.headers)
        return self._store.complete(upload, pairs, new_etag(len(pairs)), condition, checksum)

    def abort(self, request: S3Request, _: Incoming) -> Reply:
        """Answer AbortMultipartUpload."""
        self._store.abort(self._upload(request))
        return Reply(204)

    def list_parts(self, request: S3Request, _: Incoming) -> Reply:
        """Answer ListParts."""
        upload, query = self._upload(request), request.query
        limit, after = min(int(query.get("max-parts", PAGE)), PAGE), int(query.get("part-number-marker", 0))
        found = self._store.parts(upload, after, limit + 1)
        page, owner = list(islice(found, limit)), self._owner(request)
        kind = upload.properties.checksum
        content = {
            "Bucket": request.bucket,
            "Key": request.key,
            "UploadId": upload.id,
            "Initiator": owner,
            "Owner": owner,
            "StorageClass": upload.properties.headers.get("x-amz-storage-class", "STANDARD"),
            "PartNumberMarker": after,
            "NextPartNumberMarker": page[-1].number if page else None,
            "MaxParts": limit,
            "IsTruncated": len(found) > len(page) and limit > 0,
            "ChecksumAlgorithm": kind[0] if kind else None,
            "ChecksumType": kind[1] if kind else None,
            "Part": [_part(part) for part in page],
        }
        return xml_reply("ListPartsResult", content)

    def _copy_part(self, request: S3Request, upload: MultipartUpload, number: int, asked: str) -> Reply:
        source = self._objects.source(request)
        start, end = copied_span(request.headers.get("x-amz-copy-source-range"), source.size)
        checksum = self._objects.checksum(asked, source, (start, end)) if asked else None
        part = self._store.copy_part(upload, number, source, start, end, new_etag(1), checksum)
        content = copy_result(part.etag, part.modified, part.checksum)
        return xml_reply("CopyPartResult", content, version_headers(source, SOURCE_VERSION))

    def _upload(self, request: S3Request) -> MultipartUpload:
        return self._store.upload(request.bucket, request.key, request.query["uploadId"])

    def _owner(self, request: S3Request) -> Mapping[str, str]:
        return {"ID": canonical_id(self._store.bucket(request.bucket).owner)}


def _wanted_checksum(headers: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the algorithm and the type of the checksum that an upload asks for."""
    algorithm = headers.get("x-amz-checksum-algorithm", "").upper()
    if not algorithm:
        return None
    if algorithm not in ALGORITHMS:
        raise S3Error("InvalidRequest", message="Checksum algorithm provided is unsupported.")
    # Amazon S3 user guide, "Checking object integrity in Amazon S3".
    types = {"CRC64NVME": (FULL,)}.get(algorithm, (COMPOSITE, FULL) if algorithm in CYCLIC else (COMPOSITE,))
    wanted = headers.get("x-amz-checksum-type", types[0]).upper()
    if wanted not in types:
        message = f"The {wanted} checksum type cannot be used with the {algorithm.lower()} checksum algorithm."
        raise S3Error("InvalidRequest", message=message)
    return algorithm, wanted


def _listed_parts(body: bytes) -> Sequence[ListedPart]:
    """Return the parts in the body of CompleteMultipartUpload."""
    root = parsed(body, {"CompleteMultipartUpload"})
    parts = [_listed_part(element) for element in root if element.tag == "Part"]
    if not parts or len(parts) > MOST_PARTS or len(parts) < len(root):
        raise malformed(f"an upload has between 1 and {MOST_PARTS} parts")
    return parts


def _listed_part(element: ElementTree.Element) -> ListedPart:
    fields = {str(child.tag): child.text or "" for child in element}
    number, etag = fields.pop("PartNumber", ""), fields.pop("ETag", "").strip('"')
    if not (number.isdecimal() and len(number) < 6 and etag):
        raise malformed("a Part needs a PartNumber and an ETag")
    names = {name.removeprefix("Checksum"): value for name, value in fields.items()}
    if not names.keys() <= set(ALGORITHMS):
        raise malformed("a Part has an unknown element")
    return ListedPart(int(number), etag, names)


def _check_parts(listed: Sequence[ListedPart], stored: Mapping[int, UploadedPart]) -> None:
    """Raise an error for a part that was not stored so."""
    if any(first.number >= second.number for first, second in pairwise(listed)):
        raise S3Error("InvalidPartOrder")
    for part in listed:
        found = stored.get(part.number)
        sums = {found.checksum} if found else set()
        if found is None or found.etag != part.etag or not set(part.checksums.items()) <= sums:
            raise S3Error("InvalidPart", str(part.number))


def _whole_checksum(kind: tuple[str, str], parts: Sequence[UploadedPart]) -> Checksum:
    """Return the checksum of an object from those of its parts."""
    algorithm, wanted = kind
    sums = [(part.checksum[1] if part.checksum else "", part.size) for part in parts]
    if wanted == COMPOSITE:
        return algorithm, composite(algorithm, [value for value, _ in sums])
    return algorithm, combined(algorithm, sums)


def _check_whole(headers: Mapping[str, str], checksum: Checksum | None, size: int) -> None:
    """Raise an error if the object has not the size and the checksum that its client expects."""
    if headers.get("x-amz-mp-object-size", str(size)) != str(size):
        message = f"The provided 'x-amz-mp-object-size' header value does not match the size of the object: {size}"
        raise S3Error("InvalidRequest", message=message)
    for algorithm in ALGORITHMS:
        expected = headers.get(PREFIX + algorithm.lower())
        if expected is not None and (algorithm, expected) != checksum:
            raise S3Error("BadDigest", message=f"The {algorithm.lower()} you specified did not match the object.")


def _part(part: UploadedPart) -> dict[str, object]:
    return {
        "PartNumber": part.number,
        "LastModified": xml_time(int(part.modified)),
        "ETag": f'"{part.etag}"',
        "Size": part.size,
        **({f"Checksum{part.checksum[0]}": part.checksum[1]} if part.checksum else {}),
    }
