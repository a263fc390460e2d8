"""The cloud's own routes beside those of AWS (status, stop, log, faults), and the requests of a session to them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cloudknot.local.state import REGION, CloudState, read_state

STATUS_PATH = "/_cloudknot/status"
STOP_PATH = "/_cloudknot/stop"
LOG_PATH = "/_cloudknot/log"
FAULTS_PATH = "/_cloudknot/faults"

REQUEST_TIMEOUT = 10.0


@dataclass(frozen=True)
class CloudStatus:
    """A running cloud.

    ``uptime`` and ``idle`` are seconds, ``jobs`` the number of jobs in each state; ``runner`` is ``"process"`` or
    ``"docker"``, and ``registry`` where its images are; ``iam`` tells whether keys made by IAM are let in.
    ``requests`` holds, of ``"workers"`` and of ``"others"``, by operation such as ``"s3:GetObject"``: the
    number of requests, bytes received with them, bytes sent back.
    """

    endpoint: str
    pid: int
    directory: Path
    vcpus: float
    uptime: float
    idle: float
    jobs: Mapping[str, int] = field(default_factory=dict)
    runner: str = "process"
    registry: str | None = None
    iam: bool = False
    requests: Mapping[str, Mapping[str, tuple[int, int, int]]] = field(default_factory=dict)


def status(directory: Path) -> CloudStatus | None:
    """Return the status of the cloud in a directory; None when none answers. Never starts one."""
    state = read_state(directory)
    answer = state and ask(state, "GET", STATUS_PATH)
    if not answer:
        return None
    names = ("endpoint", "pid", "vcpus", "uptime", "idle", "jobs", "runner", "registry", "iam", "requests")
    return CloudStatus(directory=directory, **{name: answer[name] for name in names})


def answers(state: CloudState) -> bool:
    """Return whether the cloud of that state answers."""
    return ask(state, "GET", STATUS_PATH) is not None


def ask(state: CloudState, method: str, path: str, body: bytes = b"") -> dict[str, Any] | None:
    """Send a signed request to one of the cloud's own routes; None when that cloud refuses or does not answer."""
    from http.client import HTTPConnection, HTTPException
    from urllib.parse import urlsplit

    from cloudknot.local.iam.signing import AccessKey, sign

    key = AccessKey(state.access_key, state.secret_key)
    headers = sign(method, state.endpoint + path, key, service="cloudknot", region=REGION, body=body)
    connection = HTTPConnection(urlsplit(state.endpoint).netloc, timeout=REQUEST_TIMEOUT)
    try:
        connection.request(method, path, body or None, headers)
        response = connection.getresponse()
        content = response.read()
        answer: dict[str, Any] | None = json.loads(content) if response.status == 200 else None
        return answer
    except (OSError, HTTPException, ValueError):
        return None
    finally:
        connection.close()
