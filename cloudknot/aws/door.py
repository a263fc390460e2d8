"""Door: the only way for the client to call AWS. It repeats calls and translates their errors.

botocore is imported when the first client is created, so that ``import cloudknot`` stays quick.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast
from urllib.parse import urlsplit

from cloudknot.aws.error_table import SILENCE, translate, translate_creation
from cloudknot.aws.sdk import forks
from cloudknot.aws.sdk.settings.credentials import check_key
from cloudknot.aws.sdk.timestamps import parse_quickly
from cloudknot.aws.sdk.transfer import add_transfer_methods
from cloudknot.errors import CloudknotError, CredentialsError
from cloudknot.worker.s3.limits import CONNECT_TIMEOUT, READ_TIMEOUT
from cloudknot.worker.s3.owners import BucketOwners
from cloudknot.worker.s3.retries import NO_RETRIES, Persistence, Trouble, is_botocore_error

if TYPE_CHECKING:
    from botocore.client import BaseClient
    from botocore.config import Config
    from botocore.session import Session
    from types_boto3_s3 import S3Client

    from cloudknot.worker.s3.plain_requests import ArrivingBody, PlainRequests
    from cloudknot.worker.s3.range_file import Span
    from cloudknot.worker.wire.buffers import Pieces

T = TypeVar("T")

MAX_CONNECTIONS = 64
# A worker is more patient, ten minutes, because its results took time to compute.
PATIENCE = 120.0
"""Seconds for which a call that fails for a passing reason is repeated, unless a `Door` has another value."""
# A server that has never answered may not exist: there is no network, or the endpoint is wrong. Nobody should wait two
# minutes for that error.
FIRST_PATIENCE = 3.0
"""Seconds for which a call to a server that has never answered is repeated."""
USERS_S3 = "s3 of the user"
"""The key of the client of S3 that does not expect owners, beside the names of services."""
NAP = 0.1
"""Seconds between two checks of the main thread during a pause."""


def _isolated_session() -> Session:
    """Return a botocore session that ignores AWS_PROFILE and the user's AWS files."""
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
    """Return whether an endpoint belongs to AWS."""
    host = urlsplit(url).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws", ".amazonaws.eu"))


