"""The worker's S3 client: it reads byte ranges and stores packs.

`connect` makes one client for each environment. The embedded cloud's fork server calls it before it forks, so that a
fork need not make its own. boto3 is imported when a request needs it, and most jobs on the embedded cloud never do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, BinaryIO, TypeVar, Unpack, cast

from ..wire import buffers
from ..wire.buffers import Pieces, Unreachable, Unreadable, size_of
from .limits import CONNECT_TIMEOUT, READ_TIMEOUT
from .owners import BucketOwners
from .plain_requests import WORKER_AGENT, ListedPage, PlainRequests
from .range_file import AnswerBody, RangeFile, Span, span_of
from .retries import NO_RETRIES, PRECONDITION_FAILED, Persistence, Trouble, code_of, is_botocore_error, trouble_of
from .server import server_of_client, server_of_variables

if TYPE_CHECKING:
    import boto3
    from botocore.config import Config
    from botocore.session import Session
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import AbortMultipartUploadRequestTypeDef, ListObjectsV2RequestTypeDef

T = TypeVar("T")

# Longer than the client's, because a result may have taken hours and is lost if it cannot be stored.
PATIENCE = 600.0
"""Seconds for which a failing request is repeated."""
WHOLE_BODY = 1024 * 1024
"""Bytes of the largest body that boto3 sends whole, from a copy. Larger ones are sent in parts."""
_SETTINGS = (
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
)
"""The variables that determine the server and the credentials of requests."""
_patience = Persistence(PATIENCE)


def _persist(call: Callable[[], T]) -> T:
    """Return the call's result. Retry it while the trouble may pass, then raise `Unreachable`."""
    try:
        return _patience.call(call)
    except Exception as error:
        # Another attempt of the job would meet a bug again.
        if trouble_of(error) in (None, Trouble.BUG):
            raise
        raise Unreachable(f"A request to S3 failed for {PATIENCE:.0f} seconds: {error}") from error


class _PersistentClient:
    """boto3's S3 client, with calls that are repeated while their trouble may pass."""

    def __init__(self, client: S3Client) -> None:
        self._client = client

    def __getattr__(self, operation: str) -> Callable[..., object]:
        call = getattr(self._client, operation)
        return lambda **arguments: _persist(partial(call, **arguments))

    def abort_multipart_upload(self, **arguments: Unpack[AbortMultipartUploadRequestTypeDef]) -> None:
        """Abort an upload, without retries."""
        # The upload has failed already. If the abort fails too, the bucket's lifecycle rule drops the parts.
        self._client.abort_multipart_upload(**arguments)


def connect() -> S3:
    """Return the S3 client for the current environment variables.

    Call it before the user's function, because that may change them.
    """
    return _connect(tuple(os.environ.get(name) for name in _SETTINGS))


@cache
def _connect(settings: tuple[str | None, ...]) -> S3:
    made = _Boto3()
    owners = BucketOwners(made.find_account)
    made.owners = owners
    server = server_of_variables(os.environ) or server_of_client(made.session, made.client())
    return S3(made.client, PlainRequests(server, WORKER_AGENT, owners), owners)


class _Boto3:
    """The clients of boto3 for one environment, made at their first use."""

    owners: BucketOwners

    @cached_property
    def session(self) -> Session:
        from botocore.session import get_session

        from .answers import S3_MEMBERS, check_answers

        # Not boto3's default session, which would keep the credentials of an environment that has changed since.
        session = get_session()
        check_answers(session, S3_MEMBERS)
        return session

    @cached_property
    def _boto3_session(self) -> boto3.Session:
        import boto3

        return boto3.Session(botocore_session=self.session)

    @cached_property
    def _config(self) -> Config:
        from botocore.config import Config

        return Config(
            retries=NO_RETRIES,
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            user_agent_extra=WORKER_AGENT,
        )

    def find_account(self) -> str:
        """Return the account of the credentials."""
        client = self._boto3_session.client("sts", config=self._config)
        return str(_persist(client.get_caller_identity)["Account"])

    def client(self) -> S3Client:
        """Return the client of S3."""
        return self._client

    @cached_property
    def _client(self) -> S3Client:
        client: S3Client = self._boto3_session.client("s3", config=self._config)
        self.owners.guard(client)
        return client


