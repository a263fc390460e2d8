"""The embedded cloud allows requests by IAM policies as AWS does, and denies requests that it does not understand."""

import pytest

from cloudknot.local.iam.accesses import Names, accesses, s3_accesses
from cloudknot.local.iam.policy import Access, decide, parse
from cloudknot.local.iam.requests.calls import Call, read_call
from cloudknot.local.iam.requests.objects import read_s3_request
from cloudknot.local.iam.signing import Request
from cloudknot.local.wsgi import ServiceError

LOGS = "arn:aws:logs:us-east-1:123456789012:log-group:"
RUNS = "arn:aws:s3:::b/cloudknot.jobs/*"
NAMES = Names("123456789012", "us-east-1", lambda kind, name: f"arn:aws:iam::123456789012:role/existing/{name}")


def policy(*statements, effect="Allow"):
    return parse({"Version": "2012-10-17", "Statement": [{"Effect": effect, **statement} for statement in statements]})


def decision(statements, action, resource="*", **context):
    keys = {name.replace("__", ":").lower(): value for name, value in context.items()}
    values = {name: value if isinstance(value, tuple) else (value,) for name, value in keys.items()}
    return decide(statements, Access(action, resource, values))


class TestDecision:
    def test_policy_without_statements_allows_nothing(self):
        assert decision((), "s3:GetObject") == ""

    def test_statement_allows_only_matching_actions_on_matching_resources(self):
        statements = policy({"Action": ["s3:GetObject", "s3:List*"], "Resource": RUNS})
        assert decision(statements, "s3:GetObject", "arn:aws:s3:::b/cloudknot.jobs/k/r/inputs") == "allow"
        assert decision(statements, "S3:listany", "arn:aws:s3:::b/cloudknot.jobs/k") == "allow"
        assert decision(statements, "s3:PutObject", "arn:aws:s3:::b/cloudknot.jobs/k") == ""
        assert decision(statements, "s3:GetObject", "arn:aws:s3:::b/cloudknot.jobsx/k") == ""
        assert decision(statements, "s3:GetObject", "arn:aws:s3:::bb/cloudknot.jobs/k") == ""

    def test_statement_about_some_resources_does_not_allow_action_on_all(self):
        assert decision(policy({"Action": "batch:ListJobs", "Resource": "arn:aws:batch:*"}), "batch:ListJobs") == ""
        assert decision(policy({"Action": "*", "Resource": "*"}), "batch:ListJobs") == "allow"

    def test_deny_overrides_allow_in_any_order(self):
        both = {"Action": "s3:*", "Resource": "*"}
        for statements in (policy(both) + policy(both, effect="Deny"), policy(both, effect="Deny") + policy(both)):
            assert decision(statements, "s3:GetObject", RUNS) == "deny"

    def test_not_action_and_not_resource_exclude_their_patterns(self):
        statements = policy({"NotAction": "iam:*", "NotResource": "arn:aws:s3:::secret*"})
        assert decision(statements, "s3:GetObject", "arn:aws:s3:::open/k") == "allow"
        assert decision(statements, "s3:GetObject", "arn:aws:s3:::secret/k") == ""
        assert decision(statements, "iam:GetRole", "arn:aws:iam::1:role/r") == ""

    def test_question_mark_matches_one_character_and_brackets_match_literally(self):
        statements = policy({"Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/?.[a]"})
        assert decision(statements, "s3:GetObject", "arn:aws:s3:::b/x.[a]") == "allow"
        assert decision(statements, "s3:GetObject", "arn:aws:s3:::b/xx.[a]") == ""
        assert decision(statements, "s3:GetObject", "arn:aws:s3:::b/x.a") == ""

    def test_policy_variable_takes_its_value_from_request(self):
        statements = policy({"Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/${aws:username}/*"})
        assert decision(statements, "s3:GetObject", "arn:aws:s3:::b/ann/k", aws__username="ann") == "allow"
        assert decision(statements, "s3:GetObject", "arn:aws:s3:::b/bob/k", aws__username="ann") == ""
        assert decision(statements, "s3:GetObject", "arn:aws:s3:::b//k") == ""


