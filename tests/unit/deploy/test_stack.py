"""`Stack` copes with a CloudFormation that is slow, fails, or is busy with another session's change.

A scripted CloudFormation answers. The tests check the order of calls and the messages for the user.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from cloudknot.aws import Cloud
from cloudknot.deploy.cloudformation.stack import Stack
from cloudknot.deploy.cloudformation.template import DIGEST, Template
from cloudknot.errors import (
    CannotCreateResourceException,
    CannotDeleteResourceException,
    CKTimeoutError,
    CloudError,
    PermissionDeniedError,
    ResourceExistsException,
)

TEXT = "Resources: {}"
PARAMETERS = {"A": "1", "B": "2"}
TAGS = {"Name": "x"}
TEMPLATE = Template.of(TEXT, TAGS)


class ScriptedCloud:
    """A fake CloudFormation with one stack. Each look shows the next status of a script. The last one stays."""

    def __init__(self, **scripts: list[str]) -> None:
        ends = {"create": "CREATE_COMPLETE", "update": "UPDATE_COMPLETE", "delete": "GONE"}
        ends["continue"] = "UPDATE_ROLLBACK_FAILED"
        self.scripts = {**{kind: [status] for kind, status in ends.items()}, **scripts}
        self.skipped: list[str] = []
        self.statuses: list[str] = []
        self.parameters: dict[str, str] = {}
        self.tags: list[dict[str, str]] = []
        self.events: list[dict[str, str]] = []
        self.refusals: dict[str, CloudError] = {}
        self.writes: list[str] = []
        self.now = 0.0
        # The real text: a message must name the cloud.
        self.command = Cloud("eu-west-1").command

    def existing(self, *statuses: str, **parameters: str) -> ScriptedCloud:
        """Give the cloud a stack with these statuses and changed parameters, and return the cloud."""
        self.statuses = list(statuses)
        self.parameters = {DIGEST: TEMPLATE.digest, **PARAMETERS, **parameters}
        return self

    def stack(self, timeout: float = 100) -> Stack:
        return Stack(cast(Cloud, self), "x", timeout=timeout, clock=lambda: self.now, sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def call(self, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
        assert service == "cloudformation"
        if operation == "describe_stacks":
            return {"Stacks": [self.describe()]}
        kind = operation.partition("_")[0]
        self.writes.append(kind)
        if kind in self.refusals:
            raise self.refusals.pop(kind)
        self.statuses = list(self.scripts[kind])
        self.skipped += arguments.get("ResourcesToSkip", ())
        if kind in ("create", "update"):
            self.parameters = {item["ParameterKey"]: item["ParameterValue"] for item in arguments["Parameters"]}
            self.tags = arguments["Tags"]
        return {"StackId": "id"}

    def describe(self) -> dict[str, Any]:
        status = self.statuses.pop(0) if len(self.statuses) > 1 else (self.statuses or ["GONE"])[0]
        if status == "GONE":
            raise CloudError("Stack with id x does not exist", code="ValidationError")
        listed = [{"ParameterKey": key, "ParameterValue": value} for key, value in self.parameters.items()]
        return {"StackId": "id", "StackStatus": status, "Parameters": listed, "Tags": self.tags}

    def pages(self, service: str, operation: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        yield {"StackEvents": self.events}


def event(resource: str, status: str, reason: str = "", physical: str = "") -> dict[str, str]:
    return {
        "LogicalResourceId": resource,
        "ResourceType": f"AWS::X::{resource}",
        "ResourceStatus": status,
        "ResourceStatusReason": reason,
        "PhysicalResourceId": physical,
    }


# Newest first, as DescribeStackEvents lists them.
FAILED_EVENTS = [
    event("x", "ROLLBACK_COMPLETE", physical="id"),
    event("Queue", "CREATE_FAILED", "Resource creation cancelled"),
    event("Role", "CREATE_FAILED", "You are not authorized"),
    event("x", "CREATE_IN_PROGRESS", "User Initiated", physical="id"),
    event("Old", "CREATE_FAILED", "from another time"),
]


def test_deploy_creates_stack_and_waits() -> None:
    cloud = ScriptedCloud(create=["CREATE_IN_PROGRESS"] * 5 + ["CREATE_COMPLETE"])
    state = cloud.stack().deploy(TEMPLATE, PARAMETERS)
    assert state.status == "CREATE_COMPLETE"
    assert state.parameters == {DIGEST: TEMPLATE.digest, **PARAMETERS}
    assert state.tags == TAGS
    assert cloud.writes == ["create"]
    assert cloud.now > 0


@pytest.mark.parametrize("status", ["CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"])
def test_deploy_reuses_stack_that_is_up_to_date(status: str) -> None:
    cloud = ScriptedCloud().existing(status)
    cloud.stack().deploy(TEMPLATE, PARAMETERS)
    assert cloud.writes == []


def test_deploy_updates_changed_parameters_and_keeps_tags() -> None:
    cloud = ScriptedCloud().existing("CREATE_COMPLETE", A="old")
    cloud.tags = [{"Key": "Name", "Value": "first"}]
    state = cloud.stack().deploy(TEMPLATE, PARAMETERS)
    assert cloud.writes == ["update"]
    assert (state.parameters["A"], state.tags) == ("1", {"Name": "first"})


def test_deploy_updates_stack_of_another_template() -> None:
    cloud = ScriptedCloud().existing("CREATE_COMPLETE")
    cloud.stack().deploy(Template.of("Resources: {A: 1}", TAGS), PARAMETERS)
    assert cloud.writes == ["update"]


def test_deploy_leaves_ignored_parameters_unchanged() -> None:
    cloud = ScriptedCloud().existing("CREATE_COMPLETE", A="old")
    state = cloud.stack().deploy(TEMPLATE, PARAMETERS, ignore=["A"])
    assert cloud.writes == []
    assert state.parameters["A"] == "old"


@pytest.mark.parametrize("status", ["ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "REVIEW_IN_PROGRESS"])
def test_deploy_replaces_stack_whose_creation_failed(status: str) -> None:
    cloud = ScriptedCloud().existing(status)
    assert cloud.stack().deploy(TEMPLATE, PARAMETERS).usable
    assert cloud.writes == ["delete", "create"]


@pytest.mark.parametrize("status", ["CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS"])
def test_deploy_waits_for_another_session_and_reuses_its_stack(status: str) -> None:
    cloud = ScriptedCloud().existing(status, status, "CREATE_COMPLETE")
    cloud.stack().deploy(TEMPLATE, PARAMETERS)
    assert cloud.writes == []


def test_deploy_reuses_stack_that_another_session_created_first() -> None:
    cloud = ScriptedCloud()
    cloud.refusals["create"] = ResourceExistsException("exists", code="AlreadyExistsException")
    stack = cloud.stack()
    # The other session creates the stack after this one has looked for it.
    cloud.existing("GONE", "CREATE_IN_PROGRESS", "CREATE_COMPLETE")
    stack.deploy(TEMPLATE, PARAMETERS)
    assert cloud.writes == ["create"]


def test_deploy_replaces_failed_stack_of_another_session() -> None:
    cloud = ScriptedCloud().existing("CREATE_IN_PROGRESS", "ROLLBACK_COMPLETE")
    assert cloud.stack().deploy(TEMPLATE, PARAMETERS).usable
    assert cloud.writes == ["delete", "create"]


def test_failed_creation_reports_reason_and_deletes_stack() -> None:
    cloud = ScriptedCloud(create=["CREATE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS", "ROLLBACK_COMPLETE"])
    cloud.events = FAILED_EVENTS
    with pytest.raises(CannotCreateResourceException) as raised:
        cloud.stack().deploy(TEMPLATE, PARAMETERS)
    assert "Role (AWS::X::Role): You are not authorized" in str(raised.value)
    assert "cancelled" not in str(raised.value)
    assert "another time" not in str(raised.value)
    assert cloud.writes == ["create", "delete"]


def test_failed_update_reports_reason_and_keeps_stack() -> None:
    cloud = ScriptedCloud(update=["UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE"]).existing("CREATE_COMPLETE", A="0")
    cloud.events = [event("Role", "UPDATE_FAILED", "too long"), *FAILED_EVENTS[3:]]
    message = r"could not be changed\. AWS undid the change\. AWS reports: Role \(AWS::X::Role\): too long\. Fix"
    with pytest.raises(CannotCreateResourceException, match=message):
        cloud.stack().deploy(TEMPLATE, PARAMETERS)
    assert cloud.writes == ["update"]


@pytest.mark.parametrize("before", ["CREATE_COMPLETE", "UPDATE_ROLLBACK_FAILED"])
def test_failed_rollback_leaves_stack_for_clobber(before: str) -> None:
    cloud = ScriptedCloud(update=["UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_FAILED"]).existing(before, A="0")
    cloud.events = [event("Role", "UPDATE_FAILED", "too long"), *FAILED_EVENTS[3:]]
    message = (
        r"^AWS can no longer change .*\(UPDATE_ROLLBACK_FAILED\).*too long\. "
        r"Delete the resources with `cloudknot clobber NAME --region eu-west-1`"
    )
    with pytest.raises(CannotCreateResourceException, match=message):
        cloud.stack().deploy(TEMPLATE, PARAMETERS)
    # A person with more permissions may have arrived. After this session's own update, nothing has changed.
    assert cloud.writes == (["update"] if before == "CREATE_COMPLETE" else ["continue"])


@pytest.mark.parametrize("before", ["CREATE_COMPLETE", "UPDATE_ROLLBACK_FAILED"])
def test_failed_rollback_after_denied_call_is_caused_by_denial(before: str) -> None:
    cloud = ScriptedCloud(update=["UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_FAILED"]).existing(before, A="0")
    denial = "User: ann is not authorized to perform: iam:PutRolePolicy because no policy allows the action"
    cloud.events = [event("Role", "UPDATE_FAILED", denial), *FAILED_EVENTS[3:]]
    with pytest.raises(CannotCreateResourceException, match=r"^AWS can no longer change ") as raised:
        cloud.stack().deploy(TEMPLATE, PARAMETERS)
    assert isinstance(raised.value.__cause__, PermissionDeniedError)
    assert raised.value.__cause__.operation == "iam:PutRolePolicy"


def test_denied_update_is_rolled_back_without_denied_resources() -> None:
    cloud = ScriptedCloud(
        update=["UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_FAILED"], **{"continue": ["UPDATE_ROLLBACK_COMPLETE"]}
    ).existing("CREATE_COMPLETE", A="0")
    denial = "User: ann is not authorized to perform: batch:UpdateComputeEnvironment because no policy allows it"
    cloud.events = [
        event("x", "UPDATE_ROLLBACK_FAILED", denial, physical="id"),
        event("Environment", "UPDATE_FAILED", denial),
        event("Queue", "UPDATE_COMPLETE"),
        event("Queue", "UPDATE_FAILED", denial),
        *FAILED_EVENTS[3:],
    ]
    with pytest.raises(
        CannotCreateResourceException, match=r"could not be changed\. AWS undid the change\."
    ) as raised:
        cloud.stack().deploy(TEMPLATE, PARAMETERS)
    assert isinstance(raised.value.__cause__, PermissionDeniedError)
    assert cloud.writes == ["update", "continue"]
    assert cloud.skipped == ["Environment"]


def test_stack_of_failed_rollback_is_used_after_rollback_is_finished() -> None:
    cloud = ScriptedCloud(**{"continue": ["UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE"]}).existing(
        "UPDATE_ROLLBACK_FAILED", A="0"
    )
    assert cloud.stack().deploy(TEMPLATE, PARAMETERS).parameters["A"] == "1"
    assert cloud.writes == ["continue", "update"]
    assert cloud.skipped == []


def test_failed_rollback_without_reason_names_status_once() -> None:
    cloud = ScriptedCloud().existing("UPDATE_ROLLBACK_FAILED", A="0")
    with pytest.raises(CannotCreateResourceException) as raised:
        cloud.stack().deploy(TEMPLATE, PARAMETERS)
    assert str(raised.value).count("UPDATE_ROLLBACK_FAILED") == 1


@pytest.mark.parametrize("status", ["CREATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"])
@pytest.mark.parametrize("shared", [False, True])
def test_empty_update_returns_existing_stack(status: str, shared: bool) -> None:
    """CloudFormation refuses an update that changes no resource, such as one of comments in the template."""
    cloud = ScriptedCloud().existing(status, **{DIGEST: "of a template with another comment"})
    cloud.refusals["update"] = CloudError("No updates are to be performed.", code="ValidationError")
    state = cloud.stack().deploy(TEMPLATE, (lambda _: PARAMETERS) if shared else PARAMETERS)
    assert (state.status, cloud.writes, cloud.now) == (status, ["update"], 0)


def test_update_is_repeated_after_update_of_another_session() -> None:
    cloud = ScriptedCloud().existing("CREATE_COMPLETE", A="0")
    cloud.refusals["update"] = CloudError("Stack x is in UPDATE_IN_PROGRESS state", code="ValidationError")
    cloud.stack().deploy(TEMPLATE, PARAMETERS)
    assert cloud.writes == ["update", "update"]


def test_refused_creation_raises_permission_error() -> None:
    cloud = ScriptedCloud()
    cloud.refusals["create"] = PermissionDeniedError("no", code="AccessDenied")
    with pytest.raises(PermissionDeniedError):
        cloud.stack().deploy(TEMPLATE, PARAMETERS)
    assert cloud.writes == ["create"]


@pytest.mark.parametrize("script", ["create", "delete"])
def test_deploy_stops_waiting_after_timeout(script: str) -> None:
    cloud = ScriptedCloud(create=["CREATE_IN_PROGRESS"], delete=["DELETE_IN_PROGRESS"])
    if script == "delete":
        cloud.existing("ROLLBACK_COMPLETE")
    with pytest.raises(
        CKTimeoutError, match=rf"within 100 s\. Its status is {script.upper()}_IN_PROGRESS\. AWS keeps working"
    ):
        cloud.stack(timeout=100).deploy(TEMPLATE, PARAMETERS)
    assert cloud.now <= 100


def test_delete_waits_for_running_update_and_deletes_stack() -> None:
    cloud = ScriptedCloud(delete=["DELETE_IN_PROGRESS", "DELETE_IN_PROGRESS", "DELETE_COMPLETE"])
    cloud.existing("UPDATE_IN_PROGRESS", "UPDATE_COMPLETE")
    cloud.stack().delete()
    assert cloud.writes == ["delete"]
    assert cloud.now > 0


def test_delete_of_missing_stack_changes_nothing() -> None:
    cloud = ScriptedCloud()
    cloud.stack().delete()
    assert cloud.writes == []


def test_failed_deletion_names_remaining_resources() -> None:
    cloud = ScriptedCloud(delete=["DELETE_FAILED"]).existing("CREATE_COMPLETE")
    cloud.events = [
        event("Group", "DELETE_FAILED", "in use"),
        event("x", "DELETE_IN_PROGRESS", "User Initiated", "id"),
    ]
    with pytest.raises(CannotDeleteResourceException, match=r"Group \(AWS::X::Group\): in use"):
        cloud.stack().delete()