def _check_endpoint(url: str) -> None:
    """Raise a ValueError for an endpoint that no request can reach."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"the endpoint {url!r} is not an address such as http://127.0.0.1:4566")
    try:
        _ = parts.port
    except ValueError:
        raise ValueError(f"the endpoint {url!r} has a port that is not from 0 to 65535") from None


class Door:
    """Thread-safe boto3 clients for one region, profile and endpoint, each created on first use.

    Parameters
    ----------
    session_arguments : mapping of str to str or None
        ``region_name``, ``profile_name``, and a key: ``aws_access_key_id``, ``aws_secret_access_key``,
        ``aws_session_token``. All of them are optional.
    endpoint_url : str, optional
        The server to call instead of AWS.
    isolated : bool, default False
        Whether to ignore the user's AWS profile, AWS files and HTTP proxy.
    silence : str or callable
        The last sentence of the error when the server does not answer. A callable is called at the time of the error.
    can_recover : callable
        Returns whether a server that does not answer may answer later. If not, the call is not repeated.
    patience : float
        Seconds for which a call that fails for a passing reason is repeated. Default: `PATIENCE`.
    place : str
        The cloud as `Cloud.place` describes it, for errors about credentials and the network. Default: not named.
    """

    def __init__(
        self,
        session_arguments: Mapping[str, str | None],
        endpoint_url: str | None = None,
        *,
        isolated: bool = False,
        silence: str | Callable[[], str] = SILENCE,
        can_recover: Callable[[], bool] = lambda: True,
        patience: float = PATIENCE,
        place: str = "",
    ) -> None:
        self._session_arguments = dict(session_arguments)
        self._endpoint_url = endpoint_url
        self._isolated, self._silence, self._place = isolated, silence, place
        self._can_recover = can_recover
        self._persistence = Persistence(patience, self._should_retry, sleep=_sleep)
        # Set at the first answer of the server: from then on, a silence is taken for a passing one.
        self._answered = False
        self._session: Session | None = None
        self._clients: dict[str, BaseClient] = {}
        self._plain: tuple[S3Client, PlainRequests] | None = None
        self.owners = BucketOwners(self._find_account)
        """The owners that every request to S3 expects."""
        # Reentrant, because making a client makes the session under the same lock.
        self._lock = forks.renewed(threading.RLock())
        forks.renew(self)

    def redirect(self, endpoint_url: str) -> None:
        """Send all further requests to another address of the same server."""
        with self._lock:
            self._endpoint_url, self._clients, self._plain = endpoint_url, {}, None

    def after_fork(self) -> None:
        """Drop the session and all clients: a forked process must not use the connections of its parent."""
        self._session, self._clients, self._plain = None, {}, None

    def session(self) -> Session:
        """Return the botocore session, created on first use."""
        with self._lock:
            if self._session is None:
                self._session = self._make_session()
            return self._session

    def _make_session(self, has_own_loader: bool = False) -> Session:
        # Not a session of boto3: besides one of botocore, it loads the resource API and s3transfer, which take several
        # megabytes.
        from botocore.exceptions import BotoCoreError
        from botocore.session import get_session

        from cloudknot.aws.sdk.descriptions import shared_loader
        from cloudknot.aws.sdk.members import MEMBERS
        from cloudknot.worker.s3.answers import check_answers

        session = _isolated_session() if self._isolated else get_session()
        check_answers(session, MEMBERS)
        parse_quickly(session)
        add_transfer_methods(session)
        given = self._session_arguments.get
        for variable, value in (("profile", given("profile_name")), ("region", given("region_name"))):
            if value is not None:
                session.set_config_variable(variable, value)
        if (key := given("aws_access_key_id")) and (secret := given("aws_secret_access_key")):
            session.set_credentials(key, secret, given("aws_session_token"))
        try:
            paths = session.get_config_variable("data_path") or ""
        except BotoCoreError as error:
            raise translate(error, "session") from None
        if not has_own_loader:
            session.register_component("data_loader", shared_loader(paths))
        return session

    def _find_account(self) -> str:
        return str(self.call("sts", "get_caller_identity")["Account"])

    def client(self, service: str) -> BaseClient:
        """Return the boto3 client for a service, created on first use. That of S3 expects the owner of each bucket."""
        with self._lock:
            if service not in self._clients:
                client = self._make_client(service)
                if service == "s3":
                    self.owners.guard(cast("S3Client", client))
                self._clients[service] = client
            return self._clients[service]

    def users_client(self, service: str) -> BaseClient:
        """Return the boto3 client for the user's own calls, which may go to buckets of any account."""
        if service != "s3":
            return self.client(service)
        with self._lock:
            if USERS_S3 not in self._clients:
                self._clients[USERS_S3] = self._make_client(service)
            return self._clients[USERS_S3]

    def _forget(self, client: BaseClient) -> None:
        """Drop all clients and the session if ``client`` is still in use, so the next call reads credentials anew."""
        # botocore keeps expired credentials. A new session finds those that the user has renewed in the environment,
        # in AWS's files or with `aws sso login`. Another thread may have dropped this client already.
        with self._lock:
            if client in self._clients.values():
                self._session, self._clients = None, {}

    def _make_client(self, service: str) -> BaseClient:
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        config = Config(
            # botocore's retries share one quota among all calls of a client, which runs dry when many calls fail. They
            # also repeat calls that must not happen twice.
            retries=NO_RETRIES,
            max_pool_connections=MAX_CONNECTIONS,
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            # The embedded cloud is on this machine, and a proxy could not reach it.
            proxies={} if self._isolated else None,
        )
        in_the_path = config.merge(Config(s3={"addressing_style": "path"}))
        try:
            if self._endpoint_url:
                _check_endpoint(self._endpoint_url)
            # Other servers than AWS have no host name for each bucket, so the bucket goes into the path.
            if service == "s3" and self._endpoint_url and not _is_aws(self._endpoint_url):
                return self._new_client(service, in_the_path)
            client = self._new_client(service, config)
            _check_endpoint(str(client.meta.endpoint_url))
            check_key(self.session())
            # The user's AWS files and variables may name another server, too.
            if service == "s3" and not _is_aws(client.meta.endpoint_url):
                return self._new_client(service, in_the_path)
            return client
        # botocore lets errors of the credential_process and of endpoints pass as Python raises them.
        except (BotoCoreError, ValueError, FileNotFoundError, PermissionError) as error:
            raise translate_creation(error, service) from None

    def _new_client(self, service: str, config: Config) -> BaseClient:
        from cloudknot.aws.sdk.descriptions import SERVICES

        # The public `Cloud.client` makes clients of any service.
        session = self.session() if service in SERVICES else self._make_session(has_own_loader=True)
        client: BaseClient = session.create_client(service, endpoint_url=self._endpoint_url, config=config)
        return client

    def call(self, service: str, operation: str, /, **arguments: object) -> dict[str, object]:
        """Call an operation and return AWS's answer.

        A call that fails for a passing reason is repeated for the door's ``patience``, see `Persistence`.

        Parameters
        ----------
        service, operation : str
            Names in boto3's spelling, for example ``"batch"`` and ``"submit_job"``.
        **arguments
            The operation's parameters.

        Raises
        ------
        CloudknotError
            The translated error, with boto3's as its ``__context__``. See `cloudknot.aws.error_table`.
        """
        return self._persist(service, operation, partial(self._call_now, service, operation, arguments))

    def _call_now(self, service: str, operation: str, arguments: Mapping[str, object]) -> dict[str, object]:
        # The client of this moment: between two attempts, the server may have moved.
        answer: dict[str, object] = getattr(self.client(service), operation)(**arguments)
        return answer

    def call_once(self, service: str, operation: str, /, **arguments: object) -> dict[str, object]:
        """Call an operation that must not happen twice, such as SubmitJob; otherwise like `call`.

        The call is repeated only if AWS certainly did not carry out the earlier one.
        """
        # SubmitJob has no token that would make it idempotent. If only the answer was lost, a second call would start
        # a second job.
        call = partial(self._call_now, service, operation, arguments)
        return self._persist(service, operation, call, repeatable=False)

    def read_quickly(self, bucket: str, key: str, span: Span) -> bytes | None:
        """Return the bytes of an object by one cheap request; None if the caller should use ``get_object`` instead."""
        data = self._plain_requests().get(bucket, key, span)
        self._answered = self._answered or data is not None
        return data

    def open_quickly(self, bucket: str, key: str, span: Span) -> ArrivingBody | None:
        """Return the same bytes as `read_quickly`, while they arrive."""
        body = self._plain_requests().open(bucket, key, span)
        self._answered = self._answered or body is not None
        return body

    def put_quickly(
        self, bucket: str, key: str, body: Pieces, headers: Mapping[str, str], query: Mapping[str, str] | None = None
    ) -> str | None:
        """Store an object or a part by one cheap request, and return its ETag; None if the caller should use boto3."""
        etag = self._plain_requests().put(bucket, key, body, headers, query)
        self._answered = self._answered or etag is not None
        return etag

    def _plain_requests(self) -> PlainRequests:
        from cloudknot.worker.s3.plain_requests import PlainRequests
        from cloudknot.worker.s3.server import server_of_client

        with self._lock:
            client = cast("S3Client", self.client("s3"))
            if self._plain is None or self._plain[0] is not client:
                server = server_of_client(self.session(), client)
                self._plain = client, PlainRequests(server, self.session().user_agent(), self.owners)
            return self._plain[1]

    def persist(self, service: str, operation: str, call: Callable[[], T]) -> T:
        """Return the result of ``call``, which reads the body of an answer and may be repeated; see `Door.call`."""
        return self._persist(service, operation, call)

    def pages(self, service: str, operation: str, /, **arguments: object) -> Iterator[dict[str, object]]:
        """Yield the pages of a paginated operation, each fetched by a `call` when the caller needs it."""
        from botocore.paginate import Paginator

        client = self.client(service)
        name = client.meta.method_to_api_mapping[operation]
        tokens = self.session().get_paginator_model(service).get_paginator(name)
        model = client.meta.service_model.operation_model(name)
        # Each page is a call of its own, so a failure on a late page does not begin the listing anew.
        call = partial(self.call, service, operation)
        # botocore's paginator accepts any callable, but its type stubs require one with a name.
        paginator: Paginator[dict[str, object]] = Paginator(call, tokens, model)  # type: ignore[arg-type]
        yield from paginator.paginate(**arguments)

    def _persist(self, service: str, operation: str, call: Callable[[], T], *, repeatable: bool = True) -> T:
        client = self.client(service)
        try:
            answer = self._persistence.call(call, repeatable=repeatable)
        except Exception as error:
            if not is_botocore_error(error):
                raise
            raise self._translate(error, f"{service}:{operation}", client) from None
        self._answered = True
        return answer

    def _should_retry(self, trouble: Trouble, passed: float) -> bool:
        """Return whether to retry a call that has failed for ``passed`` seconds."""
        # Only a person can renew expired credentials. And Python waits for this thread when the main thread has ended.
        if trouble is Trouble.NO_CREDENTIALS or not threading.main_thread().is_alive():
            return False
        # Every other trouble shows that the server exists. A login page in its place shows nothing.
        if trouble not in (Trouble.NO_CONNECTION, Trouble.INSECURE, Trouble.WRONG_ANSWER):
            self._answered = True
        return (self._answered or passed < FIRST_PATIENCE) and self._can_recover()

    def _translate(self, error: Exception, operation: str, client: BaseClient) -> CloudknotError:
        silence = self._silence if isinstance(self._silence, str) else self._silence()
        # At an endpoint that the user chose, a wrong region cannot be the cause.
        region = "" if self._endpoint_url else self._session_arguments.get("region_name") or ""
        # The embedded cloud has no TLS, and demands none.
        endpoint = "" if self._isolated else str(client.meta.endpoint_url)
        translated = translate(error, operation, silence, region, endpoint, self._place)
        if isinstance(translated, CredentialsError):
            self._forget(client)
        return translated


def _sleep(seconds: float) -> None:
    """Sleep, but wake when the main thread ends."""
    # At its exit, Python waits for collectors, which may be in a pause of the door.
    end = time.monotonic() + seconds
    while (remaining := end - time.monotonic()) > 0 and threading.main_thread().is_alive():
        time.sleep(min(remaining, NAP))