@dataclass(frozen=True)
class S3:
    """The objects in S3 that a job reads and stores. Every request is repeated for `PATIENCE` seconds.

    Attributes
    ----------
    make_client : callable
        Returns the client of boto3.
    plain : PlainRequests
        Tried first.
    owners : BucketOwners
        The owners that every request expects.
    sse : {None, "AES256", "aws:kms"}
        Server-side encryption requested for every object. None leaves it to the bucket.
    """

    make_client: Callable[[], S3Client]
    plain: PlainRequests
    owners: BucketOwners
    sse: str | None = None

    @property
    def client(self) -> S3Client:
        """The client of boto3."""
        return self.make_client()

    @property
    def _persistent(self) -> S3Client:
        return cast("S3Client", _PersistentClient(self.client))

    def read(self, bucket: str, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Return bytes ``start`` to ``end`` (not included) of an object, to its end by default."""
        if end is not None and end <= start:
            return b""
        span = span_of(start, end)
        data = self.plain.get(bucket, key, span)
        return _persist(lambda: self._body_of_boto3(bucket, key, span).read()) if data is None else data

    def _body(self, bucket: str, key: str, span: Span) -> AnswerBody:
        body = self.plain.open(bucket, key, span)
        return self._body_of_boto3(bucket, key, span) if body is None else body

    def _body_of_boto3(self, bucket: str, key: str, span: Span) -> AnswerBody:
        return cast(AnswerBody, self.client.get_object(Bucket=bucket, Key=key, **span)["Body"])

    def write(self, bucket: str, key: str, body: Pieces) -> bool:
        """Store an object, unless its key exists already. Return False if it does.

        After a lost answer, the existing object may be this one. The pieces of a large body are not copied.
        """
        headers = {"x-amz-server-side-encryption": self.sse} if self.sse else {}
        if self.plain.put(bucket, key, body, {**headers, "If-None-Match": "*"}) is not None:
            return True
        from botocore.exceptions import ClientError

        try:
            return self._write_by_boto3(bucket, key, body)
        except ClientError as error:
            if code_of(error) != PRECONDITION_FAILED:
                raise
            return False

    def _write_by_boto3(self, bucket: str, key: str, body: Pieces) -> bool:
        from .upload import ObjectName, Upload, encryption

        name: ObjectName = {"Bucket": bucket, "Key": key}
        if size_of(body) <= WHOLE_BODY:
            self._persistent.put_object(**name, Body=b"".join(body), IfNoneMatch="*", **encryption(self.sse))
            return True
        # Only one part is in memory besides the pieces, for boto3.
        with Upload(self._persistent, name, encryption(self.sse), only_new=True, parallel=1) as upload:
            for piece in body:
                upload.lend(piece)
        return not upload.kept_other

    def load(
        self, bucket: str, key: str, start: int, end: int, unpickle: Callable[[BinaryIO], object] = buffers.load
    ) -> object:
        """Unpickle bytes ``start`` to ``end`` of an object while they arrive. ``unpickle`` reads them from a file.

        Raises
        ------
        Unreadable
            The object cannot be read.
        """

        def insist(call: Callable[[], T]) -> T:
            try:
                return _persist(call)
            except Exception as error:
                if not is_botocore_error(error):
                    raise
                raise Unreadable(
                    f"s3://{bucket}/{key} cannot be read: {error}. The run may have been clobbered, or the job's role "
                    "may lack access to the bucket, or the bucket belongs to another AWS account."
                ) from error

        request = partial(self._body, bucket, key)
        with insist(lambda: RangeFile(request, insist, start, end)).buffered() as file:
            return unpickle(file)

    def keys(self, bucket: str, prefix: str, after: str, until: str) -> list[str]:
        """Return the keys under ``prefix`` that sort after ``after`` and up to ``until``."""
        return [key for key, _ in self.objects(bucket, prefix, after, until)]

    def objects(self, bucket: str, prefix: str, after: str, until: str) -> list[tuple[str, int]]:
        """Return the keys that `keys` returns, each with the size of its object in bytes."""
        objects: list[tuple[str, int]] = []
        query = {"prefix": prefix, "start-after": after}
        while True:
            # Each page is a call of its own, so a retry repeats one page and not the listing.
            page = self.plain.list(bucket, query) or self._page_of_boto3(bucket, query)
            for key, size in page.objects:
                if key > until:
                    return objects
                objects.append((key, size))
            if not page.token:
                return objects
            query["continuation-token"] = page.token

    def _page_of_boto3(self, bucket: str, query: Mapping[str, str]) -> ListedPage:
        request: ListObjectsV2RequestTypeDef = {
            "Bucket": bucket,
            "Prefix": query["prefix"],
            "StartAfter": query["start-after"],
        }
        if token := query.get("continuation-token"):
            request["ContinuationToken"] = token
        page = self._persistent.list_objects_v2(**request)
        objects = tuple((item["Key"], item["Size"]) for item in page.get("Contents", ()))
        return ListedPage(objects, page["NextContinuationToken"] if page.get("IsTruncated") else "")
