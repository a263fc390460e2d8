"""Attacks on the embedded cloud with the credentials of a job: requests that two readers may understand differently.

Each attack makes one request. A gate that reads it in one way and a service that reads it in another would let the
job do more than its policies allow.
"""

import gzip
import json
from dataclasses import dataclass
from urllib.parse import quote

from tests.helpers.raw_requests import FORM, JSON, raw

SECRET = b"the-secret-of-somebody-else"
POLICY = [
    {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": "arn:aws:s3:::mine/*"},
    {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::mine"},
    # Harmless rights in the bucket of somebody else. None of them reads, stores or deletes an object.
    {
        "Effect": "Allow",
        "Action": ["s3:GetObjectRetention", "s3:ListMultipartUploadParts", "s3:GetObjectAcl", "s3:PutObjectAcl"],
        "Resource": "arn:aws:s3:::theirs/*",
    },
    {
        "Effect": "Allow",
        "Action": ["s3:GetBucketRequestPayment", "s3:PutBucketNotification", "s3:GetBucketLocation"],
        "Resource": "arn:aws:s3:::theirs",
    },
    {"Effect": "Allow", "Action": ["ecr:*", "logs:*"], "Resource": ["arn:aws:ecr:*:*:repository/mine"]},
    {"Effect": "Allow", "Action": "logs:*", "Resource": "arn:aws:logs:*:*:log-group:mine:*"},
    {"Effect": "Allow", "Action": "iam:*", "Resource": "arn:aws:iam::*:role/mine"},
    {"Effect": "Allow", "Action": "ec2:*", "Resource": "*"},
    {"Effect": "Deny", "Action": "ec2:CreateVpc", "Resource": "*"},
    {"Effect": "Allow", "Action": "batch:TagResource", "Resource": "*"},
]
"""The rights of the job in these attacks."""
SUBMISSION = json.dumps({"jobName": "attack", "jobQueue": "queue", "jobDefinition": "definition"}).encode()
STOLEN, PLANTED = "/theirs/secret", "/theirs/planted"
LIST_KEYS = "/theirs?list-type=2"
IDENTITY = "Action=GetCallerIdentity&Version=2011-06-15"
CREATE_VPC = "Action=CreateVpc&Version=2016-11-15&CidrBlock=10.0.0.0/16"
DELETE_THEIRS = b"<Delete><Object><Key>secret</Key></Object></Delete>"
GROWING = b"".join(
    [
        b'<!DOCTYPE Delete [<!ENTITY e0 "k">',
        *(b'<!ENTITY e%d "%s">' % (level, b"&e%d;" % (level - 1) * 10) for level in range(1, 10)),
        b"]><Delete><Object><Key>&e9;</Key></Object></Delete>",
    ]
)
"""A kilobyte of XML for a key of a gigabyte."""
TAIL = ", X=/s3/aws4_request"


@dataclass(frozen=True)
class Attack:
    """A named attack. ``make`` returns the bytes of the request for a `Key`."""

    name: str
    make: object

    def __str__(self):
        return self.name


ATTACKS = []


def attack(name, make):
    ATTACKS.append(Attack(name, make))


def requests(name, *arguments, **choices):
    """Add an attack with one signed request."""
    attack(name, lambda key: key.request(*arguments, **choices))


def multipart(**fields):
    """Return the body of a browser's form with parts."""
    parts = (
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()
    )
    return "".join([*parts, "--b--\r\n"]).encode()


def posts(name, service, body, *headers, uri="/", **choices):
    """Add an attack with one signed form or JSON object."""
    requests(
        name,
        "POST",
        uri,
        *headers,
        body=body if isinstance(body, bytes) else body.encode(),
        service=service,
        **choices,
    )


# The service in the signature, in other places of the header, in the path and in the query.
for method, uri, body in (
    ("GET", STOLEN, b""),
    ("PUT", PLANTED, b"x"),
    ("GET", LIST_KEYS, b""),
    ("DELETE", STOLEN, b""),
):
    target = f"{uri}{'&' if '?' in uri else '?'}{IDENTITY}"
    requests(
        f"sts signature with a tail for s3: {method} {uri}", method, target, body=body, service="sts", suffix=TAIL
    )
    requests(f"sts signature with an action: {method} {uri}", method, target, body=body, service="sts")
    requests(f"sts signature: {method} {uri}", method, uri, body=body, service="sts")
    requests(
        f"s3 signature with a tail for sts: {method} {uri}", method, uri, body=body, suffix=", X=/sts/aws4_request"
    )
requests(
    "s3 bucket read by an ec2 signature with a tail",
    "GET",
    f"{STOLEN}?Action=DescribeVpcs",
    service="ec2",
    suffix=TAIL,
)
requests("service in upper case", "GET", STOLEN, service="S3")
requests("service s3express", "GET", LIST_KEYS, service="s3express")
requests("service s3-object-lambda", "POST", "/", ("X-Amz-Target", "S3.ListBuckets"), JSON, body=b"{}", service="s3")
requests(
    "service s3express with a target", "POST", "/", ("X-Amz-Target", "S3.List"), JSON, body=b"{}", service="s3express"
)
requests("empty service", "GET", STOLEN, service="")
requests("service with dots", "GET", STOLEN, service="s3.us-east-1")
requests("service of S3 Control", "GET", f"/v20180820{STOLEN}")
requests("another region", "GET", STOLEN, region="eu-west-1")
requests("own bucket in another region", "GET", "/mine/k", region="eu-west-1")
requests("owner's route with an s3 signature", "GET", "/_cloudknot/status")
requests("owner's route with an sts signature", "POST", f"/_cloudknot/stop?{IDENTITY}", service="sts")
requests("owner's route by two slashes", "POST", f"//_cloudknot/stop?{IDENTITY}", service="sts")
requests("route of moto", "POST", f"/moto-api/reset?{IDENTITY}", service="sts")
requests("route of moto with an s3 signature", "POST", "/moto-api/reset")
requests("route of instance metadata", "GET", f"/latest/meta-data/iam?{IDENTITY}", service="sts")
for operation, body in (("submitjob", SUBMISSION), ("SubmitJob", SUBMISSION), ("createjobqueue", b"{}")):
    posts(f"sts action on /v1/{operation}", "sts", body, uri=f"/v1/{operation}?{IDENTITY}")
    posts(f"ec2 action on /v1/{operation}", "ec2", body, uri=f"/v1/{operation}?Action=DescribeVpcs")
    posts(f"s3 signature on /v1/{operation}", "s3", body, uri=f"/v1/{operation}")
posts("batch path under the path of tags", "batch", SUBMISSION, uri="/v1/tags/../submitjob")
posts("batch path with an encoded slash", "batch", SUBMISSION, uri="/v1%2Fsubmitjob")
posts("batch path with an encoded letter", "batch", SUBMISSION, uri="/v1/submi%74job")
posts("batch path with a slash at the end", "batch", SUBMISSION, uri="/v1/submitjob/")
posts("batch path with a query", "batch", SUBMISSION, uri="/v1/submitjob?Action=TagResource")
posts("batch path with a target", "batch", SUBMISSION, ("X-Amz-Target", "Batch.TagResource"), uri="/v1/submitjob")
posts("batch path after other characters", "batch", SUBMISSION, uri="/x/v1/submitjob")
posts("batch object with a repeated member", "batch", SUBMISSION[:-1] + b', "jobQueue": "mine"}', uri="/v1/submitjob")

# The action of a query service: in the body, in the query, twice, in another spelling, in a header.
posts("two actions in one body", "ec2", f"Action=DescribeVpcs&{CREATE_VPC}", FORM)
posts("two actions in one body, in the other order", "ec2", f"{CREATE_VPC}&Action=DescribeVpcs", FORM)
posts("action in query and body", "ec2", CREATE_VPC, FORM, uri="/?Action=DescribeVpcs")
posts("arguments in query and body", "ec2", "CidrBlock=10.0.0.0/16", FORM, uri="/?Action=CreateVpc")
posts("action in another spelling", "ec2", CREATE_VPC.replace("CreateVpc", "Create_vpc"), FORM)
posts("action in lower case", "ec2", CREATE_VPC.replace("CreateVpc", "createVpc"), FORM)
posts("action with spaces", "ec2", CREATE_VPC.replace("CreateVpc", "+CreateVpc"), FORM)
posts("action in an encoded name", "ec2", f"Action=DescribeVpcs&{CREATE_VPC.replace('Action', '%41ction')}", FORM)
posts("action in a header", "ec2", "CidrBlock=10.0.0.0/16", ("Action", "CreateVpc"), FORM)
posts("action in the target", "ec2", "CidrBlock=10.0.0.0/16", ("X-Amz-Target", "Ec2.CreateVpc"), FORM)
posts("action and target", "ec2", "Action=DescribeVpcs&CidrBlock=10.0.0.0/16", ("X-Amz-Target", "Ec2.CreateVpc"), JSON)
posts(
    "compressed body",
    "ec2",
    gzip.compress(CREATE_VPC.encode()),
    ("Content-Encoding", "gzip"),
    FORM,
    uri="/?Action=DescribeVpcs",
)
posts(
    "form with parts",
    "ec2",
    multipart(Action="CreateVpc", CidrBlock="10.0.0.0/16"),
    ("Content-Type", "multipart/form-data; boundary=b"),
    uri="/?Action=DescribeVpcs",
)
posts("action on a path", "ec2", CREATE_VPC, FORM, uri="/theirs/secret")
posts("another service's action", "sts", "Action=CreateUser&UserName=intruder", FORM)
posts("user's action on a named role", "iam", "Action=CreateUser&UserName=intruder&RoleName=mine", FORM)
posts("argument of another operation", "iam", "Action=DeleteUser&UserName=victim&RoleName=mine", FORM)

# The target of a JSON service.
REPOSITORY = b'{"repositoryName": "theirs", "force": true, "repositoryNames": ["mine"]}'
ECR = "AmazonEC2ContainerRegistry_V20150921"
DELETION = ("X-Amz-Target", f"{ECR}.DeleteRepository")
posts("list argument of another operation", "ecr", REPOSITORY, DELETION, JSON)
posts(
    "resource of another operation",
    "ecr",
    b'{"repositoryName": "theirs", "resourceArn": "arn:aws:ecr:us-east-1:123456789012:repository/mine"}',
    DELETION,
    JSON,
)
posts("name that is a list", "ecr", b'{"repositoryName": ["theirs"], "force": true}', DELETION, JSON)
posts(
    "repeated member", "ecr", b'{"repositoryName": "mine", "repositoryName": "theirs", "force": true}', DELETION, JSON
)
posts(
    "repeated member, in the other order",
    "ecr",
    b'{"repositoryName": "theirs", "repositoryName": "mine", "force": true}',
    DELETION,
    JSON,
)
posts(
    "target of another service",
    "ecr",
    b'{"logGroupName": "theirs"}',
    ("X-Amz-Target", "Logs_20140328.DeleteLogGroup"),
    JSON,
)
posts(
    "target of another service for a JSON signature",
    "logs",
    b'{"repositoryName": "theirs", "force": true}',
    DELETION,
    JSON,
)
posts(
    "target with an action in the query",
    "ecr",
    b'{"repositoryName": "theirs", "force": true}',
    ("X-Amz-Target", f"{ECR}.DescribeRepositories"),
    JSON,
    uri="/?Action=DeleteRepository",
)
posts(
    "arguments in the query",
    "ecr",
    b'{"repositoryName": "mine"}',
    DELETION,
    JSON,
    uri="/?repositoryName=theirs&force=true",
)
posts(
    "two targets",
    "ecr",
    b'{"repositoryName": "theirs", "force": true}',
    ("X-Amz-Target", f"{ECR}.ListImages"),
    DELETION,
    JSON,
)

# Objects and buckets: other spellings of the path, arguments that only one side knows.
for name, uri in {
    "two slashes": "//theirs/secret",
    "encoded slash": "/theirs%2Fsecret",
    "slash encoded twice": "/theirs%252Fsecret",
    "encoded slash of another bucket": "/mine%2F..%2Ftheirs/secret",
    "parent folder": "/mine/../theirs/secret",
    "encoded parent folder": "/mine/%2e%2e/theirs/secret",
    "encoded letter of the bucket": "/%74heirs/secret",
    "absolute URI": "http://theirs.s3.amazonaws.com/secret",
    "absolute URI with another path": "http://127.0.0.1/theirs/secret",
    "fragment": "/theirs/secret#/mine/k",
    "fragment before the path": "/mine/k#/../../theirs/secret",
    "backslash": "/mine\\..\\theirs/secret",
    "bucket as a parameter": "/theirs;/mine/secret",
    "zero byte": "/theirs/secret%00",
    "bytes that are no text": "/mine/%ff",
    "incomplete escape": "/mine/%f",
}.items():
    requests(f"path with {name}", "GET", uri)
for query in (
    "retention",
    "uploadId=",
    "uploadId=&acl",
    "acl&tagging",
    "acl&uploadId=1",
    "acl&acl",
    "torrent",
    "x-id=GetObjectAcl&attributes",
):
    requests(f"read of an object with ?{query}", "GET", f"{STOLEN}?{query}")
requests("head of an object with ?acl", "HEAD", f"{STOLEN}?acl")
for query in (
    "requestPayment",
    "location&list-type=2",
    "location=&versions",
    "list-type=2&requestPayment",
    "LOCATION",
    "%6cocation&list-type=2",
):
    requests(f"read of a bucket with ?{query}", "GET", f"/theirs?{query}")
requests("deletion of a bucket with ?notification", "DELETE", "/empty?notification")
requests(
    "bucket posted to",
    "POST",
    "/theirs",
    ("Content-Type", "multipart/form-data; boundary=b"),
    body=multipart(key="planted", file="x"),
)
requests(
    "object stored with ?acl and a copy source", "PUT", f"{PLANTED}?acl&tagging", ("X-Amz-Copy-Source", "/mine/k")
)
requests("copy from another bucket", "PUT", "/mine/stolen", ("X-Amz-Copy-Source", "/theirs/secret"))
requests("copy with an encoded source", "PUT", "/mine/stolen", ("X-Amz-Copy-Source", "mine%2F..%2F..%2Ftheirs/secret"))
requests("copy with a source by two slashes", "PUT", "/mine/stolen", ("X-Amz-Copy-Source", "//theirs/secret"))
requests(
    "copy with two sources",
    "PUT",
    "/mine/stolen",
    ("X-Amz-Copy-Source", "/mine/k"),
    ("X-Amz-Copy-Source", "/theirs/secret"),
)
requests(
    "copy of an access point",
    "PUT",
    "/mine/stolen",
    ("X-Amz-Copy-Source", "arn:aws:s3:us-east-1:1:accesspoint/theirs/object/secret"),
)
requests(
    "method in a header",
    "GET",
    "/mine/k",
    ("X-HTTP-Method-Override", "DELETE"),
    ("X-Amz-Copy-Source", "/theirs/secret"),
)
requests("deletion of several keys in another bucket", "POST", "/theirs?delete", body=DELETE_THEIRS)
requests(
    "deletion of keys with other elements",
    "POST",
    "/mine?delete",
    body=b"<Delete><Objects><Object><Key>k</Key></Object></Objects><Object><key>k</key></Object></Delete>",
)
requests(
    "copy of a part from another bucket",
    "PUT",
    "/mine/k?partNumber=1&uploadId=u",
    ("X-Amz-Copy-Source", "/theirs/secret"),
)
requests("key of more than 1,024 bytes", "PUT", f"/mine/{'k' * 1025}", body=b"x")
requests("token of a page that is no text", "GET", "/mine?list-type=2&continuation-token=////")
requests("expected owner that is no account", "GET", "/mine/k", ("X-Amz-Expected-Bucket-Owner", "1"))
requests("expected owner that is another account", "GET", "/mine/k", ("X-Amz-Expected-Bucket-Owner", "9" * 12))
requests("list of keys that grows while it is parsed", "POST", "/mine?delete", body=GROWING)
for configuration in ("website", "replication", "object-lock", "analytics&id=x", "renameObject"):
    requests(f"operation that is not implemented: ?{configuration}", "PUT", f"/mine/k?{configuration}", body=b"x")
for host in (
    "theirs.localhost",
    "theirs.127.0.0.1",
    "theirs.s3.amazonaws.com",
    "s3.amazonaws.com",
    "evil.example",
    "127.0.0.1.evil.example",
    "127.0.0.1@evil.example",
    "0.0.0.0",
    "[::2]",
    "localhost.evil.example",
):
    attack(
        f"host {host}",
        lambda key, host=host: key.request(
            "GET", "/secret" if host.startswith("theirs") else "/mine/k", host=f"{host}:{key.host.partition(':')[2]}"
        ),
    )

# Signatures.
attack("query and header with a signature", lambda key: key.request("GET", key.presigned("GET", "/mine/k")))
attack(
    "header of another service with a signed query",
    lambda key: key.request("GET", key.presigned("GET", f"{STOLEN}?{IDENTITY}"), service="sts"),
)
attack(
    "signed query for sts on a bucket",
    lambda key: raw("GET", key.presigned("GET", f"{STOLEN}?{IDENTITY}", service="sts"), ("Host", key.host))(),
)
attack(
    "signed query with two credentials",
    lambda key: raw(
        "GET",
        key.presigned(
            "GET",
            f"/mine/k?X-Amz-Credential={quote(key.access_key + '/20260101/us-east-1/sts/aws4_request', safe='')}",
        ),
        ("Host", key.host),
    )(),
)
requests("two credentials in a header", "GET", STOLEN, suffix=", Credential=AKIA/20260101/us-east-1/sts/aws4_request")
requests(
    "two headers with a signature",
    "GET",
    "/mine/k",
    (
        "Authorization",
        "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0",
    ),
)
requests("empty token in the query", "GET", "/mine/k?X-Amz-Security-Token=")
attack(
    "empty token in a signed query",
    lambda key: raw("GET", key.presigned("GET", "/mine/k?X-Amz-Security-Token="), ("Host", key.host))(),
)
attack(
    "empty token without a signature", lambda key: raw("GET", "/mine/k?X-Amz-Security-Token=", ("Host", key.host))()
)
attack(
    "token in header and query",
    lambda key: key.request("GET", f"/mine/k?X-Amz-Security-Token={quote(key.token, safe='')}"),
)
attack("no host", lambda key: raw("GET", "/mine/k", *key.signed("GET", "/mine/k")[1:])())
attack("two hosts", lambda key: key.request("GET", "/mine/k", ("Host", "evil.example")))
attack("two lengths", lambda key: key.request("PUT", "/mine/two", ("Content-Length", "1"), body=b"xy"))
attack(
    "length and chunks",
    lambda key: key.request("PUT", "/mine/chunks", ("Transfer-Encoding", "chunked"), body=b"1\r\nx\r\n0\r\n\r\n"),
)
attack(
    "chunks",
    lambda key: key.request(
        "PUT", "/mine/chunks", ("Transfer-Encoding", "chunked"), body=b"1\r\nx\r\n0\r\n\r\n", length=False
    ),
)
attack(
    "folded header", lambda key: key.request("GET", "/mine/k").replace(b"\r\nConnection", b"\r\n folded\r\nConnection")
)
attack(
    "unsigned x-amz header",
    lambda key: key.request("PUT", "/mine/copy").replace(
        b"\r\nConnection", b"\r\nX-Amz-Copy-Source: /mine/k\r\nConnection"
    ),
)
