"""The one door to AWS: every client call goes through here, and here foreign errors become ours, once.

boto3 is imported when the first client is made, not before.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from cloudknot.aws.translation import SILENCE, foreign_errors, translate
from cloudknot.errors import CloudknotError, CredentialsError

MAX_CONNECTIONS = 64
ATTEMPTS = 5
"""Times that boto3 tries a call which can be repeated without harm."""


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


def _is_aws(url: str) -> bool:
    """Whether an endpoint is AWS's own."""
    host = urlsplit(url).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws", ".amazonaws.eu"))


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
        self._clients: dict[tuple[str, bool], Any] = {}
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

    def client(self, service: str, *, once: bool = False) -> Any:
        """The boto3 client of a service, made on first use and then kept; with ``once``, one that repeats nothing."""
        with self._lock:
            if (service, once) not in self._clients:
                self._clients[service, once] = self._make_client(service, 1 if once else ATTEMPTS)
            return self._clients[service, once]

    def _forget(self, client: Any) -> None:
        """Have clients made anew, if ``client`` is one of those in use: boto3 keeps credentials, expired ones too.

        Those that were renewed meanwhile, in the environment, in AWS's files or by `aws sso login`, are then found.
        """
        with self._lock:
            if client in self._clients.values():
                self._session, self._clients = None, {}

    def _make_client(self, service: str, attempts: int) -> Any:
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        config = Config(
            retries={"mode": "standard", "total_max_attempts": attempts},
            max_pool_connections=MAX_CONNECTIONS,
            connect_timeout=10,
            read_timeout=60,
            proxies={} if self._isolated else None,
        )
        try:
            client = self.session().client(service, endpoint_url=self._endpoint_url, config=config)
            if service != "s3" or _is_aws(client.meta.endpoint_url):
                return client
            # Other servers are not reached by a host name for each bucket.
            in_the_path = config.merge(Config(s3={"addressing_style": "path"}))
            return self.session().client(service, endpoint_url=self._endpoint_url, config=in_the_path)
        except BotoCoreError as error:
            raise translate(error, service) from error

    def call(self, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
        """Call ``operation`` (snake case, as boto3 has it) and return its answer.

        Raises
        ------
        CloudknotError
            The error of our tree that stands for the answer, with the original as its cause.
        """
        return self._call(self.client(service), service, operation, arguments)

    def call_once(self, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
        """Call an ``operation`` that must not be repeated unasked, such as SubmitJob; else as `call`."""
        return self._call(self.client(service, once=True), service, operation, arguments)

    def _call(self, client: Any, service: str, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = getattr(client, operation)(**arguments)
        except foreign_errors() as error:
            raise self._translate(error, f"{service}:{operation}", client) from error
        return answer

    def pages(self, service: str, operation: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        """The pages of a paginated ``operation``, fetched as they are asked for."""
        client = self.client(service)
        try:
            yield from client.get_paginator(operation).paginate(**arguments)
        except foreign_errors() as error:
            raise self._translate(error, f"{service}:{operation}", client) from error

    def _translate(self, error: Exception, operation: str, client: Any) -> CloudknotError:
        silence = self._silence if isinstance(self._silence, str) else self._silence()
        region = "" if self._endpoint_url else self._session_arguments.get("region_name") or ""
        translated = translate(error, operation, silence, region)
        if isinstance(translated, CredentialsError):
            self._forget(client)
        return translated