class TestConditions:
    @pytest.mark.parametrize(
        ("operator", "wanted", "requested", "holds"),
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
    def test_condition_operator_compares_request_value_with_policy_value(self, operator, wanted, requested, holds):
        statements = policy({"Action": "*", "Resource": "*", "Condition": {operator: {"s3:Prefix": wanted}}})
        context = {} if requested is None else {"s3__prefix": requested}
        assert decision(statements, "s3:ListBucket", **context) == ("allow" if holds else "")

    def test_unknown_operator_does_not_lift_deny(self):
        every = {"Action": "*", "Resource": "*"}
        statements = policy(every) + policy({**every, "Condition": {"IpAddress": {"a": "b"}}}, effect="Deny")
        assert decision(statements, "s3:GetObject") == "deny"

    def test_statement_applies_only_if_all_conditions_hold(self):
        both = {"StringEquals": {"a": "1", "b": "2"}}
        statements = policy({"Action": "*", "Resource": "*", "Condition": both})
        assert decision(statements, "s3:GetObject", a="1", b="2") == "allow"
        assert decision(statements, "s3:GetObject", a="1", b="3") == ""


def needed(service, operation, **arguments):
    """Return ``(action, resource)`` of each access that a call needs."""
    return [(access.action, access.resource) for access in accesses(Call(service, operation, arguments), NAMES, {})]


class TestAccesses:
    def test_submit_job_needs_access_to_definition_queue_and_tags(self):
        assert needed("batch", "SubmitJob", jobName="j", jobDefinition="d:3", jobQueue="q", tags={"a": "b"}) == [
            ("batch:SubmitJob", "arn:aws:batch:us-east-1:123456789012:job-definition/d:3"),
            ("batch:SubmitJob", "arn:aws:batch:us-east-1:123456789012:job-queue/q"),
            ("batch:TagResource", "arn:aws:batch:us-east-1:123456789012:job/*"),
        ]

    def test_register_job_definition_needs_pass_role_for_each_role(self):
        container = {"jobRoleArn": "arn:aws:iam::1:role/r", "executionRoleArn": "e"}
        checked = list(accesses(Call("batch", "RegisterJobDefinition", {"containerProperties": container}), NAMES, {}))
        passed = [
            (access.resource, access.context["iam:passedtoservice"])
            for access in checked
            if access.action == "iam:PassRole"
        ]
        assert passed == [
            ("arn:aws:iam::1:role/r", ("ecs-tasks.amazonaws.com",)),
            ("arn:aws:iam::123456789012:role/e", ("ecs-tasks.amazonaws.com",)),
        ]

    def test_terminate_jobs_needs_terminate_job_on_each_job(self):
        assert needed("batch", "TerminateJobs", jobs=["a", "b:1"]) == [
            ("batch:TerminateJob", "arn:aws:batch:us-east-1:123456789012:job/a"),
            ("batch:TerminateJob", "arn:aws:batch:us-east-1:123456789012:job/b:1"),
        ]

    def test_access_to_role_names_its_path(self):
        assert needed("iam", "CreateRole", RoleName="r", Path="/cloudknot/")[0][1].endswith(":role/cloudknot/r")
        assert needed("iam", "DeleteRole", RoleName="r") == [
            ("iam:DeleteRole", "arn:aws:iam::123456789012:role/existing/r")
        ]

    @pytest.mark.parametrize("operation", ["CreateRole", "PutRolePermissionsBoundary"])
    def test_boundary_in_request_becomes_condition_key(self, operation):
        arguments = {"RoleName": "r", "PermissionsBoundary": "of-request"}
        (access,) = accesses(Call("iam", operation, arguments), NAMES, {})
        assert access.context["iam:permissionsboundary"] == ("of-request",)

    @pytest.mark.parametrize(
        "operation",
        ["AttachRolePolicy", "DetachRolePolicy", "PutRolePolicy", "DeleteRolePolicy", "DeleteRolePermissionsBoundary"],
    )
    def test_boundary_of_role_becomes_condition_key_whatever_the_request_says(self, operation):
        arguments = {"RoleName": "r", "PermissionsBoundary": "of-request", "PolicyArn": "p"}
        (access,) = accesses(Call("iam", operation, arguments), NAMES, {})
        assert access.context["iam:permissionsboundary"] == (NAMES.find("boundary", "r"),)
        (without,) = accesses(Call("iam", operation, arguments), Names("1", "us-east-1", lambda kind, name: ""), {})
        assert "iam:permissionsboundary" not in without.context

    def test_stack_with_role_needs_pass_role(self):
        assert needed("cloudformation", "CreateStack", StackName="s", RoleARN="arn:aws:iam::1:role/r") == [
            ("cloudformation:CreateStack", "arn:aws:cloudformation:us-east-1:123456789012:stack/s/*"),
            ("iam:PassRole", "arn:aws:iam::1:role/r"),
        ]

    def test_log_group_of_request_is_name_or_identifier(self):
        for arguments in ({"logGroupName": "g"}, {"logGroupIdentifier": "g"}, {"logGroupIdentifier": f"{LOGS}g"}):
            assert needed("logs", "GetDataProtectionPolicy", **arguments)[0][1] == f"{LOGS}g:log-stream:"

    def test_tags_of_new_resource_become_condition_keys(self):
        tags = [{"ResourceType": "security-group", "Tags": [{"Key": "Lab", "Value": "7"}]}]
        arguments = {"TagSpecifications": tags, "VpcId": "vpc-1"}
        checked = list(accesses(Call("ec2", "CreateSecurityGroup", arguments), NAMES, {}))
        assert {(access.action, access.resource.rpartition(":")[2]) for access in checked} == {
            ("ec2:CreateSecurityGroup", "security-group/*"),
            ("ec2:CreateSecurityGroup", "vpc/vpc-1"),
            ("ec2:CreateTags", "security-group/*"),
        }
        assert all(access.context["aws:requesttag/lab"] == ("7",) for access in checked)

    def test_get_caller_identity_needs_no_permission(self):
        assert needed("sts", "GetCallerIdentity") == []

    def test_unknown_operation_needs_its_action_on_all_resources(self):
        assert needed("sts", "GetAccessKeyInfo", AccessKeyId="k") == [("sts:GetAccessKeyInfo", "*")]


ECR = "AmazonEC2ContainerRegistry_V20150921"


def request(method="GET", uri="/", **headers):
    """Return a request without a signature."""
    return Request(method, uri, {name.replace("_", "-"): value for name, value in headers.items()})


def s3_access(method, uri, body=b"", **headers):
    """Return the permissions that a request to S3 needs."""
    return list(s3_accesses(read_s3_request(request(method, uri, **headers), body), {}))


class TestRequests:
    """The server checks permission for the operation that the request then performs."""

    def test_server_finds_operation_in_requests_of_each_protocol(self):
        form = read_call(request("POST"), "iam", b"Action=CreateUser&UserName=ann")
        assert (form.action, form.arguments) == ("iam:CreateUser", {"UserName": "ann"})
        target = request("POST", x_amz_target="Logs_20140328.GetLogEvents")
        assert read_call(target, "logs", b"{}").action == "logs:GetLogEvents"
        assert read_call(request("POST", "/v1/describejobs"), "batch", b"{}").action == "batch:DescribeJobs"
        tags = read_call(request("DELETE", "/v1/tags/arn%3Aaws%2Fq?tagKeys=a&tagKeys=b%26"), "batch", b"")
        assert (tags.action, tags.text("resourceArn")) == ("batch:UntagResource", "arn:aws/q")

    @pytest.mark.parametrize(
        ("service", "uri", "body", "headers"),
        [
            ("iam", "/?Action=ListRoles", b"Action=CreateUser", {}),
            ("iam", "/", b"Action=CreateUser&UserName=ann", {"x_amz_target": "x.ListRoles"}),
            ("iam", "/", b"Action=ListRoles&Action=CreateUser", {}),
            ("ecr", "/?Action=ListRoles", b"{}", {"x_amz_target": f"{ECR}.DescribeRepositories"}),
            # Without a second reading, but of a service that the embedded cloud does not have.
            ("sqs", "/", b"{}", {"x_amz_target": "AmazonSQS.SendMessage"}),
            (
                "logs",
                "/",
                b'{"logGroupName": "a", "logGroupName": "b"}',
                {"x_amz_target": "Logs_20140328.PutLogEvents"},
            ),
        ],
    )
    def test_request_cannot_hide_its_operation_behind_another(self, service, uri, body, headers):
        with pytest.raises(ServiceError):
            read_call(request("POST", uri, **headers), service, body)

    @pytest.mark.parametrize(
        ("method", "uri", "needed"),
        [
            ("GET", "/", [("s3:ListAllMyBuckets", "*")]),
            ("GET", "/bkt?list-type=2&prefix=p", [("s3:ListBucket", "arn:aws:s3:::bkt")]),
            ("HEAD", "/bkt", [("s3:ListBucket", "arn:aws:s3:::bkt")]),
            ("PUT", "/bkt", [("s3:CreateBucket", "arn:aws:s3:::bkt")]),
            ("PUT", "/bkt?encryption", [("s3:PutEncryptionConfiguration", "arn:aws:s3:::bkt")]),
            ("DELETE", "/bkt?cors", [("s3:PutBucketCORS", "arn:aws:s3:::bkt")]),
            ("DELETE", "/bkt?policy=", [("s3:DeleteBucketPolicy", "arn:aws:s3:::bkt")]),
            ("GET", "/bkt/a%20b/c", [("s3:GetObject", "arn:aws:s3:::bkt/a b/c")]),
            ("GET", "/bkt/a%0Ab", [("s3:GetObject", "arn:aws:s3:::bkt/a\nb")]),
            ("POST", "/bkt/k?uploads", [("s3:PutObject", "arn:aws:s3:::bkt/k")]),
            ("DELETE", "/bkt/k?uploadId=1", [("s3:AbortMultipartUpload", "arn:aws:s3:::bkt/k")]),
            ("GET", "/bkt/k?versionId=1", [("s3:GetObjectVersion", "arn:aws:s3:::bkt/k")]),
            ("PUT", "/bkt/k?tagging&versionId=1", [("s3:PutObjectVersionTagging", "arn:aws:s3:::bkt/k")]),
        ],
    )
    def test_s3_request_needs_access_that_fits_its_method_and_query(self, method, uri, needed):
        assert [(access.action, access.resource) for access in s3_access(method, uri)] == needed

    def test_delete_of_several_keys_needs_access_to_each(self):
        objects = b"<Object><Key>a</Key></Object><Object><Key>b</Key><VersionId>1</VersionId></Object>"
        checked = s3_access("POST", "/bkt?delete", b"<Delete>" + objects + b"</Delete>")
        assert [(access.action, access.resource) for access in checked] == [
            ("s3:DeleteObject", "arn:aws:s3:::bkt/a"),
            ("s3:DeleteObjectVersion", "arn:aws:s3:::bkt/b"),
        ]

    def test_copy_needs_read_access_to_its_source(self):
        checked = s3_access("PUT", "/bkt/k", x_amz_copy_source="/secret/k%20")
        assert ("s3:GetObject", "arn:aws:s3:::secret/k ") in [(access.action, access.resource) for access in checked]

    def test_headers_with_an_effect_of_their_own_need_its_permission(self):
        checked = s3_access("PUT", "/bkt/k", x_amz_tagging="a=b", x_amz_grant_read="id=x", x_amz_meta_a="b")
        assert [access.action for access in checked] == ["s3:PutObject", "s3:PutObjectAcl", "s3:PutObjectTagging"]

    def test_listing_passes_prefix_and_max_keys_to_conditions(self):
        (access,) = s3_access("GET", "/bkt?prefix=cloudknot.jobs/&max-keys=5")
        assert access.context == {"s3:prefix": ("cloudknot.jobs/",), "s3:max-keys": ("5",)}
