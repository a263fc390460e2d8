"""Answer a request at once that cannot be stored, because a disk is full or too many files are open."""

from __future__ import annotations

from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from cloudknot.local import wsgi
from cloudknot.local.directory.full_disk import ERRORS, FullDisk

CODE = "InsufficientStorage"
"""The error code. AWS has none for this: its storage has no end."""


class FullDiskAnswers:
    """The WSGI application that answers requests which another one could not store.

    Clients repeat a request after an error of the server, a job for ten minutes. They do not repeat this one.

    Parameters
    ----------
    application : WSGI application
        Answers all requests.
    disk : FullDisk
    """

    def __init__(self, application: WSGIApplication, disk: FullDisk) -> None:
        self._application, self._disk = application, disk

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            return self._application(environ, start_response)
        except OSError as error:
            if error.errno not in ERRORS:
                raise
            refusal = wsgi.ServiceError(CODE, self._disk.note(error.errno, error.filename), 507)
        return wsgi.refuse(environ, start_response, environ[wsgi.ADMISSION].service, refusal)
