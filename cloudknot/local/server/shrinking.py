"""Shrinking: the route through which `cloudknot local prune` has the databases give unused space back to the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from wsgiref.types import StartResponse, WSGIEnvironment

from cloudknot.local import wsgi


class Shrinking:
    """The WSGI application that shrinks the databases, and answers afterwards.

    Parameters
    ----------
    shrinks : sequence of callable
        Each shrinks a database.
    """

    def __init__(self, shrinks: Sequence[Callable[[], None]]) -> None:
        self._shrinks = shrinks

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        for shrink in self._shrinks:
            shrink()
        return wsgi.send_json(start_response, {})
