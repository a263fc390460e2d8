"""`stack_errors` lists AWS's reasons for a failed stack, with advice on the common ones. The events are samples."""

import pytest

from cloudknot.deploy.cloudformation.stack_errors import advice_for, failures

HANDLED = (
    'Resource handler returned message: "{} (Service: Batch, Status Code: 400, Request ID: 0f-1)" '
    "(RequestToken: 1-2, HandlerErrorCode: AlreadyExists)"
)


def event(name, status, reason, physical=""):
    return {
        "LogicalResourceId": name,
        "ResourceType": f"AWS::Batch::{name}",
        "ResourceStatus": status,
        "ResourceStatusReason": reason,
        "PhysicalResourceId": physical,
    }


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        (
            "Error executing request, Exception : Object already exists, RequestId: 1",
            "Another resource already has this name",
        ),
        ("Maximum number of job queues supported is 50", "cloudknot list"),
        ("Cannot exceed quota for RolesPerAccount: 1000", "Service Quotas"),
        ("The maximum number of VPCs has been reached. (HandlerErrorCode: ServiceLimitExceeded)", "Service Quotas"),
        ("The subnet ID 'subnet-1' does not exist", "deleted outside of cloudknot"),
        ("security group sg-1 does not exist", "deleted outside of cloudknot"),
        ("Could not find IAM role arn:aws:iam::1:role/x", "deleted outside of cloudknot"),
        ("The Role with name AWSServiceRoleForBatch cannot be found.", "create-service-linked-role"),
        ("The service-linked role for Batch is missing", "--aws-service-name batch.amazonaws.com"),
        ("No permission to create the service-linked role for EC2 Spot Instances.", "-name spot.amazonaws.com"),
        ("The Role with name AWSServiceRoleForEC2Spot cannot be found.", "-name spot.amazonaws.com"),
        ("The Role with name AWSServiceRoleForEC2SpotFleet cannot be found.", "-name spotfleet.amazonaws.com"),
        (
            "User: arn:aws:iam::1:user/x is not authorized to perform: iam:CreateServiceLinkedRole on resource: "
            "arn:aws:iam::1:role/aws-service-role/batch.amazonaws.com/AWSServiceRoleForBatch",
            "-name batch.amazonaws.com",
        ),
        ("The instance type 'p9.large' is not supported in this region", "instance_types="),
        ("You are not subscribed to this service. OptInRequired", "set_region"),
        ("Cannot delete entity, must detach all policies first.", "detach-role-policy"),
        (
            "resource sg-1 has a dependent object (HandlerErrorCode: DependencyViolation)",
            "Another resource still uses it",
        ),
    ],
)
def test_advice_explains_common_reason(reason, advice):
    assert advice in advice_for(reason)


def test_advice_is_empty_for_uncommon_reason():
    assert advice_for("The moon is in the wrong quarter") == ""


@pytest.mark.parametrize(
    "denied",
    [
        "iam:PassRole on resource: arn:aws:iam::1:role/aws-service-role/batch.amazonaws.com/AWSServiceRoleForBatch",
        "iam:GetRole on resource: role cloudknot-x because the role does not exist",
    ],
)
def test_denial_is_not_mistaken_for_missing_role(denied):
    assert advice_for(f"User: arn:aws:iam::1:user/x is not authorized to perform: {denied}") == ""


def test_failures_name_each_resource_once_in_order_of_failure():
    # Newest first, as DescribeStackEvents lists them.
    events = [
        event("x", "ROLLBACK_COMPLETE", "", physical="id"),
        event("Environment", "CREATE_FAILED", "Resource creation cancelled"),
        event("Queue", "CREATE_FAILED", HANDLED.format("Error executing request, Exception : Object already exists")),
        event("Role", "CREATE_FAILED", "The moon is in the wrong quarter"),
        event("x", "CREATE_IN_PROGRESS", "User Initiated", physical="id"),
        event("Old", "CREATE_FAILED", "of another time"),
    ]
    text = failures(events, "id")
    assert text.startswith(
        "Role (AWS::Batch::Role): The moon is in the wrong quarter; Queue (AWS::Batch::Queue): Object already exists. "
    )
    assert text.count("already has this name") == 1


def test_failures_are_empty_without_failed_resource():
    assert failures([event("x", "CREATE_IN_PROGRESS", "User Initiated", physical="id")], "id") == ""
