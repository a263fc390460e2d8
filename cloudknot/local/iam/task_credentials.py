"""The credentials of jobs: those of the job role, delivered as ECS delivers them to a container.

A job requests its credentials at the address in ``AWS_CONTAINER_CREDENTIALS_FULL_URI``, and presents the token in the
file that ``AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`` names. No secret is in its environment, definition or command.

Sources: Amazon ECS developer guide, "Task IAM role"; AWS SDKs reference guide, "Container credential provider".
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from wsgiref.types import StartResponse, WSGIEnvironment

from cloudknot.local.iam.keys import AcceptedKey, Keys
from cloudknot.local.wsgi import ServiceError, send_json

PATH = "/_cloudknot/credentials/"
TOKEN_FILE = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
VALIDITY = 12 * 3600
"""Seconds. The longest validity that STS grants (STS API reference, "AssumeRole")."""
RENEWAL = 3600.0
"""Credentials with fewer seconds left are replaced. Clients ask for new ones 15 minutes before the end."""
SESSION_NAME = "cloudknot-job"


@dataclass
class _Role:
    arn: str
    token: str
    token_file: Path
    accepted: AcceptedKey | None = None


class TaskCredentials:
    """The credentials of all job roles.

    Parameters
    ----------
    session : callable
        ``session(role_arn, name, seconds)`` returns the key of a new session of a role. Raises `ServiceError` if there
        is no such role.
    keys : Keys
        Receives every key that a job gets.
    endpoint : str
        The URL of the cloud for jobs.
    directory : Path
        The directory of the token files, accessible to the owner only.
    """

    def __init__(
        self, session: Callable[[str, str, float], AcceptedKey], keys: Keys, endpoint: str, directory: Path
    ) -> None:
        self._session, self._keys, self._endpoint, self._directory = session, keys, endpoint, directory
        self._roles: dict[str, _Role] = {}
        self._lock = threading.Lock()

    def variables(self, role: str | None) -> dict[str, str]:
        """Return the environment variables that lead a job with this role to its credentials; none without a role."""
        if role is None:
            return {}
        # A digest, because an ARN contains characters that are not allowed in URLs and file names.
        # One address for a role, not for a job: a fork server requests the credentials once, then forks for many jobs.
        name = hashlib.sha256(role.encode()).hexdigest()[:16]
        with self._lock:
            if name not in self._roles:
                self._roles[name] = self._new(role, name)
            token_file = self._roles[name].token_file
        return {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self._endpoint}{PATH}{name}",
            TOKEN_FILE: str(token_file),
        }

    def answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Send a job its credentials if it presents the right token."""
        role = self._roles.get(environ["PATH_INFO"].removeprefix(PATH))
        token = str(environ.get("HTTP_AUTHORIZATION", "")).encode()
        if role is None or not hmac.compare_digest(token, role.token.encode()):
            message = (
                f"The token is not that of the role at this address. Send the content of the file in ${TOKEN_FILE}."
            )
            return send_json(start_response, {"code": "AccessDenied", "message": message}, 403)
        try:
            accepted = self._current(role)
        except ServiceError as error:
            return send_json(start_response, {"code": "AccessDenied", "message": str(error)}, 400)
        expires = datetime.fromtimestamp(accepted.expires or 0, UTC)
        return send_json(
            start_response,
            {
                "RoleArn": role.arn,
                "AccessKeyId": accepted.key.access_key,
                "SecretAccessKey": accepted.key.secret_key,
                "Token": accepted.key.token,
                "Expiration": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
            },
        )

    def _new(self, arn: str, name: str) -> _Role:
        self._directory.mkdir(mode=0o700, exist_ok=True)
        token, file = secrets.token_urlsafe(32), self._directory / name
        # Readable by everyone, because the job in a container may be another user. The directory above keeps other
        # users of this machine out.
        file.write_text(token, encoding="utf-8")
        file.chmod(0o444)
        return _Role(arn, token, file)

    def _current(self, role: _Role) -> AcceptedKey:
        """Return a key of the role, valid for at least `RENEWAL` seconds."""
        with self._lock:
            accepted = role.accepted
        # Without the lock, so that jobs of other roles need not wait. Two threads may both get a key: both are valid.
        if accepted is None or (accepted.expires or 0) - time.time() < RENEWAL:
            accepted = self._session(role.arn, SESSION_NAME, VALIDITY)
            # Not kept: no job outlives the server.
            self._keys.add(accepted, is_kept=False)
            with self._lock:
                role.accepted = accepted
        return accepted
