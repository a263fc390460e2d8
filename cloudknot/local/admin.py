"""The embedded cloud's own routes beside those of AWS (status, stop, log, shrink), and requests to them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloudknot.errors import ClockSkewError
from cloudknot.local.directory.state import REGION, CloudState, read_state

if TYPE_CHECKING:
    from http.client import HTTPResponse

STATUS_PATH = "/_cloudknot/status"
STOP_PATH = "/_cloudknot/stop"
LOG_PATH = "/_cloudknot/log"
SHRINK_PATH = "/_cloudknot/shrink"

REQUEST_TIMEOUT = 10.0
"""Seconds."""


@dataclass(frozen=True)
class CloudStatus:
    """A running embedded cloud.

    Attributes
    ----------
    endpoint : str
        The URL of the cloud.
    pid : int
        The process id of the server.
    directory : Path
        The directory that holds the cloud's files.
    vcpus : float
        The vCPUs that running jobs may use together.
    uptime, idle : float
        Seconds since the start, and since the last request or live job.
    jobs : mapping
        The number of jobs in each state.
    runner : {"process", "docker"}
        How attempts of jobs are executed.
    registry : str or None
        The address of the registry with the images. None without a registry.
    iam : bool
        Whether the cloud accepts keys that IAM created.
    requests : mapping
        For ``"workers"`` and ``"others"``, by operation such as ``"s3:GetObject"``: the number of requests, the bytes
        received and the bytes sent.
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
    """Return the status of the cloud in a directory, or None if none answers. Never starts a cloud."""
    state = read_state(directory)
    answer = state and ask(state, "GET", STATUS_PATH)
    if not answer:
        return None
    names = {each.name for each in fields(CloudStatus)}
    return CloudStatus(directory=directory, **{name: answer[name] for name in names & answer.keys()})


def answers(state: CloudState) -> bool:
    """Return whether the cloud that ``state`` describes answers."""
    return ask(state, "GET", STATUS_PATH) is not None


def ask(
    state: CloudState, method: str, path: str, body: bytes = b"", timeout: float = REQUEST_TIMEOUT
) -> dict[str, Any] | None:
    """Send a signed request to one of the cloud's own routes. Return None if the cloud refuses or does not answer.

    Raises
    ------
    ClockSkewError
        The clock of this process is too far from that of the cloud.
    """
    # Imported here so that `import cloudknot` and sessions on AWS do not pay for HTTP and botocore.
    from http.client import HTTPConnection, HTTPException
    from urllib.parse import urlsplit

    from cloudknot.local.iam.signing import AccessKey, sign

    key = AccessKey(state.access_key, state.secret_key)
    headers = sign(method, state.endpoint + path, key, service="cloudknot", region=REGION, body=body)
    connection = HTTPConnection(urlsplit(state.endpoint).netloc, timeout=timeout)
    try:
        connection.request(method, path, body or None, headers)
        response = connection.getresponse()
        content = response.read()
        # A silent cloud is asked again for half a minute, but this refusal stays.
        if response.getheader("x-amzn-ErrorType") == "RequestTimeTooSkewed":
            raise _clock_error(state, response)
        answer: dict[str, Any] | None = json.loads(content) if response.status == 200 else None
        return answer
    except (OSError, HTTPException, ValueError):
        # A cloud that ended leaves its state file, and its port may belong to any other program by now.
        return None
    finally:
        connection.close()


def _clock_error(state: CloudState, response: HTTPResponse) -> ClockSkewError:
    from datetime import UTC, datetime
    from email.utils import parsedate_to_datetime

    difference = datetime.now(UTC) - parsedate_to_datetime(response.getheader("Date", ""))
    return ClockSkewError(
        f"The clock of this session and that of the embedded cloud at {state.endpoint} differ by "
        f"{abs(difference.total_seconds()) / 60:.0f} minutes, so the cloud refuses every request. Set the clock (on "
        "Linux: `timedatectl set-ntp true`) and try again."
    )
