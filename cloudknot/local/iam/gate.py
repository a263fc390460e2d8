"""The gate of the embedded cloud: whose key a request is signed with, and whether its owner may make it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qsl
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from cloudknot.aws.batch import LOG_GROUP
from cloudknot.local import wsgi
from cloudknot.local.iam.accesses import Names, accesses, missing_keys_shown, s3_accesses
from cloudknot.local.iam.calls import Call, call_of
from cloudknot.local.iam.keys import Keys, Principal
from cloudknot.local.iam.policy import Access, Context, ParsedStatement, decide, parse
from cloudknot.local.iam.signing import Request, claimed_key, verify

NOT_OURS = "This cloud answers only requests signed with the key of its own cloud.json, or with one that it made."
_UNDERSTOOD_ONLY_BY_S3 = {"InvalidClientTokenId": "InvalidAccessKeyId", "MissingAuthenticationToken": "AccessDenied"}
_OWNERS = ("/_cloudknot", "/moto-api")
"""What no policy can allow."""
_DENIED = {"s3": "AccessDenied", "ec2": "UnauthorizedOperation"}
_EC2_SAYS = "You are not authorized to perform this operation. "


@dataclass(frozen=True)
class Refusal:
    """Why a request is not answered: AWS's code and words, and the HTTP status."""

    code: str
    message: str
    status: int = 403


class Gate:
    """Lets requests in.

    Parameters
    ----------
    keys : Keys
    statements : callable
        Gives the statements that hold for a principal.
    names : Names
    log_path : str
        The cloud's own route that shows a log stream; others of its own are for the owner only.
    """

    def __init__(
        self, keys: Keys, statements: Callable[[Principal], tuple[ParsedStatement, ...]], names: Names, log_path: str
    ) -> None:
        self._keys, self._statements, self._names, self._log_path = keys, statements, names, log_path

    def refusal(self, environ: WSGIEnvironment, service: str) -> Refusal | None:
        """Why a request is refused; None when it may be answered.

        Then ``environ`` has its `Principal` as ``cloudknot.principal``; the cloud's owner is None.
        """
        request = request_of(environ)
        claimed = claimed_key(request)
        known = self._keys.find(claimed or "")
        code = verify(request, known.key if known else self._keys.owner, datetime.now(UTC))
        if code is not None:
            return Refusal(_UNDERSTOOD_ONLY_BY_S3.get(code, code) if service == "s3" else code, NOT_OURS)
        environ["cloudknot.principal"] = known and known.principal
        if known is None or known.principal is None:
            return None
        if self._keys.expired(known):
            message = "The security token included in the request is expired"
            return Refusal("ExpiredToken" if wsgi.is_xml(service) else "ExpiredTokenException", message)
        return self._denial(known.principal, environ, service)

    def hide_missing(
        self, principal: Principal, environ: WSGIEnvironment, start_response: StartResponse, answer: WSGIApplication
    ) -> Iterable[bytes]:
        """Answer a request to S3 as to one who may not know which objects there are, if the principal may not."""
        asked = missing_keys_shown(environ, _common(principal, self._names.region))
        if asked is None or self._allowed(principal, asked) == "allow":
            return answer(environ, start_response)
        recorded = wsgi.Recorded()
        body = answer(environ, recorded)
        if not recorded.status.startswith("404"):
            recorded.pass_on(start_response)
            return body
        return wsgi.refuse(environ, start_response, "s3", 403, "AccessDenied", _words(principal, asked, ""))

    def _denial(self, principal: Principal, environ: WSGIEnvironment, service: str) -> Refusal | None:
        path = environ["PATH_INFO"]
        if path.startswith(_OWNERS) and path != self._log_path:
            return Refusal("AccessDenied", "This is for the owner of the embedded cloud only.")
        common = _common(principal, self._names.region)
        for access in self._needed(environ, service, common):
            decision = self._allowed(principal, access)
            if decision != "allow":
                words = _words(principal, access, decision)
                code = _DENIED.get(service, "AccessDenied" if wsgi.is_xml(service) else "AccessDeniedException")
                return Refusal(code, _EC2_SAYS + words if service == "ec2" else words, wsgi.denied_status(service))
        return None

    def _needed(self, environ: WSGIEnvironment, service: str, common: Context) -> Iterable[Access]:
        path = environ["PATH_INFO"]
        if path == self._log_path:
            asked = dict(parse_qsl(environ["QUERY_STRING"]))
            stream = {"logGroupName": asked.get("group", LOG_GROUP), "logStreamName": asked.get("name", "")}
            call = Call("logs", "GetLogEvents", stream)
            return accesses(call, self._names, common)
        if service == "s3" and not path.startswith("/v20180820/"):
            return s3_accesses(environ, common)
        return accesses(call_of(environ, service), self._names, common)

    def _allowed(self, principal: Principal, access: Access) -> str:
        decision = decide(self._statements(principal), access)
        if decision == "allow" and principal.session_policy:
            return decide(parse(principal.session_policy), access)
        return decision


def request_of(environ: WSGIEnvironment) -> Request:
    """A request as its signature is checked."""
    headers = {name[5:].lower().replace("_", "-"): value for name, value in environ.items() if name[:5] == "HTTP_"}
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if name in environ:
            headers[name.lower().replace("_", "-")] = environ[name]
    return Request(environ["REQUEST_METHOD"], environ["REQUEST_URI"], headers, environ["wsgi.input"])


def _common(principal: Principal, region: str) -> Context:
    """The condition keys that every request has (IAM user guide, "AWS global condition context keys")."""
    context = {
        "aws:principalarn": (principal.arn,),
        "aws:principaltype": ("User" if principal.kind == "User" else "AssumedRole",),
        "aws:requestedregion": (region,),
        "aws:securetransport": ("false",),
    }
    if principal.kind == "User":
        context["aws:username"] = (principal.name,)
    if principal.called_via:
        context["aws:calledvia"] = (principal.called_via,)
    return context


def _words(principal: Principal, access: Access, decision: str) -> str:
    """What AWS says (IAM user guide, "Troubleshoot access denied error messages")."""
    shown = f'"{access.resource}"' if access.action.startswith("s3:") else access.resource
    where = f" on resource: {shown}" if access.resource != "*" else ""
    why = (
        "with an explicit deny in an identity-based policy"
        if decision == "deny"
        else f"because no identity-based policy allows the {access.action} action"
    )
    return f"User: {principal.arn} is not authorized to perform: {access.action}{where} {why}"
