"""The gate of the embedded cloud. It checks the signature of a request and the permissions of the key's owner."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from cloudknot.aws.batch import LOG_GROUP
from cloudknot.local import wsgi
from cloudknot.local.iam.accesses import Names, accesses, missing_keys_shown, s3_accesses, with_owner
from cloudknot.local.iam.keys import AcceptedKey, Keys, Principal
from cloudknot.local.iam.policy import Access, Context, decide, parse
from cloudknot.local.iam.policy_reader import Policies
from cloudknot.local.iam.requests.calls import Call
from cloudknot.local.iam.requests.objects import S3Request
from cloudknot.local.iam.requests.received import Received, read_request, received
from cloudknot.local.iam.signed_bodies import check_body, signed_body
from cloudknot.local.iam.signing import (
    DIGEST,
    Body,
    Readable,
    Request,
    SignedClaim,
    claim_error,
    covers_body_by_digest,
    read_claim,
    signature_error,
)
from cloudknot.local.iam.task_credentials import PATH as CREDENTIALS_PATH
from cloudknot.local.wsgi import ServiceError

INVALID_SIGNATURE = (
    "The request is not signed with a key of this embedded cloud. "
    "Sign it with the key in its cloud.json, or with one that it created."
)
_REFUSED_TIMES = {
    "RequestTimeTooSkewed": "The difference between the request time and the current time is too large.",
    "AccessDenied": "The presigned URL has expired, or is valid for more than 7 days.",
}
"""AWS's messages, by the error codes of a signature's time."""
_S3_CODES = {"InvalidClientTokenId": "InvalidAccessKeyId", "MissingAuthenticationToken": "AccessDenied"}
"""S3's own names of error codes."""
LONGEST_CALL = 8 * 1024 * 1024
"""Bytes. A body that is no object stays in memory. Requests to other services than S3 prove their signature only as a
whole. AWS's own limits are smaller: 4 MiB for an image's manifest in ECR, 1 MiB for log events."""
_HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?")
_URI = re.compile(r"/(?!/)[!\"$-\[\]-~]*")
"""Printable ASCII without ``#`` and a backslash, since some readers take the latter for a slash."""
_DENIED = {"s3": "AccessDenied", "ec2": "UnauthorizedOperation"}
_EC2_PREFIX = "You are not authorized to perform this operation. "


@dataclass(frozen=True)
class Admission:
    """The checks on the head of a request, before its body arrives.

    Attributes
    ----------
    request : Request
    claim : SignedClaim or None
        The signature. None for a request of a job for its credentials, which presents a token instead.
    accepted : AcceptedKey or None
        The key in the signature.
    refusal : ServiceError or None
        The error that refuses the request.
    is_verified : bool
        Whether the signature is verified. It is not while it covers a body that has not arrived.
    """

    request: Request
    claim: SignedClaim | None = None
    accepted: AcceptedKey | None = None
    refusal: ServiceError | None = None
    is_verified: bool = False

    @property
    def has_object(self) -> bool:
        """Whether the body may be an object, of any length, that is verified while it is read."""
        return self.is_verified and self.service == "s3" and self.request.method == "PUT"

    @property
    def service(self) -> str:
        """The service in the signature, or ``"s3"`` if there is none."""
        return self.claim.service if self.claim else "s3"


