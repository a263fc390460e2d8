"""The credentials that a job gets: those of its role, and no others, as ECS gives them to a container.

A job finds their address in ``AWS_CONTAINER_CREDENTIALS_FULL_URI`` and, in the file that
``AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`` names, what it must show there; no secret is in its environment. All jobs of
a role share an address, so that a process which has asked for credentials can be forked for many jobs.

Sources: Amazon ECS developer guide, "Task IAM role"; AWS SDKs reference guide, "Container credential provider".
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from wsgiref.types import StartResponse, WSGIEnvironment

from cloudknot.errors import CloudError
from cloudknot.local.iam.keys import Keys, Known, session
from cloudknot.local.iam.policy_reader import Query
from cloudknot.local.wsgi import send_json

PATH = "/_cloudknot/credentials/"
TOKEN_FILE = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
VALIDITY = 12 * 3600
"""Seconds; the longest that STS gives (STS API reference, "AssumeRole")."""
RENEWAL = 3600.0
"""Seconds before their end from which on new credentials are given; clients ask for new ones 15 minutes before."""
SESSION_NAME = "cloudknot-job"


@dataclass
class _Role:
    arn: str
    token: str
    token_file: Path
    known: Known | None = None


class TaskCredentials:
    """The roles of jobs.

    Parameters
    ----------
    query : callable
        Calls STS as the cloud's owner.
    keys : Keys
        Told of every key that a job gets.
    endpoint : str
        The URL that jobs reach the cloud at.
    directory : Path
        Where the files with the tokens are, for the owner only.
    """

    def __init__(self, query: Query, keys: Keys, endpoint: str, directory: Path) -> None:
        self._query, self._keys, self._endpoint, self._directory = query, keys, endpoint, directory
        self._roles: dict[str, _Role] = {}
        self._lock = threading.Lock()

    def variables(self, role: str | None) -> dict[str, str]:
        """What the environment of a job with this role says of its credentials; nothing without a role."""
        if role is None:
            return {}
        name = hashlib.sha256(role.encode()).hexdigest()[:16]
        with self._lock:
            if name not in self._roles:
                self._roles[name] = self._new(role, name)
            found = self._roles[name]
        return {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self._endpoint}{PATH}{name}",
            TOKEN_FILE: str(found.token_file),
        }

    def answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Give a job its credentials, if it shows the token."""
        role = self._roles.get(environ["PATH_INFO"].removeprefix(PATH))
        shown = str(environ.get("HTTP_AUTHORIZATION", "")).encode()
        if role is None or not hmac.compare_digest(shown, role.token.encode()):
            return send_json(start_response, {"code": "AccessDenied", "message": "Not your credentials"}, 403)
        try:
            known = self._current(role)
        except CloudError as error:
            return send_json(start_response, {"code": "AccessDenied", "message": str(error)}, 400)
        expires = datetime.fromtimestamp(known.expires or 0, UTC)
        return send_json(
            start_response,
            {
                "RoleArn": role.arn,
                "AccessKeyId": known.key.access_key,
                "SecretAccessKey": known.key.secret_key,
                "Token": known.key.token,
                "Expiration": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
            },
        )

    def _new(self, arn: str, name: str) -> _Role:
        self._directory.mkdir(mode=0o700, exist_ok=True)
        token, file = secrets.token_urlsafe(32), self._directory / name
        # Only the directory keeps others of this machine out: in a container, the job may be another user.
        file.write_text(token)
        file.chmod(0o444)
        return _Role(arn, token, file)

    def _current(self, role: _Role) -> Known:
        with self._lock:
            known = role.known
        if known is None or (known.expires or 0) - time.time() < RENEWAL:
            form = {"RoleArn": role.arn, "RoleSessionName": SESSION_NAME, "DurationSeconds": str(VALIDITY)}
            known = session(form, self._query("sts", "AssumeRole", **form))
            self._keys.add(known)
            with self._lock:
                role.known = known
        return known
