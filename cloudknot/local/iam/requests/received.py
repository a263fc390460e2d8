"""A request as the gate and all services read it, and the WSGI variables behind the gate."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from wsgiref.types import WSGIEnvironment

from cloudknot.local.directory.state import REGION
from cloudknot.local.iam.requests import fields
from cloudknot.local.iam.requests.calls import Call, read_call
from cloudknot.local.iam.requests.objects import S3Request, deletes_several, read_s3_request
from cloudknot.local.iam.signing import Request, SignedClaim
from cloudknot.local.wsgi import ServiceError

RECEIVED = "cloudknot.received"
"""The WSGI variable that holds the `Received`."""
PRINCIPAL = "cloudknot.principal"
"""The WSGI variable that holds the principal who makes the request; None for the cloud's owner."""
CALL = "cloudknot.call"
"""The WSGI variable with the id of a call by CloudFormation. Repeated calls with one id are carried out once."""
OWN_SERVICE = "cloudknot"
"""The service in the signatures of requests to the cloud's own routes."""
LONGEST_LIST = 2 * 1024 * 1024
"""Bytes. The body of DeleteObjects names 1,000 keys at most, of 1,024 bytes each."""
_OWN_PATH = re.compile(r"/_cloudknot/[a-z]+")


@dataclass(frozen=True)
class OwnRoute:
    """A request to one of the cloud's own routes."""

    method: str
    path: str
    query: Mapping[str, str]


@dataclass(frozen=True)
class Received:
    """A request after its one reading: the key and the service in its signature, and the operation."""

    access_key: str
    service: str
    target: Call | S3Request | OwnRoute

    @property
    def call(self) -> Call | None:
        """The call, unless the request is for S3 or another target."""
        return self.target if isinstance(self.target, Call) else None


def read_request(request: Request, claim: SignedClaim) -> Received:
    """Return the operation in a request, by the service in its signature.

    Raises
    ------
    ServiceError
        The request has several readings, or its path does not fit the service.
    """
    service = claim.service
    if claim.region != REGION:
        message = f"The embedded cloud has the region {REGION} only."
        # S3's clients sign again for the named region.
        raise ServiceError("AuthorizationHeaderMalformed", message, region=REGION if service == "s3" else "")
    if service == "s3":
        return Received(claim.access_key, service, read_s3_request(request, _deletion_list(request)))
    if service == OWN_SERVICE:
        if not _OWN_PATH.fullmatch(request.path):
            raise ServiceError("AccessDenied", f"The embedded cloud has no route {request.path!r}.", 403)
        return Received(
            claim.access_key, service, OwnRoute(request.method, request.path, fields.unique(request.query_pairs))
        )
    return Received(claim.access_key, service, read_call(request, service, _whole(request)))


def received(environ: WSGIEnvironment) -> Received:
    """Return the request that WSGI variables carry."""
    found: Received = environ[RECEIVED]
    return found


def _deletion_list(request: Request) -> bytes | None:
    if not deletes_several(request):
        return None
    if request.length > LONGEST_LIST:
        raise ServiceError("MalformedXML", f"A list of keys has {LONGEST_LIST} bytes at most.")
    return _whole(request)


def _whole(request: Request) -> bytes:
    """Return the whole body, and rewind it."""
    body = request.body.read()
    request.body.seek(0)
    return body
