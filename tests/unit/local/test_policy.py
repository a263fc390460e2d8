"""Policies: what a statement covers, what wins, and that what is not understood lets nothing through."""

import io

import pytest

from cloudknot.local.iam.accesses import Names, accesses, s3_accesses
from cloudknot.local.iam.calls import Call, decode_call
from cloudknot.local.iam.policy import Access, decide, parse

RUNS = "arn:aws:s3:::b/cloudknot.jobs/*"
NAMES = Names("123456789012", "us-east-1", lambda kind, name: f"arn:aws:iam::123456789012:role/found/{name}")


def policy(*statements, effect="Allow"):
    return parse({"Version": "2012-10-17", "Statement": [{"Effect": effect, **one} for one in statements]})


def allowed(statements, action, resource="*", **context):
    keys = {name.replace("__", ":").lower(): value for name, value in context.items()}
    values = {name: value if isinstance(value, tuple) else (value,) for name, value in keys.items()}
    return decide(statements, Access(action, resource, values))


class TestDecision:
    def test_nothing_is_allowed_without_a_statement(self):
        assert allowed((), "s3:GetObject") == ""

    def test_action_and_resource_must_match(self):
        held = policy({"Action": ["s3:GetObject", "s3:List*"], "Resource": RUNS})
        assert allowed(held, "s3:GetObject", "arn:aws:s3:::b/cloudknot.jobs/k/r/inputs") == "allow"
        assert allowed(held, "S3:listany", "arn:aws:s3:::b/cloudknot.jobs/k") == "allow"
        assert allowed(held, "s3:PutObject", "arn:aws:s3:::b/cloudknot.jobs/k") == ""
        assert allowed(held, "s3:GetObject", "arn:aws:s3:::b/cloudknot.jobsx/k") == ""
        assert allowed(held, "s3:GetObject", "arn:aws:s3:::bb/cloudknot.jobs/k") == ""

    def test_a_statement_about_some_resources_does_not_cover_all(self):
        assert allowed(policy({"Action": "batch:ListJobs", "Resource": "arn:aws:batch:*"}), "batch:ListJobs") == ""
        assert allowed(policy({"Action": "*", "Resource": "*"}), "batch:ListJobs") == "allow"

    def test_a_denial_wins_in_any_order(self):
        both = {"Action": "s3:*", "Resource": "*"}
        for held in (policy(both) + policy(both, effect="Deny"), policy(both, effect="Deny") + policy(both)):
            assert allowed(held, "s3:GetObject", RUNS) == "deny"

    def test_what_is_not_meant(self):
        held = policy({"NotAction": "iam:*", "NotResource": "arn:aws:s3:::secret*"})
        assert allowed(held, "s3:GetObject", "arn:aws:s3:::open/k") == "allow"
        assert allowed(held, "s3:GetObject", "arn:aws:s3:::secret/k") == ""
        assert allowed(held, "iam:GetRole", "arn:aws:iam::1:role/r") == ""

    def test_a_question_mark_is_one_character_and_other_signs_are_themselves(self):
        held = policy({"Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/?.[a]"})
        assert allowed(held, "s3:GetObject", "arn:aws:s3:::b/x.[a]") == "allow"
        assert allowed(held, "s3:GetObject", "arn:aws:s3:::b/xx.[a]") == ""
        assert allowed(held, "s3:GetObject", "arn:aws:s3:::b/x.a") == ""

    def test_variables_stand_for_what_the_request_has(self):
        held = policy({"Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/${aws:username}/*"})
        assert allowed(held, "s3:GetObject", "arn:aws:s3:::b/ann/k", aws__username="ann") == "allow"
        assert allowed(held, "s3:GetObject", "arn:aws:s3:::b/bob/k", aws__username="ann") == ""
        assert allowed(held, "s3:GetObject", "arn:aws:s3:::b//k") == ""


