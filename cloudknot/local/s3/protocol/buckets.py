"""Buckets: the operations that create, find, list and delete buckets."""

from __future__ import annotations

import base64
import re

from cloudknot.local.iam.requests.objects import S3Request
from cloudknot.local.s3.errors import S3Error
from cloudknot.local.s3.protocol.answers import Reply, canonical_id, document, text_reply, xml_reply, xml_time
from cloudknot.local.s3.protocol.documents import parsed
from cloudknot.local.s3.protocol.incoming import Incoming
from cloudknot.local.s3.store import ObjectStore

_NAME = re.compile(r"(?!xn--|sthree-|amzn-s3-demo-)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?<!-s3alias)(?<!--ol-s3)")
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")
_PLACE = re.compile(r"[a-z]{2,}(-[a-z]+)+-[0-9]{1,2}|EU")
_MOST_LISTED = 10_000
LOCATION = "location"
"""The kind of the configuration with the location constraint of a bucket."""


class Buckets:
    """The operations on buckets as a whole.

    Parameters
    ----------
    store : ObjectStore
    account : str
        The number of the account that owns new buckets.
    region : str
        The region of buckets without a location constraint.
    """

    def __init__(self, store: ObjectStore, account: str, region: str) -> None:
        self._store, self._account, self._region = store, account, region

    def create(self, request: S3Request, body: Incoming) -> Reply:
        """Answer CreateBucket."""
        name = request.bucket
        # Amazon S3 user guide, "General purpose bucket naming rules".
        if not _NAME.fullmatch(name) or ".." in name or _ADDRESS.fullmatch(name):
            raise S3Error("InvalidBucketName", name, "The specified bucket is not valid.")
        if request.headers.get("x-amz-bucket-object-lock-enabled", "false").lower() == "true":
            raise S3Error("NotImplemented", name, "Object Lock is not implemented", 501)
        place = self._location_in(body.document()) if body.length else ""
        try:
            self._store.create_bucket(name, self._account)
            if place:
                self._store.set_configuration(name, LOCATION, place.encode())
        except S3Error as error:
            # In this one region, S3 takes a repeated creation for a success.
            if error.code != "BucketAlreadyOwnedByYou" or self._region != "us-east-1":
                raise
        return Reply(200, [("Location", f"/{name}")])

    def delete(self, request: S3Request, _: Incoming) -> Reply:
        """Answer DeleteBucket."""
        self._store.delete_bucket(request.bucket)
        return Reply(204)

    def head(self, request: S3Request, _: Incoming) -> Reply:
        """Answer HeadBucket."""
        region = self._region_of(request.bucket)
        return Reply(200, [("x-amz-bucket-region", region), ("Content-Type", "application/xml")])

    def location(self, request: S3Request, _: Incoming) -> Reply:
        """Answer GetBucketLocation."""
        region = self._location_of(request.bucket)
        return text_reply(f"{document('LocationConstraint')}{region}</LocationConstraint>")

    def list(self, request: S3Request, _: Incoming) -> Reply:
        """Answer ListBuckets."""
        query = request.query
        limit = min(int(query.get("max-buckets") or _MOST_LISTED), _MOST_LISTED)
        after = base64.b64decode(query.get("continuation-token", "")).decode()
        prefix, region = query.get("prefix", ""), query.get("bucket-region")
        # Buckets of other accounts are not listed.
        found = [
            bucket
            for bucket in self._store.buckets()
            if bucket.owner == self._account and bucket.name.startswith(prefix) and bucket.name > after
            if region is None or region == self._region_of(bucket.name)
        ]
        page = found[:limit]
        entries = [{"Name": bucket.name, "CreationDate": xml_time(int(bucket.created))} for bucket in page]
        content = {
            "Owner": {"ID": canonical_id(self._account)},
            "Buckets": {"Bucket": entries},
            "ContinuationToken": base64.b64encode(page[-1].name.encode()).decode() if len(found) > limit else None,
            "Prefix": prefix or None,
        }
        return xml_reply("ListAllMyBucketsResult", content)

    def _location_of(self, bucket: str) -> str:
        """Return the location constraint of a bucket, which is empty in us-east-1."""
        place = self._store.configuration(bucket, LOCATION)
        return "" if place is None else place.decode()

    def _region_of(self, bucket: str) -> str:
        return self._location_of(bucket) or self._region

    def _location_in(self, content: bytes) -> str:
        """Return the location constraint in a request, or an empty string without one."""
        root = parsed(content, {"CreateBucketConfiguration"})
        place = root.findtext("LocationConstraint")
        # As at S3's address in us-east-1, which makes buckets in all regions, but refuses its own name as a location.
        if place is not None and (place == "us-east-1" or not _PLACE.fullmatch(place)):
            raise S3Error("InvalidLocationConstraint", message="The specified location-constraint is not valid")
        return place or ""
