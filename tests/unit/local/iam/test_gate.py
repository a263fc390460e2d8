"""The gate refuses an expired key, however a request is signed, and before it reads the request."""

import io
from urllib.parse import urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest

from cloudknot.local.cloudformation.calls import InProcessServices
from cloudknot.local.iam.accesses import Names
from cloudknot.local.iam.gate import Gate
from cloudknot.local.iam.keys import AcceptedKey, Keys, Principal
from cloudknot.local.iam.policy import parse
from cloudknot.local.iam.policy_reader import Policies
from cloudknot.local.iam.signing import AccessKey
from cloudknot.local.wsgi import ServiceError

OWNER = AccessKey("AKIAOWNER", "secret")
SESSION = AccessKey("ASIASESSION", "secret", "token")
ROLE = Principal("Role", "role", "arn:aws:sts::123456789012:assumed-role/role/job")
EXPIRES = 3600.0
ALL = parse('{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}')
HOST = "http://127.0.0.1:1234"
IDENTITY = "/?Action=GetCallerIdentity&Version=2011-06-15"
SIGNED = {
    "header": (SigV4Auth, "sts", "GET", IDENTITY, b"", "ExpiredToken"),
    "header that covers a body": (
        SigV4Auth,
        "batch",
        "POST",
        "/v1/describejobs",
        b'{"jobs": []}',
        "ExpiredTokenException",
    ),
    "upload": (S3SigV4Auth, "s3", "PUT", "/bucket/key", b"data", "ExpiredToken"),
    "presigned URL": (SigV4QueryAuth, "sts", "GET", IDENTITY, b"", "ExpiredToken"),
    "presigned URL of S3": (S3SigV4QueryAuth, "s3", "GET", "/bucket/key", b"", "ExpiredToken"),
    "presigned upload": (S3SigV4QueryAuth, "s3", "PUT", "/bucket/key", b"data", "ExpiredToken"),
}


class SessionGate:
    """A gate that accepts the key of one session until `EXPIRES`. A test sets the time."""

    def __init__(self):
        self.now = 0.0
        self.keys = Keys(OWNER, lambda: self.now)
        self.keys.add(AcceptedKey(SESSION, ROLE, EXPIRES))
        names = Names("123456789012", "us-east-1", lambda kind, name: "")
        self.gate = Gate(self.keys, lambda principal: Policies(ALL), names, "/log")

    def receive(self, signer, service, method, path, body, key=SESSION, region="us-east-1"):
        """Sign a request, and return the principal for which the gate lets it pass."""
        # The signature in a URL covers no body, and botocore would add the body to the query.
        signed = b"" if issubclass(signer, SigV4QueryAuth) else body
        request = AWSRequest(method=method, url=HOST + path, data=signed)
        signer(key.for_botocore(), service, region).add_auth(request)
        parts = urlsplit(request.url)
        headers = {name.lower(): value for name, value in request.headers.items()} | {"host": parts.netloc}
        headers |= {"content-length": str(len(body))} if body else {}
        admission = self.gate.admit(method, f"{parts.path}?{parts.query}", headers)
        assert admission.refusal is None
        found, principal, content = self.gate.receive(admission, io.BytesIO(body))
        assert (found.service, content.read()) == (service, body)
        return principal


def passing(environ, start_response):
    """Answer GetCallerIdentity."""
    start_response("200 OK", [("Content-Type", "text/xml")])
    return [b"<GetCallerIdentityResponse><GetCallerIdentityResult/></GetCallerIdentityResponse>"]


@pytest.mark.parametrize(("signer", "service", "method", "path", "body", "code"), SIGNED.values(), ids=SIGNED)
def test_key_is_accepted_until_it_expires(signer, service, method, path, body, code):
    gate = SessionGate()
    gate.now = EXPIRES - 1
    assert gate.receive(signer, service, method, path, body) == ROLE
    gate.now = EXPIRES
    with pytest.raises(ServiceError, match="security token included in the request is expired") as refused:
        gate.receive(signer, service, method, path, body)
    assert (refused.value.code, refused.value.status) == (code, 403)
    assert gate.receive(signer, service, method, path, body, key=OWNER) is None


def test_expired_key_is_refused_before_errors_in_the_request():
    gate = SessionGate()
    wrong = {
        "signer": SigV4Auth,
        "service": "sts",
        "method": "GET",
        "path": IDENTITY,
        "body": b"",
        "region": "eu-west-1",
    }
    with pytest.raises(ServiceError, match="has the region us-east-1 only"):
        gate.receive(**wrong)
    gate.now = EXPIRES
    with pytest.raises(ServiceError, match="is expired"):
        gate.receive(**wrong)


def test_key_that_expires_during_an_operation_on_a_stack_ends_its_calls():
    gate = SessionGate()
    calls = InProcessServices(passing, gate.gate, gate.keys.find).calls_of(SESSION.access_key)
    assert "ResponseMetadata" in calls.call("sts", "GetCallerIdentity", {})
    gate.now = EXPIRES
    with pytest.raises(ServiceError, match="is expired") as refused:
        calls.call("sts", "GetCallerIdentity", {})
    assert refused.value.code == "ExpiredToken"
