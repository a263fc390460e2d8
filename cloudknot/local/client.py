"""Requests of a session to the cloud's own routes."""

from __future__ import annotations

import json
from typing import Any

from cloudknot.local.state import REGION, CloudState

REQUEST_TIMEOUT = 10.0

STATUS = ("GET", "/_cloudknot/status")
STOP = ("POST", "/_cloudknot/stop")
FAULTS = ("POST", "/_cloudknot/faults")


def ask(state: CloudState, what: tuple[str, str], body: bytes = b"") -> dict[str, Any] | None:
    """A signed request to one of the cloud's own routes; None when it is not that cloud that answers, or none."""
    from http.client import HTTPConnection, HTTPException
    from urllib.parse import urlsplit

    from cloudknot.local.iam.signing import AccessKey, sign

    method, path = what
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
