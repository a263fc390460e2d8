"""Objects: reads, stores, copies and deletes objects, and answers questions about them."""

from __future__ import annotations

from dataclasses import replace

from cloudknot.local.iam.requests.objects import S3Request
from cloudknot.local.s3.errors import S3Error
from cloudknot.local.s3.protocol.answers import Reply, http_time, text_reply, xml_reply, xml_time
from cloudknot.local.s3.protocol.checksums import ALGORITHMS, COMPOSITE, Checksum, encoded, new_hash, type_of
from cloudknot.local.s3.protocol.conditions import check_source, is_unchanged, write_condition
from cloudknot.local.s3.protocol.configurations import access_control_list
from cloudknot.local.s3.protocol.documents import tag_set, tags_in
from cloudknot.local.s3.protocol.incoming import LARGEST_UPLOAD, Incoming
from cloudknot.local.s3.protocol.properties import (
    COPY_HEADERS,
    MOST_TAGS,
    SOURCE_VERSION,
    check_acl,
    checksum_headers,
    checksum_members,
    encryption_headers,
    object_headers,
    stored_properties,
    version_headers,
)
from cloudknot.local.s3.protocol.ranges import Span, part_span, span_of
from cloudknot.local.s3.records import Deleted, ObjectVersion, Properties
from cloudknot.local.s3.storage.writer import SMALL
from cloudknot.local.s3.store import ObjectStore
from cloudknot.local.wsgi import FileBody