class TestConditions:
    @pytest.mark.parametrize(
        ("operator", "wanted", "found", "holds"),
        [
            ("StringEquals", "a", "a", True),
            ("StringEquals", ["a", "b"], "b", True),
            ("StringEquals", "a*", "ab", False),
            ("StringEquals", "a", None, False),
            ("StringEqualsIfExists", "a", None, True),
            ("StringNotEquals", "a", "b", True),
            ("StringNotEquals", "a", "a", False),
            ("StringNotEquals", "a", None, True),
            ("StringLike", "cloudknot.jobs/*", "cloudknot.jobs/k/", True),
            ("StringLike", "cloudknot.jobs/*", "", False),
            ("StringNotLike", "x*", "y", True),
            ("StringEqualsIgnoreCase", "A", "a", True),
            ("ArnLike", "arn:aws:iam::*:role/x*", "arn:aws:iam::1:role/xy", True),
            ("Bool", "true", "true", True),
            ("Bool", True, "false", False),
            ("Null", "true", None, True),
            ("Null", "true", "there", False),
            ("Null", False, "there", True),
            ("NumericLessThanEquals", "10", "10", True),
            ("NumericLessThan", 10, "10", False),
            ("NumericEquals", "1", "one", False),
            ("ForAnyValue:StringEquals", "a", ("b", "a"), True),
            ("ForAllValues:StringEquals", ["a", "b"], ("b", "a"), True),
            ("ForAllValues:StringEquals", "a", ("b", "a"), False),
            ("ForAllValues:StringEquals", "a", None, True),
            ("NoSuchOperator", "a", "a", False),
        ],
    )
    def test_operators(self, operator, wanted, found, holds):
        held = policy({"Action": "*", "Resource": "*", "Condition": {operator: {"s3:Prefix": wanted}}})
        context = {} if found is None else {"s3__prefix": found}
        assert allowed(held, "s3:ListBucket", **context) == ("allow" if holds else "")

    def test_an_unknown_operator_does_not_lift_a_denial(self):
        every = {"Action": "*", "Resource": "*"}
        held = policy(every) + policy({**every, "Condition": {"IpAddress": {"a": "b"}}}, effect="Deny")
        assert allowed(held, "s3:GetObject") == "deny"

    def test_all_conditions_must_hold(self):
        both = {"StringEquals": {"a": "1", "b": "2"}}
        held = policy({"Action": "*", "Resource": "*", "Condition": both})
        assert allowed(held, "s3:GetObject", a="1", b="2") == "allow"
        assert allowed(held, "s3:GetObject", a="1", b="3") == ""


def needed(service, operation, **arguments):
    """``(action, resource)`` of everything that a call needs."""
    return [(one.action, one.resource) for one in accesses(Call(service, operation, arguments), NAMES, {})]


class TestAccesses:
    def test_a_submission_is_about_definition_and_queue(self):
        assert needed("batch", "SubmitJob", jobName="j", jobDefinition="d:3", jobQueue="q", tags={"a": "b"}) == [
            ("batch:SubmitJob", "arn:aws:batch:us-east-1:123456789012:job-definition/d:3"),
            ("batch:SubmitJob", "arn:aws:batch:us-east-1:123456789012:job-queue/q"),
            ("batch:TagResource", "arn:aws:batch:us-east-1:123456789012:job/*"),
        ]

    def test_giving_a_role_to_a_job_takes_more(self):
        container = {"jobRoleArn": "arn:aws:iam::1:role/r", "executionRoleArn": "e"}
        found = list(accesses(Call("batch", "RegisterJobDefinition", {"containerProperties": container}), NAMES, {}))
        passed = [(one.resource, one.context["iam:passedtoservice"]) for one in found if one.action == "iam:PassRole"]
        assert passed == [
            ("arn:aws:iam::1:role/r", ("ecs-tasks.amazonaws.com",)),
            ("arn:aws:iam::123456789012:role/e", ("ecs-tasks.amazonaws.com",)),
        ]

    def test_many_jobs_at_once_are_ended_one_by_one(self):
        assert needed("batch", "TerminateJobs", jobs=["a", "b:1"]) == [
            ("batch:TerminateJob", "arn:aws:batch:us-east-1:123456789012:job/a"),
            ("batch:TerminateJob", "arn:aws:batch:us-east-1:123456789012:job/b:1"),
        ]

    def test_a_role_is_known_by_its_path(self):
        assert needed("iam", "CreateRole", RoleName="r", Path="/cloudknot/")[0][1].endswith(":role/cloudknot/r")
        assert needed("iam", "DeleteRole", RoleName="r") == [
            ("iam:DeleteRole", "arn:aws:iam::123456789012:role/found/r")
        ]

    def test_tags_of_what_is_made_are_keys_of_conditions(self):
        form = {"TagSpecification.1.Tag.1.Key": "Lab", "TagSpecification.1.Tag.1.Value": "7", "VpcId": "vpc-1"}
        found = list(accesses(Call("ec2", "CreateSecurityGroup", form), NAMES, {}))
        assert {(one.action, one.resource.rpartition(":")[2]) for one in found} == {
            ("ec2:CreateSecurityGroup", "security-group/*"),
            ("ec2:CreateSecurityGroup", "vpc/vpc-1"),
            ("ec2:CreateTags", "security-group/*"),
        }
        assert all(one.context["aws:requesttag/lab"] == ("7",) for one in found)

    def test_who_one_is_may_always_be_asked(self):
        assert needed("sts", "GetCallerIdentity") == []

    def test_an_operation_that_nobody_knows_is_an_action_on_everything(self):
        assert needed("sqs", "SendMessage", QueueUrl="q") == [("sqs:SendMessage", "*")]


