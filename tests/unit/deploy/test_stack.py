"""How a Stack behaves when CloudFormation is slow, fails, or is busy with another session's work.

CloudFormation here is a small scripted one: what is tested is the order of calls and what the user is told.
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
    """A CloudFormation with one stack, whose statuses come from scripts: one status a look, the last one stays."""

    def __init__(self, **scripts: list[str]) -> None:
        self.scripts = {"create": ["CREATE_COMPLETE"], "update": ["UPDATE_COMPLETE"], "delete": ["GONE"], **scripts}
        self.statuses: list[str] = []
        self.parameters: dict[str, str] = {}
        self.tags: list[dict[str, str]] = []
        self.events: list[dict[str, str]] = []
        self.refusals: dict[str, CloudError] = {}
        self.writes: list[str] = []
        self.now = 0.0

    def existing(self, *statuses: str, **parameters: str) -> ScriptedCloud:
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
        if kind != "delete":
            self.parameters = {item["ParameterKey"]: item["ParameterValue"] for item in arguments["Parameters"]}
            self.tags = arguments["Tags"]
        return {}

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


FAILED_EVENTS = [
    event("x", "ROLLBACK_COMPLETE", physical="id"),
    event("Queue", "CREATE_FAILED", "Resource creation cancelled"),
    event("Role", "CREATE_FAILED", "You are not authorized"),
    event("x", "CREATE_IN_PROGRESS", "User Initiated", physical="id"),
    event("Old", "CREATE_FAILED", "from another time"),
]


def test_creates_and_waits() -> None:
    cloud = ScriptedCloud(create=["CREATE_IN_PROGRESS"] * 5 + ["CREATE_COMPLETE"])
    state = cloud.stack().deploy(TEMPLATE, PARAMETERS)
    assert state.status == "CREATE_COMPLETE"
    assert state.parameters == {DIGEST: TEMPLATE.digest, **PARAMETERS}
    assert state.tags == TAGS
    assert cloud.writes == ["create"]
    assert cloud.now > 0


@pytest.mark.parametrize("status", ["CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"])
def test_adopts_what_is_as_wanted(status: str) -> None:
    cloud = ScriptedCloud().existing(status)
    cloud.stack().deploy(TEMPLATE, PARAMETERS)
    assert cloud.writes == []


def test_updates_what_differs_and_keeps_the_tags() -> None:
    cloud = ScriptedCloud().existing("CREATE_COMPLETE", A="old")
    cloud.tags = [{"Key": "Name", "Value": "first"}]
    state = cloud.stack().deploy(TEMPLATE, PARAMETERS)
    assert cloud.writes == ["update"]
    assert (state.parameters["A"], state.tags) == ("1", {"Name": "first"})


def test_another_template_is_an_update() -> None:
    cloud = ScriptedCloud().existing("CREATE_COMPLETE")
    cloud.stack().deploy(Template.of(TEXT + " ", TAGS), PARAMETERS)
    assert cloud.writes == ["update"]


def test_ignored_parameters_may_differ() -> None:
    cloud = ScriptedCloud().existing("CREATE_COMPLETE", A="old")
    state = cloud.stack().deploy(TEMPLATE, PARAMETERS, ignore=["A"])
    assert cloud.writes == []
    assert state.parameters["A"] == "old"


@pytest.mark.parametrize("status", ["ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "REVIEW_IN_PROGRESS"])
def test_what_was_left_half_made_is_made_again(status: str) -> None:
    cloud = ScriptedCloud().existing(status)
    assert cloud.stack().deploy(TEMPLATE, PARAMETERS).usable
    assert cloud.writes == ["delete", "create"]


@pytest.mark.parametrize("status", ["CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS"])
def test_another_sessions_work_is_waited_for_and_adopted(status: str) -> None:
    cloud = ScriptedCloud().existing(status, status, "CREATE_COMPLETE")
    cloud.stack().deploy(TEMPLATE, PARAMETERS)
    assert cloud.writes == []


def test_another_session_was_faster() -> None:
    cloud = ScriptedCloud()
    cloud.refusals["create"] = ResourceExistsException("exists", code="AlreadyExistsException")
    stack = cloud.stack()
    cloud.existing("GONE", "CREATE_IN_PROGRESS", "CREATE_COMPLETE")
    stack.deploy(TEMPLATE, PARAMETERS)
    assert cloud.writes == ["create"]


def test_another_sessions_failure_is_made_good() -> None:
    cloud = ScriptedCloud().existing("CREATE_IN_PROGRESS", "ROLLBACK_COMPLETE")
    assert cloud.stack().deploy(TEMPLATE, PARAMETERS).usable
    assert cloud.writes == ["delete", "create"]


def test_failed_creation_says_why_and_leaves_nothing() -> None:
    cloud = ScriptedCloud(create=["CREATE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS", "ROLLBACK_COMPLETE"])
    cloud.events = FAILED_EVENTS
    with pytest.raises(CannotCreateResourceException) as caught:
        cloud.stack().deploy(TEMPLATE, PARAMETERS)
    assert "Role (AWS::X::Role): You are not authorized" in str(caught.value)
    assert "cancelled" not in str(caught.value)
    assert "another time" not in str(caught.value)
    assert cloud.writes == ["create", "delete"]


def test_failed_update_says_why_and_keeps_the_stack() -> None:
    cloud = ScriptedCloud(update=["UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE"]).existing("CREATE_COMPLETE", A="0")
    cloud.events = [event("Role", "UPDATE_FAILED", "too long"), *FAILED_EVENTS[3:]]
    words = r"could not be changed\. AWS undid the change\. AWS reports: Role \(AWS::X::Role\): too long\. Fix"
    with pytest.raises(CannotCreateResourceException, match=words):
        cloud.stack().deploy(TEMPLATE, PARAMETERS)
    assert cloud.writes == ["update"]


@pytest.mark.parametrize("before", ["CREATE_COMPLETE", "UPDATE_ROLLBACK_FAILED"])
def test_failed_rollback_is_left_for_the_user_to_clobber(before: str) -> None:
    cloud = ScriptedCloud(update=["UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_FAILED"]).existing(before, A="0")
    cloud.events = [event("Role", "UPDATE_FAILED", "too long"), *FAILED_EVENTS[3:]]
    words = r"^AWS can no longer change .*\(UPDATE_ROLLBACK_FAILED\).*too long\. Remove them: `cloudknot clobber NAME`"
    with pytest.raises(CannotCreateResourceException, match=words):
        cloud.stack().deploy(TEMPLATE, PARAMETERS)
    assert cloud.writes == (["update"] if before == "CREATE_COMPLETE" else [])


@pytest.mark.parametrize("status", ["CREATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"])
@pytest.mark.parametrize("shared", [False, True])
def test_update_that_changes_nothing_is_none(status: str, shared: bool) -> None:
    """The digest of the template is told by an output, which is not updated where no resource is."""
    cloud = ScriptedCloud().existing(status, **{DIGEST: "of a template with another comment"})
    cloud.refusals["update"] = CloudError("No updates are to be performed.", code="ValidationError")
    state = cloud.stack().deploy(TEMPLATE, (lambda _: PARAMETERS) if shared else PARAMETERS)
    assert (state.status, cloud.writes, cloud.now) == (status, ["update"], 0)


def test_update_while_another_session_updates() -> None:
    cloud = ScriptedCloud().existing("CREATE_COMPLETE", A="0")
    cloud.refusals["update"] = CloudError("Stack x is in UPDATE_IN_PROGRESS state", code="ValidationError")
    cloud.stack().deploy(TEMPLATE, PARAMETERS)
    assert cloud.writes == ["update", "update"]


def test_refused_creation_is_told_as_it_is() -> None:
    cloud = ScriptedCloud()
    cloud.refusals["create"] = PermissionDeniedError("no", code="AccessDenied")
    with pytest.raises(PermissionDeniedError):
        cloud.stack().deploy(TEMPLATE, PARAMETERS)
    assert cloud.writes == ["create"]


@pytest.mark.parametrize("script", ["create", "delete"])
def test_waits_have_an_end(script: str) -> None:
    cloud = ScriptedCloud(create=["CREATE_IN_PROGRESS"], delete=["DELETE_IN_PROGRESS"])
    if script == "delete":
        cloud.existing("ROLLBACK_COMPLETE")
    with pytest.raises(
        CKTimeoutError, match=rf"within 100 s\. Its status is {script.upper()}_IN_PROGRESS\. AWS continues"
    ):
        cloud.stack(timeout=100).deploy(TEMPLATE, PARAMETERS)
    assert cloud.now <= 100


def test_deletes_and_waits() -> None:
    cloud = ScriptedCloud(delete=["DELETE_IN_PROGRESS", "DELETE_IN_PROGRESS", "DELETE_COMPLETE"])
    cloud.existing("UPDATE_IN_PROGRESS", "UPDATE_COMPLETE")
    cloud.stack().delete()
    assert cloud.writes == ["delete"]
    assert cloud.now > 0


def test_deleting_nothing_is_nothing() -> None:
    cloud = ScriptedCloud()
    cloud.stack().delete()
    assert cloud.writes == []


def test_failed_deletion_says_what_stayed() -> None:
    cloud = ScriptedCloud(delete=["DELETE_FAILED"]).existing("CREATE_COMPLETE")
    cloud.events = [
        event("Group", "DELETE_FAILED", "in use"),
        event("x", "DELETE_IN_PROGRESS", "User Initiated", "id"),
    ]
    with pytest.raises(CannotDeleteResourceException, match=r"Group \(AWS::X::Group\): in use"):
        cloud.stack().delete()