class Objects:
    """The operations on objects.

    Parameters
    ----------
    store : ObjectStore
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def get(self, request: S3Request, _: Incoming) -> Reply:
        """Answer GetObject and HeadObject."""
        version = self._version(request)
        headers = object_headers(version, request.query)
        if is_unchanged(request.headers, version):
            return Reply(304, headers)
        span = _span(request, version)
        if span is None:
            if request.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED":
                headers += checksum_headers(version.properties.checksum)
            status, start, end = 200, 0, version.size
        else:
            status, (start, end) = 206, span
            headers.append(("Content-Range", f"bytes {start}-{end - 1}/{version.size}"))
        if version.parts and "partNumber" in request.query:
            headers.append(("x-amz-mp-parts-count", str(len(version.parts))))
        if request.method == "HEAD":
            return Reply(status, headers, length=end - start)
        return Reply(status, headers, self._data(version, start, end))

    def put(self, request: S3Request, body: Incoming) -> Reply:
        """Answer PutObject and CopyObject."""
        if request.source is not None:
            return self._copy(request)
        properties, condition = stored_properties(request), write_condition(request.headers)
        # Before a long body arrives. With a short one, the store finds out anyway.
        if body.length > SMALL:
            self._store.bucket(request.bucket)
        with self._store.writer(body.length, (request.bucket, request.key)) as writer:
            etag, checksum = body.receive(writer, request.headers)
            if checksum is not None:
                properties = replace(properties, checksum=checksum)
            version = self._store.put(request.bucket, request.key, writer, properties, etag, condition)
        headers = [("ETag", f'"{version.etag}"'), *version_headers(version), *checksum_headers(checksum)]
        return Reply(200, headers + encryption_headers(properties))

    def delete(self, request: S3Request, _: Incoming) -> Reply:
        """Answer DeleteObject."""
        if any(name.startswith("x-amz-if-match-") for name in request.headers):
            message = "The only condition of a deletion is If-Match."
            raise S3Error("NotImplemented", request.key, message, 501)
        condition = write_condition(request.headers)
        deleted = self._store.delete(request.bucket, request.key, request.query.get("versionId") or None, condition)
        headers = [("x-amz-delete-marker", "true")] if deleted.marker else []
        version = deleted.marker or deleted.version
        return Reply(204, [*headers, *([("x-amz-version-id", version)] if version else [])])

    def delete_several(self, request: S3Request, _: Incoming) -> Reply:
        """Answer DeleteObjects."""
        keys = [(deletion.key, deletion.version or None) for deletion in request.deletions]
        results = self._store.delete_many(request.bucket, keys)
        entries = [_deletion(*key, result) for key, result in zip(keys, results, strict=True)]
        return xml_reply("DeleteResult", {"Deleted": [] if request.is_quiet else entries})

    def get_tags(self, request: S3Request, _: Incoming) -> Reply:
        """Answer GetObjectTagging."""
        version = self._described(request)
        return xml_reply("Tagging", tag_set(version.properties.tags), version_headers(version))

    def put_tags(self, request: S3Request, body: Incoming) -> Reply:
        """Answer PutObjectTagging."""
        tags, version = tags_in(body.document(), MOST_TAGS), self._described(request)
        self._store.set_tags(version, tags)
        return Reply(200, version_headers(version))

    def delete_tags(self, request: S3Request, _: Incoming) -> Reply:
        """Answer DeleteObjectTagging."""
        version = self._described(request)
        self._store.set_tags(version, {})
        return Reply(204, version_headers(version))

    def get_acl(self, request: S3Request, _: Incoming) -> Reply:
        """Answer GetObjectAcl."""
        version = self._described(request)
        return text_reply(access_control_list(self._store.bucket(request.bucket).owner), version_headers(version))

    def put_acl(self, request: S3Request, body: Incoming) -> Reply:
        """Answer PutObjectAcl."""
        check_acl(request, body.document(), self._store.bucket(request.bucket).owner)
        return Reply(200, version_headers(self._described(request)))

    def attributes(self, request: S3Request, _: Incoming) -> Reply:
        """Answer GetObjectAttributes."""
        names = [name.strip() for name in request.headers.get("x-amz-object-attributes", "").split(",")]
        version = self._version(request)
        checksum = version.properties.checksum
        known = {
            "ETag": version.etag,
            "Checksum": checksum_members(checksum) or None,
            "ObjectParts": {"PartsCount": len(version.parts)} if version.parts else None,
            "StorageClass": version.properties.headers.get("x-amz-storage-class", "STANDARD"),
            "ObjectSize": version.size,
        }
        if not names or not known.keys() >= set(names):
            raise S3Error("InvalidArgument", request.key, "Invalid attribute name specified.")
        content = {name: value for name, value in known.items() if name in names}
        headers = [("Last-Modified", http_time(int(version.modified))), *version_headers(version)]
        return xml_reply("GetObjectAttributesResponse", content, headers)

    def source(self, request: S3Request) -> ObjectVersion:
        """Return the object that a copy reads."""
        assert request.source is not None
        bucket, key, version = request.source
        found = self._store.get(bucket, key, version or None)
        check_source(request.headers, found)
        return found

    def checksum(self, algorithm: str, version: ObjectVersion, span: Span) -> Checksum:
        """Return the checksum of a part of an object, which is read for it."""
        computed, data = new_hash(algorithm), self._data(version, *span)
        if isinstance(data, bytes):
            computed.update(data)
        else:
            try:
                for block in data:
                    computed.update(block)
            finally:
                data.close()
        return algorithm, encoded(computed.digest())

    def _copy(self, request: S3Request) -> Reply:
        source, given = self.source(request), stored_properties(request)
        if source.size > LARGEST_UPLOAD:
            message = "The specified copy source is larger than the maximum allowable size for a copy source"
            raise S3Error("InvalidRequest", source.key, f"{message}: {LARGEST_UPLOAD}")
        properties = replace(_copied(request, source, given), checksum=self._copied_checksum(request, source))
        condition = write_condition(request.headers)
        version = self._store.copy(source, request.bucket, request.key, properties, condition)
        headers = version_headers(version) + version_headers(source, SOURCE_VERSION) + encryption_headers(properties)
        return xml_reply("CopyObjectResult", copy_result(version.etag, version.modified, properties.checksum), headers)

    def _copied_checksum(self, request: S3Request, source: ObjectVersion) -> Checksum | None:
        """Return the checksum of a copy. It has that of its source, unless it asks for another one."""
        had = source.properties.checksum
        algorithm = request.headers.get("x-amz-checksum-algorithm", had[0] if had else "").upper()
        if algorithm not in ("", *ALGORITHMS):
            raise S3Error("InvalidRequest", message="Checksum algorithm provided is unsupported.")
        # The copy is one object, also that of an object in parts.
        if had is not None and had[0] == algorithm and type_of(had) != COMPOSITE:
            return had
        return self.checksum(algorithm, source, (0, source.size)) if algorithm else None

    def _version(self, request: S3Request) -> ObjectVersion:
        return self._store.get(request.bucket, request.key, request.query.get("versionId") or None)

    def _described(self, request: S3Request) -> ObjectVersion:
        """Return the version that has tags and grants."""
        try:
            return self._version(request)
        except S3Error as error:
            # A delete marker has neither.
            if error.marker:
                raise S3Error("MethodNotAllowed", request.key, marker=error.marker) from error
            raise

    def _data(self, version: ObjectVersion, start: int, end: int) -> bytes | FileBody:
        if version.content is not None:
            return version.content[start:end]
        return FileBody(self._store.segments(version, start, end))


def copy_result(etag: str, modified: float, checksum: Checksum | None) -> dict[str, object]:
    """Return the content of the answer to a copy."""
    return {"LastModified": xml_time(int(modified)), "ETag": f'"{etag}"', **checksum_members(checksum)}


def _span(request: S3Request, version: ObjectVersion) -> Span | None:
    """Return the span that a read asks for, or None for the whole object."""
    number, wanted = request.query.get("partNumber"), request.headers.get("range")
    if number is not None and wanted is not None:
        message = "Cannot specify both Range header and partNumber query parameter"
        raise S3Error("InvalidRequest", request.key, message)
    if number is not None:
        return part_span(int(number), version.parts, version.size)
    return span_of(wanted, version.size) if wanted is not None else None


def _copied(request: S3Request, source: ObjectVersion, given: Properties) -> Properties:
    """Return the properties of a copy: those of the source, or those in the request, as the request says."""
    directives = [request.headers.get(f"x-amz-{name}-directive", "COPY") for name in ("metadata", "tagging")]
    if not {"COPY", "REPLACE"}.issuperset(directives):
        raise S3Error("InvalidArgument", message="Unknown directive. It must be COPY or REPLACE.")
    metadata, tagging = directives
    own = {name: value for name, value in given.headers.items() if name in COPY_HEADERS}
    if metadata == "COPY" and not own and request.source == (request.bucket, request.key, ""):
        message = (
            "This copy request is illegal because it is trying to copy an object to itself without changing the "
            "object's metadata, storage class, website redirect location or encryption attributes."
        )
        raise S3Error("InvalidRequest", request.key, message)
    kept = {name: value for name, value in source.properties.headers.items() if name not in COPY_HEADERS}
    headers = given.headers if metadata == "REPLACE" else {**kept, **own}
    return Properties(headers, given.tags if tagging == "REPLACE" else source.properties.tags)


def _deletion(key: str, version: str | None, deleted: Deleted) -> dict[str, object]:
    return {
        "Key": key,
        "VersionId": version,
        "DeleteMarker": True if deleted.marker else None,
        "DeleteMarkerVersionId": deleted.marker or None,
    }