def request(method="GET", uri="/", body=b"", **headers):
    """A request as a server has it."""
    path, _, query = uri.partition("?")
    named = {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    environ = {"REQUEST_METHOD": method, "REQUEST_URI": uri, "PATH_INFO": path, "QUERY_STRING": query}
    return {"HTTP_HOST": "127.0.0.1:1", **environ, **named, "wsgi.input": io.BytesIO(body)}


class TestRequests:
    """What a request is checked for must be what it does."""

    def test_each_protocol(self):
        form = request("POST", body=b"Action=CreateUser&UserName=ann")
        assert decode_call(form, "iam").action == "iam:CreateUser"
        assert form["wsgi.input"].read() == b"Action=CreateUser&UserName=ann"
        assert (
            decode_call(request("POST", x_amz_target="Logs_20140328.GetLogEvents"), "logs").action
            == "logs:GetLogEvents"
        )
        assert decode_call(request("POST", "/v1/submitjob", b"{}"), "batch").action == "batch:SubmitJob"
        assert decode_call(request("DELETE", "/v1/tags/arn%3Aaws?tagKeys=a"), "batch").action == "batch:UntagResource"

    def test_an_operation_cannot_be_hidden_behind_another(self):
        both = request("POST", "/?Action=ListRoles", b"Action=CreateUser")
        assert decode_call(both, "iam").operation not in ("ListRoles", "CreateUser")
        target = request("POST", body=b"Action=CreateUser", x_amz_target="x.ListRoles")
        assert decode_call(target, "iam").operation == "CreateUser"

    @pytest.mark.parametrize(
        ("method", "uri", "needed"),
        [
            ("GET", "/", [("s3:ListAllMyBuckets", "*")]),
            ("GET", "/b?list-type=2&prefix=p", [("s3:ListBucket", "arn:aws:s3:::b")]),
            ("HEAD", "/b", [("s3:ListBucket", "arn:aws:s3:::b")]),
            ("PUT", "/b", [("s3:CreateBucket", "arn:aws:s3:::b")]),
            ("PUT", "/b?encryption", [("s3:PutEncryptionConfiguration", "arn:aws:s3:::b")]),
            ("DELETE", "/b?policy=", [("s3:DeleteBucketPolicy", "arn:aws:s3:::b")]),
            ("GET", "/b/a%20b/c", [("s3:GetObject", "arn:aws:s3:::b/a b/c")]),
            ("POST", "/b/k?uploads", [("s3:PutObject", "arn:aws:s3:::b/k")]),
            ("DELETE", "/b/k?uploadId=1", [("s3:AbortMultipartUpload", "arn:aws:s3:::b/k")]),
            ("GET", "/b/k?versionId=1", [("s3:GetObjectVersion", "arn:aws:s3:::b/k")]),
        ],
    )
    def test_s3(self, method, uri, needed):
        found = s3_accesses(request(method, uri), {})
        assert [(one.action, one.resource) for one in found] == needed

    def test_many_keys_are_deleted_one_by_one(self):
        body = b"<Delete><Object><Key>a</Key></Object><Object><Key>b</Key></Object></Delete>"
        found = s3_accesses(request("POST", "/b?delete", body), {})
        assert [one.resource for one in found] == ["arn:aws:s3:::b/a", "arn:aws:s3:::b/b"]

    def test_a_copy_reads_its_source(self):
        found = s3_accesses(request("PUT", "/b/k", x_amz_copy_source="/secret/k"), {})
        assert ("s3:GetObject", "arn:aws:s3:::secret/k") in [(one.action, one.resource) for one in found]

    def test_a_bucket_in_the_hosts_name_is_not_taken_for_a_path(self):
        found = s3_accesses(request("GET", "/b/k", host="secret.localhost:1"), {})
        assert [one.action for one in found] == ["s3:VirtualHostedRequest"]

    def test_a_listing_tells_its_prefix(self):
        (found,) = s3_accesses(request("GET", "/b?prefix=cloudknot.jobs/&max-keys=5"), {})
        assert found.context == {"s3:prefix": ("cloudknot.jobs/",), "s3:max-keys": ("5",)}
