"""`Door` translates AWS's errors into cloudknot's, with a cause and a fix.

Real boto3 clients call a fake server that refuses every request in the format of the AWS service.
"""

import contextlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import cloudknot as ck
from cloudknot.aws.door import Door
from cloudknot.aws.error_table import translate
from cloudknot.local import wsgi

KEYS = {"aws_access_key_id": "AKIA", "aws_secret_access_key": "secret"}
CALLS = {
    "s3": ("create_bucket", {"Bucket": "data"}),
    "ec2": ("create_vpc", {"CidrBlock": "10.0.0.0/16"}),
    "iam": ("list_roles", {}),
    "batch": ("describe_jobs", {"jobs": ["a"]}),
    "sts": ("get_caller_identity", {}),
    "cloudformation": ("describe_stacks", {}),
    "ecr": ("get_authorization_token", {}),
}


@contextlib.contextmanager
def refusing_server(service, status, code, message):
    """Yield the address of a server that refuses every request in the format of the service."""
    kind, body = wsgi.error_body(service, wsgi.ServiceError(code, message, status))

    class Refuse(BaseHTTPRequestHandler):
        def answer(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            for name, value in (("Content-Type", kind), ("Content-Length", len(body)), ("x-amzn-ErrorType", code)):
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = answer  # noqa: N815 - as http.server has them

        def log_message(self, *arguments):
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuse)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def error_for(service, status, code, message="as AWS words it"):
    """Return the error that a call raises when AWS answers with this status, code and message."""
    with refusing_server(service, status, code, message) as endpoint:
        door = Door({"region_name": "us-east-1", **KEYS}, endpoint, isolated=True)
        operation, arguments = CALLS[service]
        with pytest.raises(ck.CloudknotError) as caught:
            door.call(service, operation, **arguments)
    # Not its cause: Python would print a hundred lines of botocore before the message.
    assert (caught.value.__cause__, caught.value.__context__ is None) == (None, False)
    return caught.value


EXPIRED = "Signature expired: 20261124T060000Z is now earlier than 20261124T061500Z (20261124T063000Z - 15 min.)"
EARLY = "Signature not yet current: 20261124T080000Z is still later than 20261124T063000Z (20261124T064500Z + 15 min.)"


@pytest.mark.parametrize(
    ("service", "status", "code", "message", "kind", "pattern"),
    [
        ("s3", 403, "RequestTimeTooSkewed", "The difference is too large.", ck.ClockSkewError, "clock.*set-ntp"),
        ("batch", 403, "InvalidSignatureException", EXPIRED, ck.ClockSkewError, "clock of this machine"),
        ("sts", 403, "SignatureDoesNotMatch", EARLY, ck.ClockSkewError, "not yet current"),
        ("ec2", 400, "RequestExpired", "Request has expired.", ck.ClockSkewError, "clock"),
        ("s3", 403, "SignatureDoesNotMatch", "Check your key.", ck.CredentialsError, "Check your key"),
        ("sts", 403, "ExpiredToken", "The security token is expired", ck.CredentialsError, "aws sso login"),
        ("batch", 403, "ExpiredTokenException", "expired", ck.CredentialsError, "already submitted keep running"),
        ("sts", 403, "InvalidClientTokenId", "invalid", ck.CredentialsError, "get-caller-identity"),
        ("ec2", 401, "AuthFailure", "not able to validate", ck.CredentialsError, "AuthFailure"),
        ("ec2", 401, "OptInRequired", "You are not subscribed", ck.RegionException, "not switched on"),
        ("ec2", 400, "VpcLimitExceeded", "maximum of 5", ck.QuotaExceededError, "Service Quotas.*maximum of 5"),
        ("iam", 409, "LimitExceeded", "1000 roles", ck.QuotaExceededError, "cloudknot list"),
        ("cloudformation", 400, "LimitExceededException", "2000", ck.QuotaExceededError, "ask AWS for a higher limit"),
        ("s3", 400, "TooManyBuckets", "100 buckets", ck.QuotaExceededError, "100 buckets"),
        ("s3", 409, "BucketAlreadyExists", "taken", ck.ResourceExistsException, "taken"),
        (
            "ecr",
            400,
            "AccessDeniedException",
            "no",
            ck.PermissionDeniedError,
            "do not allow ecr:get_authorization_token",
        ),
    ],
)
def test_answer_of_aws_becomes_error_with_its_cause(service, status, code, message, kind, pattern):
    error = error_for(service, status, code, message)
    assert type(error) is kind
    assert message in str(error)
    with pytest.raises(kind, match=f"(?s){pattern}"):
        raise error


def test_throttling_error_names_its_code_and_operation():
    from botocore.exceptions import ClientError

    refused = ClientError({"Error": {"Code": "TooManyRequestsException", "Message": "Rate exceeded"}}, "SubmitJob")
    error = translate(refused, "batch:submit_job")
    assert "AWS received too many" in str(error)
    assert (error.code, error.operation) == ("TooManyRequestsException", "batch:submit_job")


@pytest.mark.parametrize("code", ["AccessDenied", "403"])
@pytest.mark.parametrize(
    ("service", "operation", "hints"), [("s3", "put_object", True), ("batch", "list_jobs", False)]
)
def test_denial_of_s3_over_plain_http_names_demand_for_tls(service, operation, hints, code):
    from botocore.exceptions import ClientError

    refused = ClientError({"Error": {"Code": code, "Message": "Access Denied"}}, operation)
    for endpoint, is_plain in (("http://store.lab:9000", True), ("https://store.lab", False), ("", False)):
        error = translate(refused, f"{service}:{operation}", endpoint=endpoint)
        assert isinstance(error, ck.PermissionDeniedError)
        assert (f"endpoint {endpoint} has none. Use an endpoint that begins with https://" in str(error)) == (
            hints and is_plain
        )


