"""The one door to AWS: every client call goes through here, and here foreign errors become ours, once.

boto3 is imported when the first client is made, not before.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cloudknot.aws.translation import SILENCE, foreign_errors, translate
from cloudknot.errors import CloudknotError

MAX_CONNECTIONS = 64


def _isolated_session() -> Any:
    """A botocore session to which AWS_PROFILE and the user's AWS files do not exist."""
    from botocore.session import Session

    nowhere = (None, None, os.devnull, None)
    return Session(
        session_vars={
            "profile": (None, None, None, None),
            "config_file": nowhere,
            "credentials_file": nowhere,
        }
    )


class Door:
    """Lazily made, thread-safe boto3 clients of one region, profile and endpoint.

    Parameters
    ----------
    session_arguments
        Passed to ``boto3.Session``.
    endpoint_url
        The server to call instead of AWS's own; None is AWS.
    isolated
        Whether the user's AWS profile, AWS files and HTTP proxy are none of this door's business.
    silence
        What to do when the server does not answer, for the error's text; a callable is asked at the time of the error.
    """

    def __init__(
        self,
        session_arguments: Mapping[str, Any],
        endpoint_url: str | None = None,
        *,
        isolated: bool = False,
        silence: str | Callable[[], str] = SILENCE,
    ) -> None:
        self._session_arguments = dict(session_arguments)
        self._endpoint_url = endpoint_url
        self._isolated, self._silence = isolated, silence
        self._session: Any = None
        self._clients: dict[str, Any] = {}
        self._lock = threading.RLock()

    def session(self) -> Any:
        """The ``boto3.Session``, made on first use."""
        with self._lock:
            if self._session is None:
                import boto3
                from botocore.exceptions import BotoCoreError

                alone = {"botocore_session": _isolated_session()} if self._isolated else {}
                try:
                    self._session = boto3.Session(**self._session_arguments, **alone)
                except BotoCoreError as error:
                    raise translate(error, "session") from error
            return self._session

    def client(self, service: str) -> Any:
        """The boto3 client of a service, made on first use and then kept."""
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self._make_client(service)
            return self._clients[service]

    def _make_client(self, service: str) -> Any:
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        s3 = {"addressing_style": "path"} if self._endpoint_url else None
        config = Config(
            retries={"mode": "standard", "total_max_attempts": 5},
            max_pool_connections=MAX_CONNECTIONS,
            connect_timeout=10,
            read_timeout=60,
            s3=s3,
            proxies={} if self._isolated else None,
        )
        try:
            return self.session().client(service, endpoint_url=self._endpoint_url, config=config)
        except BotoCoreError as error:
            raise translate(error, service) from error

    def call(self, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
        """Call ``operation`` (snake case, as boto3 has it) and return its answer.

        Raises
        ------
        CloudknotError
            The error of our tree that stands for the answer, with the original as its cause.
        """
        client = self.client(service)
        try:
            answer: dict[str, Any] = getattr(client, operation)(**arguments)
        except foreign_errors() as error:
            raise self._translate(error, f"{service}:{operation}") from error
        return answer

    def pages(self, service: str, operation: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        """The pages of a paginated ``operation``, fetched as they are asked for."""
        try:
            yield from self.client(service).get_paginator(operation).paginate(**arguments)
        except foreign_errors() as error:
            raise self._translate(error, f"{service}:{operation}") from error

    def _translate(self, error: Exception, operation: str) -> CloudknotError:
        silence = self._silence if isinstance(self._silence, str) else self._silence()
        region = "" if self._endpoint_url else self._session_arguments.get("region_name") or ""
        return translate(error, operation, silence, region)
