"""The gate of the embedded cloud. It checks the signature of a request and the permissions of the key's owner."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qsl
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from cloudknot.aws.batch import LOG_GROUP
from cloudknot.local import wsgi
from cloudknot.local.iam.accesses import Names, accesses, missing_keys_shown, s3_accesses
from cloudknot.local.iam.calls import Call, decode_call
from cloudknot.local.iam.keys import Keys, Principal
from cloudknot.local.iam.policy import Access, Context, decide, parse
from cloudknot.local.iam.policy_reader import Policies
from cloudknot.local.iam.signing import Request, claimed_key, verify

INVALID_SIGNATURE = (
    "The request is not signed with a key of this embedded cloud. "
    "Sign it with the key in its cloud.json, or with one that it created."
)
_S3_CODES = {"InvalidClientTokenId": "InvalidAccessKeyId", "MissingAuthenticationToken": "AccessDenied"}
"""S3's own names of error codes."""
_OWNER_PATHS = ("/_cloudknot", "/moto-api")
"""Routes for the owner only. No policy can allow them."""
_DENIED = {"s3": "AccessDenied", "ec2": "UnauthorizedOperation"}
_EC2_PREFIX = "You are not authorized to perform this operation. "


@dataclass(frozen=True)
class Refusal:
    """The error that refuses a request: AWS's code and message, and the HTTP status."""

    code: str
    message: str
    status: int = 403


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

    def refusal(self, environ: WSGIEnvironment, service: str) -> Refusal | None:
        """Return the error that refuses a request, or None if the request may be answered.

        On success ``environ["cloudknot.principal"]`` is the request's `Principal`, or None for the cloud's owner.
        """
        request = received_request(environ)
        claimed = claimed_key(request)
        accepted = self._keys.find(claimed or "")
        # An unknown key is checked against the owner's, which yields the right one of AWS's errors.
        code = verify(request, accepted.key if accepted else self._keys.owner, datetime.now(UTC))
        if code is not None:
            return Refusal(_S3_CODES.get(code, code) if service == "s3" else code, INVALID_SIGNATURE)
        # Later layers read it. Faults distinguish jobs from sessions, and AssumeRole checks the trust policy.
        environ["cloudknot.principal"] = accepted and accepted.principal
        if accepted is None or accepted.principal is None:
            return None
        if self._keys.expired(accepted):
            message = "The security token included in the request is expired"
            return Refusal("ExpiredToken" if wsgi.is_xml(service) else "ExpiredTokenException", message)
        return self._denial(accepted.principal, environ, service)

    def hide_missing(
        self, principal: Principal, environ: WSGIEnvironment, start_response: StartResponse, answer: WSGIApplication
    ) -> Iterable[bytes]:
        """Answer a request to S3. Report a missing object as access denied to a principal without s3:ListBucket."""
        # As S3 does: otherwise anybody could probe which objects exist.
        listing = missing_keys_shown(environ, _common(principal, self._names.region))
        if listing is None or self._allowed(principal, listing) == "allow":
            return answer(environ, start_response)
        recorded = wsgi.RecordedAnswer()
        body = answer(environ, recorded)
        if not recorded.status.startswith("404"):
            recorded.pass_on(start_response)
            return body
        return wsgi.refuse(environ, start_response, "s3", 403, "AccessDenied", _message(principal, listing, ""))

    def _denial(self, principal: Principal, environ: WSGIEnvironment, service: str) -> Refusal | None:
        """Return the error for a request that the principal's policies do not allow, or None."""
        path = environ["PATH_INFO"]
        if path.startswith(_OWNER_PATHS) and path != self._log_path:
            message = (
                f"{path} is for the owner of the embedded cloud only. Sign the request with the key in cloud.json."
            )
            return Refusal("AccessDenied", message)
        common = _common(principal, self._names.region)
        for access in self._needed(environ, service, common):
            decision = self._allowed(principal, access)
            if decision != "allow":
                message = _message(principal, access, decision)
                code = _DENIED.get(service, "AccessDenied" if wsgi.is_xml(service) else "AccessDeniedException")
                prefix = _EC2_PREFIX if service == "ec2" else ""
                return Refusal(code, prefix + message, wsgi.denied_status(service))
        return None

    def _needed(self, environ: WSGIEnvironment, service: str, common: Context) -> Iterable[Access]:
        """Return the permissions that a request needs."""
        path = environ["PATH_INFO"]
        if path == self._log_path:
            # The page in a browser needs the same permission as the operation that reads the stream.
            query = dict(parse_qsl(environ["QUERY_STRING"]))
            stream = {"logGroupName": query.get("group", LOG_GROUP), "logStreamName": query.get("name", "")}
            call = Call("logs", "GetLogEvents", stream)
            return accesses(call, self._names, common)
        # S3 Control is signed for S3 too, but its operations have other actions.
        if service == "s3" and not path.startswith("/v20180820/"):
            return s3_accesses(environ, common)
        return accesses(decode_call(environ, service), self._names, common)

    def _allowed(self, principal: Principal, access: Access) -> str:
        """Return the decision on an access, as `decide` does, or ``"bounded"`` if only the boundary lacks it."""
        policies = self._policies(principal)
        decision = decide(policies.statements, access)
        # A permissions boundary and a session policy can only restrict: all of them must allow the access.
        if decision == "allow" and policies.boundary is not None:
            decision = decide(policies.boundary, access) or "bounded"
        if decision == "allow" and principal.session_policy:
            return decide(parse(principal.session_policy), access)
        return decision


def received_request(environ: WSGIEnvironment) -> Request:
    """Return a request in the form that `verify` takes."""
    headers = {name[5:].lower().replace("_", "-"): value for name, value in environ.items() if name[:5] == "HTTP_"}
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if name in environ:
            headers[name.lower().replace("_", "-")] = environ[name]
    return Request(environ["REQUEST_METHOD"], environ["REQUEST_URI"], headers, environ["wsgi.input"])


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
