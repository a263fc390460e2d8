"""Answer a request that the embedded cloud cannot carry out: a disk is full, or its own code fails."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterable
from pathlib import Path
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from waitress.channel import ClientDisconnected

from cloudknot.local import wsgi
from cloudknot.local.directory.full_disk import CODE, ERRORS, FullDisk
from cloudknot.local.wsgi import ServiceError
from cloudknot.worker.s3.retries import BUG_HEADER

_INTERNAL_ERROR = ("s3", "ec2")
"""The services that call an error of their own InternalError. The others call it InternalFailure."""
_PACKAGE = str(Path(__file__).resolve().parents[2])


class Failures:
    """The WSGI application that answers the requests in which another one fails.

    Clients repeat a request after an error of the server, a job for ten minutes. They do not repeat one that does not
    fit on a disk, and repeat one that meets a bug a few times only.

    Parameters
    ----------
    application : WSGI application
        Answers all requests.
    disk : FullDisk
    log : Path
        The log of the server, for messages.
    """

    def __init__(self, application: WSGIApplication, disk: FullDisk, log: Path) -> None:
        self._application, self._disk, self._log = application, disk, log
        self._is_ending = False

    def end(self) -> None:
        """Send no further answers about failures: the server closes its databases."""
        self._is_ending = True

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            return self._application(environ, start_response)
        except ClientDisconnected:
            raise
        except Exception as error:
            if self._is_ending:
                # The client then takes the server for lost, which it is.
                raise ClientDisconnected from error
            service = environ[wsgi.ADMISSION].service
            if isinstance(error, OSError) and error.errno in ERRORS:
                refusal = ServiceError(CODE, self._disk.note(error.errno, error.filename), 507)
                return wsgi.refuse(environ, start_response, service, refusal)
            logging.getLogger(__name__).exception("%s %s failed", environ["REQUEST_METHOD"], environ["PATH_INFO"])
            code = "InternalError" if service in _INTERNAL_ERROR else "InternalFailure"
            message = self._explain(error)
            # The answer to HEAD has no body, and botocore drops the message of some others.
            mark = [(BUG_HEADER, message.encode("ascii", "replace").decode())]
            return wsgi.refuse(environ, start_response, service, ServiceError(code, message, 500), mark)

    def _explain(self, error: Exception) -> str:
        """Return the message about a bug. Its text may quote data of another user, so only the log has it."""
        return (
            f"The embedded cloud failed because of a bug in it: {type(error).__name__} in {_place(error)}. "
            f"Try again. If it happens again, file an issue with the traceback at the end of {self._log}."
        )


def _place(error: Exception) -> str:
    """Return file and line of the last call inside the package."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith(_PACKAGE)] or frames
    return f"{own[-1].filename.removeprefix(_PACKAGE).lstrip('/')}, line {own[-1].lineno}"