@pytest.mark.parametrize("isolated", [False, True])
def test_door_passes_its_endpoint_to_errors_except_that_of_embedded_cloud(isolated):
    with refusing_server("s3", 403, "AccessDenied", "Access Denied") as endpoint:
        door = Door({"region_name": "us-east-1", **KEYS}, endpoint, isolated=isolated)
        with pytest.raises(ck.PermissionDeniedError) as caught:
            door.call("s3", "create_bucket", Bucket="data")
    assert (endpoint in str(caught.value)) is not isolated


@pytest.mark.parametrize(("region", "hints"), [("us-east-1", False), ("af-south-1", True), ("cn-north-1", False)])
def test_unknown_key_error_suggests_enabling_opt_in_region(region, hints):
    from botocore.exceptions import ClientError

    refused = ClientError({"Error": {"Code": "UnrecognizedClientException", "Message": "invalid"}}, "DescribeJobs")
    error = translate(refused, "batch:describe_jobs", region=region)
    assert isinstance(error, ck.CredentialsError)
    assert (f"enable-region --region-name {region}" in str(error)) is hints


def test_error_for_misspelt_region_lists_near_matches():
    from botocore.exceptions import EndpointConnectionError

    unreachable = EndpointConnectionError(endpoint_url="https://batch.us-esat-1.amazonaws.com/")
    error = translate(unreachable, "batch:describe_jobs", region="us-esat-1")
    assert isinstance(error, ck.RegionException)
    assert "us-east-1" in str(error)
    network = translate(unreachable, "batch:describe_jobs", region="us-east-1")
    assert not isinstance(network, ck.RegionException)
    assert "Check the network" in str(network)


def test_error_without_network_advises_to_check_network():
    # A socket that does not listen refuses connections, and keeps its port from other programs.
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        door = Door({"region_name": "us-east-1", **KEYS}, f"http://127.0.0.1:{silent.getsockname()[1]}", isolated=True)
        with pytest.raises(ck.CloudError, match=r"sts:get_caller_identity got no answer.*Check the network"):
            door.call("sts", "get_caller_identity")


KEY_LINES = "aws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = x\n"
ROLE_LINES = "role_arn = arn:aws:iam::123456789012:role/lab\n"


@pytest.mark.parametrize(
    ("config", "variables", "kind", "named"),
    [
        (KEY_LINES, {"AWS_DEFAULT_REGION": " eu-west-1 "}, ck.RegionException, "Near matches: eu-west-1"),
        (f'{KEY_LINES}region = "eu-west-1"\n', {}, ck.RegionException, "Near matches: eu-west-1"),
        (
            "aws_access_key_id = AKIA\naws_secret_access_key =\n",
            {},
            ck.CredentialsError,
            "secret_access_key is missing",
        ),
        ("aws_access_key_id =\naws_secret_access_key = x\n", {}, ck.CredentialsError, "access_key_id is missing"),
        ("credential_process = /no/such/tool\n", {}, ck.CloudknotConfigurationError, "/no/such/tool"),
        ("credential_process = echo hi\n", {}, ck.CloudknotConfigurationError, "aws configure list"),
        (f"{ROLE_LINES}credential_source = Moon\n", {}, ck.CloudknotConfigurationError, "Moon"),
        (f"{ROLE_LINES}source_profile = absent\n", {}, ck.CloudknotConfigurationError, "absent"),
        (f"{ROLE_LINES}web_identity_token_file = /no/token\n", {}, ck.CloudknotConfigurationError, "/no/token"),
        ("sso_session = lab\n", {}, ck.CloudknotConfigurationError, "lab"),
        (KEY_LINES, {"AWS_ENDPOINT_URL": "localhost:4566"}, ck.CloudknotConfigurationError, "localhost:4566"),
        (KEY_LINES, {"AWS_ENDPOINT_URL": "http://127.0.0.1:99999"}, ck.CloudknotConfigurationError, "0 to 65535"),
        (KEY_LINES, {"AWS_ENDPOINT_URL_STS": "ftp://lab"}, ck.CloudknotConfigurationError, "ftp://lab"),
    ],
)
def test_unusable_setting_is_named_and_not_taken_for_a_network_fault(
    tmp_path, monkeypatch, config, variables, kind, named
):
    (tmp_path / "config").write_text(f"[default]\n{config}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for name, value in ({} if "region =" in config else {"AWS_DEFAULT_REGION": "us-east-1"} | variables).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(kind) as caught:
        Door({}).call("sts", "get_caller_identity")
    assert named in str(caught.value)
    assert "network" not in str(caught.value)


def test_error_without_sso_login_gives_login_command(tmp_path, monkeypatch):
    config = tmp_path / "config"
    config.write_text(
        "[profile lab]\nregion = us-east-1\nsso_session = lab\nsso_account_id = 123456789012\nsso_role_name = user\n"
        "[sso-session lab]\nsso_region = us-east-1\nsso_start_url = https://lab.example/start\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("HOME", str(tmp_path))
    door = Door({"region_name": "us-east-1", "profile_name": "lab"}, "http://127.0.0.1:9")
    with pytest.raises(ck.CredentialsError, match="aws sso login"):
        door.call("sts", "get_caller_identity")