class Gate:
    """Checks the signature and permissions of every request.

    Parameters
    ----------
    keys : Keys
        The accepted keys.
    policies : callable
        Returns the policies of a principal.
    names : Names
        Builds ARNs.
    log_path : str
        The route to log streams, the only one of the cloud's own routes that policies can allow.
    """

    def __init__(self, keys: Keys, policies: Callable[[Principal], Policies], names: Names, log_path: str) -> None:
        self._keys, self._policies, self._names, self._log_path = keys, policies, names, log_path

    def admit(self, method: str, uri: str, headers: Mapping[str, str]) -> Admission:
        """Check the head of a request: its form, its host, and as much of its signature as possible."""
        request = Request(method, uri, headers)
        claim = None
        try:
            _check_form(request)
            if request.path.startswith(CREDENTIALS_PATH):
                return _without_key(request)
            claim = read_claim(request)
            accepted = self._keys.find(claim.access_key)
            is_verified = covers_body_by_digest(request, claim)
            self._check_signature(request, claim, accepted, is_verified)
            if not is_verified and claim.service == "s3":
                raise ServiceError("InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
            if DIGEST in request.headers:
                check_body(request, claim)
            is_object = claim.service == "s3" and method == "PUT"
            if request.length > LONGEST_CALL and not is_object:
                raise ServiceError("RequestEntityTooLarge", f"A call has {LONGEST_CALL} bytes at most.", 413)
        except ServiceError as error:
            if claim is None or claim.service == "s3":
                error.code = _S3_CODES.get(error.code, error.code)
            return Admission(request, claim, refusal=error)
        return Admission(request, claim, accepted, None, is_verified)

    def receive(self, admission: Admission, source: Body) -> tuple[Received, Principal | None, Readable]:
        """Return an admitted request after its one reading, its principal, and its body.

        None stands for the cloud's owner. The body of an upload to S3 is verified while it is read. It can be read
        once, and raises `ServiceError` at its end.

        Raises
        ------
        ServiceError
            The body does not have the signature, the request has several readings, or no policy allows it.
        """
        claim, accepted = admission.claim, admission.accepted
        assert claim is not None
        assert accepted is not None
        body: Readable = source
        request = admission.request
        if admission.has_object or (request.length and DIGEST in request.headers):
            body = signed_body(request, claim, accepted.key, source)
        if request.length and not admission.has_object:
            source = io.BytesIO(body.read())
            body, request = source, replace(request, body=source)
        if not admission.is_verified and (code := signature_error(request, claim, accepted.key)):
            raise _unsigned(code, claim.service)
        # Before the reading: errors in a request are for its authenticated sender.
        self._check_expiry(accepted, claim.service)
        found = read_request(request, claim)
        self._check_permissions(accepted.principal, found)
        return found, accepted.principal, body

    def permit(self, accepted: AcceptedKey, found: Received) -> Principal | None:
        """Return the principal for a call of CloudFormation with a key. None stands for the cloud's owner.

        Raises
        ------
        ServiceError
            The key has expired, or no policy allows the call.
        """
        self._check_expiry(accepted, found.service)
        self._check_permissions(accepted.principal, found)
        return accepted.principal

    def _check_expiry(self, accepted: AcceptedKey, service: str) -> None:
        if self._keys.expired(accepted):
            message = "The security token included in the request is expired"
            raise ServiceError("ExpiredToken" if wsgi.is_xml(service) else "ExpiredTokenException", message, 403)

    def _check_signature(
        self, request: Request, claim: SignedClaim, accepted: AcceptedKey | None, is_verifiable: bool
    ) -> None:
        # An unknown key is checked against the owner's, which yields the right one of AWS's errors.
        key = accepted.key if accepted else self._keys.owner
        code = claim_error(claim, key, datetime.now(UTC))
        if code is None and is_verifiable:
            code = signature_error(request, claim, key)
        if code is not None:
            raise _unsigned(code, claim.service)

    def hide_missing(
        self, principal: Principal, environ: WSGIEnvironment, start_response: StartResponse, answer: WSGIApplication
    ) -> Iterable[bytes]:
        """Answer a request to S3. Report a missing object as access denied to a principal without s3:ListBucket."""
        # As S3 does: otherwise anybody could probe which objects exist.
        target = received(environ).target
        assert isinstance(target, S3Request)
        listing = missing_keys_shown(target, _common(principal, self._names.region))
        if listing is None or self._allowed(principal, listing) == "allow":
            return answer(environ, start_response)
        recorded = wsgi.RecordedAnswer()
        body = answer(environ, recorded)
        if not recorded.status.startswith("404"):
            recorded.pass_on(start_response)
            return body
        return wsgi.refuse(
            environ, start_response, "s3", ServiceError("AccessDenied", _message(principal, listing, ""), 403)
        )

    def _check_permissions(self, principal: Principal | None, found: Received) -> None:
        """Refuse a request that the principal's policies do not allow."""
        if principal is None:
            return
        service = found.service
        common = _common(principal, self._names.region)
        for access in self._needed(found, common):
            decision = self._allowed(principal, access)
            if decision != "allow":
                message = _message(principal, access, decision)
                code = _DENIED.get(service, "AccessDenied" if wsgi.is_xml(service) else "AccessDeniedException")
                prefix = _EC2_PREFIX if service == "ec2" else ""
                raise ServiceError(code, prefix + message, wsgi.denied_status(service))

    def _needed(self, found: Received, common: Context) -> Iterable[Access]:
        """Return the permissions that a request needs."""
        target = found.target
        if isinstance(target, S3Request):
            return s3_accesses(target, common)
        if isinstance(target, Call):
            return accesses(target, self._names, common)
        if target.path == self._log_path:
            # The page in a browser needs the same permission as the operation that reads the stream.
            query = target.query
            stream = {"logGroupName": query.get("group", LOG_GROUP), "logStreamName": query.get("name", "")}
            return accesses(Call("logs", "GetLogEvents", stream), self._names, common)
        message = "is for the owner of the embedded cloud only. Sign the request with the key in cloud.json."
        raise ServiceError("AccessDenied", f"{target.path} {message}", 403)

    def _allowed(self, principal: Principal, access: Access) -> str:
        """Return the decision on an access, as `decide` does, or ``"bounded"`` if only the boundary lacks it."""
        if access.action.startswith("s3:"):
            access = with_owner(access, self._names)
        policies = self._policies(principal)
        decision = decide(policies.statements, access)
        # A permissions boundary and a session policy can only restrict: all of them must allow the access.
        if decision == "allow" and policies.boundary is not None:
            decision = decide(policies.boundary, access) or "bounded"
        if decision == "allow" and principal.session_policy:
            return decide(parse(principal.session_policy), access)
        return decision


def _check_form(request: Request) -> None:
    """Refuse a head with another host than this machine, or a URI that its readers may split in several ways."""
    # Against DNS rebinding: a page in the user's browser may reach this port under a name of its own.
    if not _HOST.fullmatch(request.headers.get("host", "")):
        message = "The header Host must name this machine by 127.0.0.1, localhost or [::1], without a bucket."
        raise ServiceError("InvalidHost", message)
    if not _URI.fullmatch(request.uri):
        raise ServiceError("InvalidURI", "A URI must begin with one slash, and contain no fragment and no backslash.")


def _without_key(request: Request) -> Admission:
    """Admit a request of a job for its credentials. The job has no key yet, and presents its token instead."""
    if request.method != "GET" or request.uri != request.path or request.length:
        raise ServiceError("InvalidRequest", "A request for credentials is a GET without a query and without a body.")
    return Admission(request)


def _unsigned(code: str, service: str) -> ServiceError:
    message = _REFUSED_TIMES.get(code, INVALID_SIGNATURE)
    return ServiceError(_S3_CODES.get(code, code) if service == "s3" else code, message, 403)


def _common(principal: Principal, region: str) -> Context:
    """Return the condition keys of every request (IAM user guide, "AWS global condition context keys")."""
    context = {
        "aws:principalarn": (principal.arn,),
        "aws:principaltype": ("User" if principal.kind == "User" else "AssumedRole",),
        "aws:requestedregion": (region,),
        # Requests come over plain HTTP, on loopback.
        "aws:securetransport": ("false",),
    }
    if principal.kind == "User":
        context["aws:username"] = (principal.name,)
    if principal.called_via:
        context["aws:calledvia"] = (principal.called_via,)
    return context


def _message(principal: Principal, access: Access, decision: str) -> str:
    """Return AWS's message for denied access (IAM user guide, "Troubleshoot access denied error messages")."""
    resource = f'"{access.resource}"' if access.action.startswith("s3:") else access.resource
    place = f" on resource: {resource}" if access.resource != "*" else ""
    reasons = {
        "deny": "with an explicit deny in an identity-based policy",
        "bounded": f"because no permissions boundary allows the {access.action} action",
    }
    reason = reasons.get(decision, f"because no identity-based policy allows the {access.action} action")
    return f"User: {principal.arn} is not authorized to perform: {access.action}{place} {reason}"
