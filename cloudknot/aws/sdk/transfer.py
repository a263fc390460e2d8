"""Give S3 clients of botocore the file transfer methods of boto3, which are loaded at their first use."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from botocore.session import Session

METHODS = ("copy", "download_file", "download_fileobj", "upload_file", "upload_fileobj")


def add_transfer_methods(session: Session) -> None:
    """Add the methods to the S3 clients that a session will make."""
    # `Cloud.client` is public, and cloudknot itself does not need these methods. boto3 would load s3transfer, and with
    # it the standard library's multiprocessing, for each client.
    session.register("creating-client-class.s3", _add_methods)


def _add_methods(**event: Any) -> None:
    event["class_attributes"].update({name: _method(name) for name in METHODS})


def _method(name: str) -> Callable[..., Any]:
    def call(self: object, *arguments: object, **keywords: object) -> Any:
        from boto3.s3 import inject

        return getattr(inject, name)(self, *arguments, **keywords)

    call.__name__ = name
    return call
