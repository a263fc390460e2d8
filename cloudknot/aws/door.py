"""The one door to AWS: every client call goes through here, and here foreign errors become ours, once.

boto3 is imported when the first client is made, not before.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, TypeVar, cast
from urllib.parse import urlsplit

from cloudknot.aws.error_table import SILENCE, translate
from cloudknot.aws.s3.timestamps import parse_quickly
from cloudknot.errors import CloudknotError, CredentialsError
from cloudknot.worker.s3.limits import CONNECT_TIMEOUT, READ_TIMEOUT
from cloudknot.worker.s3.retries import NO_RETRIES, Persistence, Trouble, is_botocore_error

if TYPE_CHECKING:
    from boto3.session import Session
    from botocore.client import BaseClient
    from botocore.loaders import Loader
    from botocore.session import Session as BotocoreSession
    from types_boto3_s3 import S3Client

    from cloudknot.worker.s3.plain_requests import PlainRequests
    from cloudknot.worker.s3.range_file import Span

T = TypeVar("T")

MAX_CONNECTIONS = 64
PATIENCE = 120.0
"""Seconds for which a call that fails for a passing reason is made again, as a rule."""
FIRST_PATIENCE = 3.0
"""Seconds for which somebody who never answered is called: there may be no network, or no such endpoint."""
DOZE = 0.1


@cache
def _loader(paths: str) -> Loader:
    """Return the reader of service descriptions that all sessions of this process share.

    It keeps what it has decoded: a fifth of a second and many megabytes for each further `Cloud`.
    """
    from botocore.loaders import create_loader

    return create_loader(paths or None)


def _isolated_session() -> BotocoreSession:
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
    lasting
        Whether a server that does not answer may do so later.
    patience
        Seconds for which a call that fails for a passing reason is made again. Default: `PATIENCE`.
    """

    def __init__(
        self,
        session_arguments: Mapping[str, str | None],
        endpoint_url: str | None = None,
        *,
        isolated: bool = False,
        silence: str | Callable[[], str] = SILENCE,
        lasting: Callable[[], bool] = lambda: True,
        patience: float = PATIENCE,
    ) -> None:
        self._session_arguments = dict(session_arguments)
        self._endpoint_url = endpoint_url
        self._isolated, self._silence = isolated, silence
        self._lasting = lasting
        self._persistence = Persistence(patience, self._is_worth_it, sleep=_doze)
        self._answered = False
        self._sessions: tuple[Session, BotocoreSession] | None = None
        self._clients: dict[str, BaseClient] = {}
        self._plain: PlainRequests | None = None
        self._lock = threading.RLock()

    def session(self) -> Session:
        """The ``boto3.Session``, made on first use."""
        return self._both_sessions()[0]

    @property
    def _botocore(self) -> BotocoreSession:
        """The session of botocore's that boto3's is made of."""
        return self._both_sessions()[1]

    def _both_sessions(self) -> tuple[Session, BotocoreSession]:
        with self._lock:
            if self._sessions is None:
                self._sessions = self._make_sessions()
            return self._sessions

    def _make_sessions(self) -> tuple[Session, BotocoreSession]:
        import boto3
        from botocore.exceptions import BotoCoreError
        from botocore.session import get_session

        botocore = _isolated_session() if self._isolated else get_session()
        parse_quickly(botocore)
        try:
            session = boto3.Session(**self._session_arguments, botocore_session=botocore)
            # After boto3's session, which adds a path to the loader that it finds.
            botocore.register_component("data_loader", _loader(botocore.get_config_variable("data_path") or ""))
        except BotoCoreError as error:
            raise translate(error, "session") from error
        return session, botocore

    def client(self, service: str) -> BaseClient:
        """The boto3 client of a service, made on first use and then kept."""
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self._make_client(service)
            return self._clients[service]

    def _forget(self, client: BaseClient) -> None:
        """Have clients made anew, if ``client`` is one of those in use: boto3 keeps credentials, expired ones too.

        Those that were renewed meanwhile, in the environment, in AWS's files or by `aws sso login`, are then found.
        """
        with self._lock:
            if client in self._clients.values():
                self._sessions, self._clients = None, {}

    def _make_client(self, service: str) -> BaseClient:
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        config = Config(
            retries=NO_RETRIES,
            max_pool_connections=MAX_CONNECTIONS,
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            proxies={} if self._isolated else None,
        )
        try:
            client: BaseClient = self.session().client(service, endpoint_url=self._endpoint_url, config=config)
            if service != "s3" or _is_aws(client.meta.endpoint_url):
                return client
            # Other servers are not reached by a host name for each bucket.
            in_the_path = config.merge(Config(s3={"addressing_style": "path"}))
            client = self.session().client(service, endpoint_url=self._endpoint_url, config=in_the_path)
            return client
        except BotoCoreError as error:
            raise translate(error, service) from error

    def call(self, service: str, operation: str, /, **arguments: object) -> dict[str, object]:
        """Call ``operation`` (snake case, as boto3 has it) and return its answer.

        What fails for a passing reason is called again, for `PATIENCE` seconds; see `Persistence`.

        Raises
        ------
        CloudknotError
            The error of our tree that stands for the answer, with the original as its cause.
        """
        client = self.client(service)
        return self._persist(client, service, operation, partial(getattr(client, operation), **arguments))

    def call_once(self, service: str, operation: str, /, **arguments: object) -> dict[str, object]:
        """Call an ``operation`` that must not be carried out twice, such as SubmitJob; else as `call`.

        It is called again only when it was certainly not carried out.
        """
        client = self.client(service)
        call = partial(getattr(client, operation), **arguments)
        return self._persist(client, service, operation, call, repeatable=False)

    def read_quickly(self, bucket: str, key: str, span: Span) -> bytes | None:
        """Return the bytes of an object, tried once and at little cost; None for the caller to try ``get_object``."""
        data = self._plain_requests().get(bucket, key, span)
        self._answered = self._answered or data is not None
        return data

    def _plain_requests(self) -> PlainRequests:
        from cloudknot.worker.s3.plain_requests import PlainRequests

        with self._lock:
            client = cast("S3Client", self.client("s3"))
            if self._plain is None or self._plain.client is not client:
                self._plain = PlainRequests(self._botocore, client, self._botocore.user_agent())
            return self._plain

    def persist(self, service: str, operation: str, call: Callable[[], T]) -> T:
        """What ``call`` gives, which reads the answer of an ``operation`` and can do so again; see `call`."""
        return self._persist(self.client(service), service, operation, call)

    def pages(self, service: str, operation: str, /, **arguments: object) -> Iterator[dict[str, object]]:
        """The pages of a paginated ``operation``, fetched as they are asked for, each by a `call`."""
        from botocore.paginate import Paginator

        client = self.client(service)
        name = client.meta.method_to_api_mapping[operation]
        tokens = self._botocore.get_paginator_model(service).get_paginator(name)
        model = client.meta.service_model.operation_model(name)
        call = partial(self.call, service, operation)
        # botocore's paginator takes any callable; its type stubs ask for a name.
        paginator: Paginator[dict[str, object]] = Paginator(call, tokens, model)  # type: ignore[arg-type]
        yield from paginator.paginate(**arguments)

    def _persist(
        self, client: BaseClient, service: str, operation: str, call: Callable[[], T], *, repeatable: bool = True
    ) -> T:
        try:
            answer = self._persistence.call(call, repeatable=repeatable)
        except Exception as error:
            if not is_botocore_error(error):
                raise
            raise self._translate(error, f"{service}:{operation}", client) from error
        self._answered = True
        return answer

    def _is_worth_it(self, trouble: Trouble, passed: float) -> bool:
        """Whether to try again: not with credentials that have expired, nor when the interpreter is ending."""
        if trouble is Trouble.NO_CREDENTIALS or not threading.main_thread().is_alive():
            return False
        if trouble not in (Trouble.NO_CONNECTION, Trouble.INSECURE):
            self._answered = True
        return (self._answered or passed < FIRST_PATIENCE) and self._lasting()

    def _translate(self, error: Exception, operation: str, client: BaseClient) -> CloudknotError:
        silence = self._silence if isinstance(self._silence, str) else self._silence()
        region = "" if self._endpoint_url else self._session_arguments.get("region_name") or ""
        translated = translate(error, operation, silence, region)
        if isinstance(translated, CredentialsError):
            self._forget(client)
        return translated


def _doze(seconds: float) -> None:
    """Sleep, but not on when the interpreter is ending: it waits for the threads that look for results."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and threading.main_thread().is_alive():
        time.sleep(min(left, DOZE))
