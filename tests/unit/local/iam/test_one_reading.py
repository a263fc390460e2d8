"""A request has one reading: operation, resource and arguments are in one place, or the request is refused."""

import io
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudknot.local.directory.state import REGION
from cloudknot.local.iam.requests.received import read_request
from cloudknot.local.iam.signing import Request, SignedClaim
from cloudknot.local.wsgi import ServiceError

PIECES = st.sampled_from(
    [
        *("mine", "theirs", "secret", "/", "//", "..", "%2F", "%2e", "%0A", "%20", "%25", "%3F", "%C3%A9", "%ff", "%"),
        *("?", "&", "=", "+", ";", ":", "@", "#", "\\", "acl", "acl=", "tagging", "list-type=2", "prefix=a", "delete"),
        *("uploadId=1", "uploadId=", "partNumber=1", "versionId=v", "uploads", "requestPayment", "max-keys=5", "x"),
    ]
)
TEXTS = st.lists(PIECES, max_size=6).map("".join)
ACTIONS = {
    "ec2": ["DescribeVpcs", "CreateVpc", "Create_vpc"],
    "iam": ["ListRoles", "CreateUser", "createUser"],
    "sts": ["GetCallerIdentity", "AssumeRole", "CreateUser"],
}
FIELDS = st.sampled_from(
    [
        *("", "", "", "UserName=a+b", "RoleName=r", "UserName=%C3%A9", "UserName=", "CidrBlock=10.0.0.0%2F16"),
        *("Filter.1.Name=n", "Action=ListRoles", "%41ction=CreateVpc", "RoleArn=arn%3Aaws", "Version=2010-05-08"),
    ]
)


def forms(service):
    """Return forms for a service, most of them with one action."""
    action = st.sampled_from(ACTIONS.get(service, ["ListRoles"])).map("Action={}".format)
    return st.tuples(action, FIELDS, FIELDS).map(lambda parts: "&".join(filter(None, parts)))


MEMBERS = {
    "ecr": ['"repositoryName": "mine"', '"repositoryName": "theirs"', '"force": true', '"force": 1'],
    "logs": ['"logGroupName": "g"', '"logStreamName": "\\u00e9"', '"logEvents": []', '"logGroupName": 1'],
    "batch": ['"jobs": ["a"]', '"jobName": "j"', '"jobQueue": "q"', '"tags": {"a": "b"}', '"tags": "a"'],
}


def objects(service):
    """Return JSON objects for a service."""
    return st.lists(st.sampled_from(MEMBERS[service]), max_size=2).map(lambda members: "{" + ", ".join(members) + "}")


PATHS = ["/v1/describejobs", "/v1/submitjob", "/v1/tags/arn%3Aaws%2Fx", "/v1/tags/a?tagKeys=b", "/v1/describejobs/"]
TARGETS = {
    "ecr": "AmazonEC2ContainerRegistry_V20150921.DeleteRepository",
    "logs": "Logs_20140328.PutLogEvents",
}
HEADERS = {
    "x-amz-copy-source": TEXTS,
    "content-type": st.sampled_from(
        ["application/x-www-form-urlencoded", "application/json", "multipart/form-data; boundary=b"]
    ),
    "content-encoding": st.just("gzip"),
    "user-agent": st.just("x region/eu-west-1"),
    "action": st.just("CreateVpc"),
    "x-forwarded-host": st.just("theirs.s3.amazonaws.com"),
}
SERVICES = ["s3", "batch", "ec2", "iam", "sts", "ecr", "logs"]


KEY = "AKIA" + 16 * "A"


@st.composite
def requests(draw, services=SERVICES):
    """Draw a service and a request that is signed for it. About half of them have no more than one reading."""
    service = draw(st.sampled_from(services))
    headers = draw(st.fixed_dictionaries({}, optional=HEADERS))
    target = TARGETS.get(draw(st.sampled_from([service] * 4 + SERVICES)))
    headers |= {"x-amz-target": target} if target else {}
    method, body = "POST", ""
    if service == "s3":
        method, uri = (
            draw(st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD"])),
            draw(TEXTS.map("/mine{}".format)),
        )
    elif service == "batch":
        method, uri = draw(st.sampled_from(["POST", "POST", "GET", "DELETE"])), draw(st.sampled_from(PATHS))
    else:
        uri = draw(st.one_of(st.just("/"), st.just("/"), forms(service).map("/?{}".format), TEXTS.map("/{}".format)))
    if service != "s3" and draw(st.integers(0, 3)):
        body = draw(objects(service) if service in MEMBERS else forms(service))
    headers["content-length"] = str(len(body))
    return service, Request(method, uri, headers, io.BytesIO(body.encode()))


def read(service, request):
    """Return the request after its one reading, or None if it is refused."""
    try:
        return read_request(request, SignedClaim(KEY, "20260101", REGION, service, ("host",), "", None))
    except ServiceError:
        return None


@pytest.mark.parametrize("service", SERVICES)
def test_generator_makes_requests_that_are_read_and_others(service):
    """The properties above would hold for nothing if every request were refused."""
    counts = Counter()

    @given(requests([service]))
    def count(drawn):
        counts[read(*drawn) is not None] += 1

    count()
    assert counts[True] >= 3
    assert counts[False] >= 3


@pytest.mark.parametrize(
    ("method", "uri", "body", "arguments"),
    [
        ("POST", "/v1/describejobs", '{"jobs": ["a"]}', {"jobs": ["a"]}),
        ("GET", "/v1/tags/arn%3Aaws%2Fx", "", {"resourceArn": "arn:aws/x"}),
        ("DELETE", "/v1/tags/a?tagKeys=b%26&tagKeys=c", "", {"resourceArn": "a", "tagKeys": ["b&", "c"]}),
        ("POST", "/v1/tags/a", '{"tags": {"b": "c"}}', {"resourceArn": "a", "tags": {"b": "c"}}),
        ("POST", "/v1/tags/a", '{"tags": {"b": "c"}, "resourceArn": "d"}', None),
        ("DELETE", "/v1/tags/a?tagKeys=b", '{"tagKeys": ["c"]}', None),
        ("DELETE", "/v1/tags/a?tagkeys=b", "", None),
        ("GET", "/v1/tags/a/b", "", None),
        ("GET", "/v1/describejobs", "", None),
        ("POST", "/v1/describejobs?jobs=a", "", None),
        ("POST", "/v1/DescribeJobs", "", None),
    ],
)
def test_arguments_of_batch_come_from_path_query_and_body(method, uri, body, arguments):
    """An argument has one place only, so that no second value can hide in another one."""
    headers = {"content-length": str(len(body))}
    found = read("batch", Request(method, uri, headers, io.BytesIO(body.encode())))
    assert (found and found.target.arguments) == arguments
