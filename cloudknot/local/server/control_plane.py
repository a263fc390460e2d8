"""Calls of the server process to its own services, as WSGI requests without a socket and without a signature."""

from __future__ import annotations

from wsgiref.types import WSGIApplication
from xml.etree import ElementTree

from cloudknot.errors import CloudError
from cloudknot.local.iam.requests.received import own_call
from cloudknot.local.iam.signing import AccessKey
from cloudknot.local.wsgi import ask


class ControlPlane:
    """A client of IAM and STS in a WSGI application that serves AWS's APIs.

    Parameters
    ----------
    application : WSGI application
    key : AccessKey
        The key of the caller.
    """

    def __init__(self, application: WSGIApplication, key: AccessKey) -> None:
        # No socket: an answer often needs such a call. When answers occupy all threads of the server, a call over a
        # socket would wait forever for a free thread.
        self._application, self._key = application, key.access_key

    def query(self, service: str, action: str, **arguments: str) -> ElementTree.Element:
        """Call a service with AWS's query protocol, for example ``query("iam", "GetRole", RoleName="r")``."""
        status, body = ask(self._application, own_call(self._key, service, action, arguments), {})
        content = ElementTree.fromstring(body)
        if not status.startswith("2"):
            code, message = (content.findtext(f".//{{*}}{name}") or "" for name in ("Code", "Message"))
            raise CloudError(f"{service}:{action} was refused: {code}: {message}", code=code)
        return content
