"""Small reads of S3 at less than botocore's cost, for whoever makes a thousand of them.

Most of what a GetObject costs a client is not the request: botocore finds an endpoint, builds, hooks and parses for
each, which takes longer than the answer of a small object. Here each request is signed by botocore, and sent by the
HTTP session of its client, with that one's connections, proxies and certificates. Whatever is not the bytes that were
asked for is left to GetObject, which tells what it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any
from urllib.parse import quote

from cloudknot.aws.error_table import is_foreign
from cloudknot.worker.s3.retries import Trouble, trouble_of

REFUSALS = frozenset({301, 307, 400, 403})
"""Statuses that say of the request that it is not one for this server, rather than of the object or the moment."""


class QuickReads:
    """Reads of objects by one S3 client.

    Parameters
    ----------
    session : botocore.session.Session
        Whose credentials sign.
    client : boto3 client of S3
    """

    def __init__(self, session: Any, client: Any) -> None:
        self.client = client
        self._session, self._http = session, _http_session(client)
        self._agent: str = session.user_agent()

    def read(self, bucket: str, key: str, span: Mapping[str, str]) -> bytes | None:
        """The bytes that GetObject gives, of the ``Range`` that ``span`` has, or of all; None for GetObject to try."""
        http = self._http
        if http is None:
            return None
        try:
            if (request := self._request(bucket, key, span)) is None:
                return None
            answer = http.send(request)
            data: bytes = answer.content
        except Exception as error:
            if not is_foreign(error):
                raise
            if trouble_of(error) is Trouble.NO_CONNECTION:
                # Where only another name of S3 is let through, each try would have to time out.
                self._http = None
            return None
        if answer.status_code in REFUSALS:
            self._http = None
        whole = str(len(data)) == answer.headers.get("Content-Length")
        return data if whole and answer.status_code == (206 if span else 200) else None

    def _request(self, bucket: str, key: str, span: Mapping[str, str]) -> Any:
        """The signed request; None without credentials."""
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest

        # With the bucket in the path, which all servers know: those of AWS, and the others.
        url = f"{self.client.meta.endpoint_url.rstrip('/')}/{bucket}/{quote(key, safe='/~')}"
        request = AWSRequest("GET", url, {"User-Agent": self._agent, **span})
        credentials = self._session.get_credentials()
        if credentials is None:
            return None
        frozen = credentials.get_frozen_credentials()
        S3SigV4Auth(frozen, "s3", self.client.meta.region_name).add_auth(request)
        return request.prepare()


def _http_session(client: Any) -> Any:
    """The connections of a client, for which botocore has no public name; None when it has not this one any more."""
    return getattr(getattr(client, "_endpoint", None), "http_session", None)


def parse_quickly(session: Any) -> None:
    """Have a session read the times of its answers by the standard library, wherever that can.

    A listing of S3 has one for each object, and botocore's own parser takes most of the time of reading it.
    """
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_timestamp)


def _timestamp(value: Any) -> datetime:
    from botocore.utils import parse_timestamp

    with suppress(TypeError, ValueError):
        moment = datetime.fromisoformat(value)
        # Botocore's own are never without a zone.
        if moment.tzinfo:
            return moment
    parsed: datetime = parse_timestamp(value)
    return parsed
