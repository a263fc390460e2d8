"""Stack: a CloudFormation template and its parameters -> deployed, adopted, updated, deleted.

CloudFormation is the only record of what exists: whether a stack is as it is wanted is read from its own parameters.
Which resources there are, and what they mean, is the business of the templates and of the modules that own them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from cloudknot.aws import clients
from cloudknot.aws.permissions.denials import advice, denial_in
from cloudknot.aws.tags import tag_list
from cloudknot.deploy.cloudformation.stack_errors import failures
from cloudknot.deploy.cloudformation.template import DIGEST, Template
from cloudknot.errors import (
    CannotCreateResourceException,
    CannotDeleteResourceException,
    CKTimeoutError,
    CloudError,
    ResourceExistsException,
)

if TYPE_CHECKING:
    from types_boto3_cloudformation import CloudFormationClient
    from types_boto3_cloudformation.type_defs import ParameterTypeDef, StackTypeDef

    from cloudknot.aws.cloud import Cloud

TIMEOUT = 1800.0
"""Seconds that a creation, an update or a deletion is waited for."""
FIRST_POLL, LONGEST_POLL, OVERLAP = 0.1, 10.0, 1.0
"""Seconds between two looks at a stack: at first, at most, and after an update of one that sessions share."""
GONE = "DELETE_COMPLETE"
USABLE = {
    "CREATE_COMPLETE",
    "UPDATE_COMPLETE",
    "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS",
    "UPDATE_ROLLBACK_COMPLETE",
    "IMPORT_COMPLETE",
    "IMPORT_ROLLBACK_COMPLETE",
}
STUCK = {"UPDATE_FAILED", "UPDATE_ROLLBACK_FAILED"}
"""States of a stack that works but that CloudFormation changes no more; whether to remove it is for people to say."""


@dataclass(frozen=True)
class StackState:
    """What CloudFormation says of a stack."""

    stack_id: str
    status: str
    reason: str
    parameters: Mapping[str, str]
    outputs: Mapping[str, str]
    tags: Mapping[str, str]
    name: str = ""
    description: str = ""
    created: datetime | None = None

    @classmethod
    def of(cls, answer: StackTypeDef) -> StackState:
        """From one entry of the answer to DescribeStacks."""
        return cls(
            stack_id=answer.get("StackId", ""),
            status=answer["StackStatus"],
            reason=answer.get("StackStatusReason", ""),
            parameters={
                item.get("ParameterKey", ""): item.get("ParameterValue", "") for item in answer.get("Parameters", ())
            },
            outputs={item.get("OutputKey", ""): item.get("OutputValue", "") for item in answer.get("Outputs", ())},
            tags={item["Key"]: item["Value"] for item in answer.get("Tags", ())},
            name=answer.get("StackName", ""),
            description=answer.get("Description", ""),
            created=answer.get("CreationTime"),
        )

    @property
    def usable(self) -> bool:
        return self.status in USABLE

    @property
    def moving(self) -> bool:
        """Whether CloudFormation is at work on it; an abandoned change set (REVIEW_IN_PROGRESS) never moves."""
        return not self.usable and self.status.endswith("_IN_PROGRESS") and self.status != "REVIEW_IN_PROGRESS"


Parameters = Mapping[str, str] | Callable[[StackState | None], Mapping[str, str]]


class Stack:
    """One CloudFormation stack.

    Parameters
    ----------
    cloud : Cloud
    name : str
    timeout : float
        Seconds that one of its methods waits at most.
    clock, sleep : callable
        Seconds now, and a wait of some seconds.
    """

    def __init__(
        self,
        cloud: Cloud,
        name: str,
        *,
        timeout: float = TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._cloud, self.name = cloud, name
        self._timeout, self._clock, self._sleep = timeout, clock, sleep

    @property
    def _client(self) -> CloudFormationClient:
        return clients.cloudformation(self._cloud)

    def state(self, stack_id: str | None = None) -> StackState | None:
        """What is there now; None when there is no such stack."""
        try:
            answer = self._client.describe_stacks(StackName=stack_id or self.name)
        except CloudError as error:
            if "does not exist" in str(error):
                return None
            raise
        state = StackState.of(answer["Stacks"][0])
        return None if state.status == GONE else state

    def deploy(self, template: Template, parameters: Parameters, *, free: Collection[str] = ()) -> StackState:
        """Look at the stack, and make it as it is wanted: see `deploy_from`."""
        return self.deploy_from(self.state(), template, parameters, free=free)

    def deploy_from(
        self,
        state: StackState | None,
        template: Template,
        parameters: Parameters,
        *,
        free: Collection[str] = (),
    ) -> StackState:
        """Make the stack as it is wanted, and wait until it is: create, adopt or update it.

        A stack that is as wanted is adopted by reading alone. One that another session is making or changing is waited
        for, and read again. What an earlier failure left half made is removed and made again.

        Parameters
        ----------
        state : StackState or None
            What `state` said a moment ago. It is read again before an update, and where AWS's answer contradicts it.
        template : Template
            Its tags are put on every resource at creation. An update keeps those that the stack has: Batch cannot
            change a compute environment's.
        parameters : mapping or callable
            Every parameter of the template but its digest; or what gives them for the usable stack there is, or None.
        free : collection of str
            Parameters in which a difference alone is no reason for an update.

        Raises
        ------
        CannotCreateResourceException
            With the resources that failed and why. Nothing half made is left.
        CKTimeoutError
            It took longer than this Stack's timeout.
        """
        deadline = self._clock() + self._timeout
        while True:
            if state is not None and state.moving:
                self._settle(state, deadline)
            elif state is not None and state.status in STUCK:
                raise self._stuck(state)
            elif state is not None and not state.usable:
                self._remove(state, deadline)
            elif state is None:
                if self._create(template, _wanted(template, parameters, None)):
                    return self._made(deadline)
            elif _as_wanted(state, wanted := _wanted(template, parameters, state), free):
                return state
            elif (latest := self.state()) != state:
                state = latest  # Changed while this session found out what it needs: what it knows is out of date.
                continue
            elif changed := self._change(state, template, wanted, deadline, shared=callable(parameters)):
                return changed
            state = self.state()

    def delete(self) -> None:
        """Delete the stack and wait until it is gone; without one there is nothing to do.

        Raises `CannotDeleteResourceException` with the resources that stayed and why.
        """
        deadline = self._clock() + self._timeout
        state = self.state()
        if state is not None and state.moving and not state.status.startswith("CREATE"):
            state = self._settle(state, deadline)
        if state is not None:
            self._remove(state, deadline)

    def _create(self, template: Template, parameters: Mapping[str, str]) -> bool:
        """Begin the creation; False when somebody else was faster."""
        try:
            self._client.create_stack(
                StackName=self.name,
                TemplateBody=template.body,
                Parameters=_listed(parameters),
                Tags=tag_list(template.tags),
                Capabilities=["CAPABILITY_NAMED_IAM"],
            )
        except ResourceExistsException:
            return False
        return True

    def _made(self, deadline: float) -> StackState:
        settled = self._settle(self.state(), deadline)
        if settled is not None and settled.usable:
            return settled
        failures = self._failures(settled) if settled else "it was deleted meanwhile"
        if settled is not None:
            self._remove(settled, deadline)
        raise CannotCreateResourceException(
            f"The stack {self.name} could not be made, and was removed again: {failures}.{_advice(failures)} "
            "Correct the cause and call again.",
            operation="cloudformation:create_stack",
        ) from denial_in(failures)

    def _change(
        self, state: StackState, template: Template, wanted: Mapping[str, str], deadline: float, *, shared: bool
    ) -> StackState | None:
        """Update the stack; None when it has to be looked at again."""
        begun = self._update(state, template, wanted)
        if begun is None:
            # All that differs is text or an output, unless somebody else was faster.
            return state if self.state() == state else None
        updated = self._updated(state, deadline) if begun else None
        if updated is None or shared:
            self._pause(deadline, OVERLAP if begun else LONGEST_POLL)  # Who had looked before may update without this.
            return None
        return updated

    def _update(self, state: StackState, template: Template, parameters: Mapping[str, str]) -> bool | None:
        """Begin the update; False when somebody else is changing the stack, None when no resource would change."""
        try:
            self._client.update_stack(
                StackName=state.stack_id,
                TemplateBody=template.tagged(state.tags).body,
                Parameters=_listed(parameters),
                Tags=tag_list(state.tags),
                Capabilities=["CAPABILITY_NAMED_IAM"],
            )
        except CloudError as error:
            if "IN_PROGRESS" in str(error):
                return False
            if "No updates" in str(error):
                return None
            raise
        return True

    def _updated(self, before: StackState, deadline: float) -> StackState:
        settled = self._settle(self.state(before.stack_id), deadline)
        if settled is not None and settled.usable and "ROLLBACK" not in settled.status:
            return settled
        failures = self._failures(settled) if settled else "it was deleted meanwhile"
        raise CannotCreateResourceException(
            f"The stack {self.name} could not be changed and is as it was: {failures}.{_advice(failures)} "
            "Correct the cause and call again.",
            operation="cloudformation:update_stack",
        ) from denial_in(failures)

    def _stuck(self, state: StackState) -> CannotCreateResourceException:
        return CannotCreateResourceException(
            f"The stack {self.name} cannot be changed any more: an earlier change failed, and so did going back "
            f"({state.status}: {self._failures(state)}). Clobber it, which ends its jobs but keeps results, and call "
            "again.",
            operation="cloudformation:update_stack",
        )

    def _remove(self, state: StackState, deadline: float) -> None:
        self._client.delete_stack(StackName=state.stack_id)
        left = self._settle(self.state(state.stack_id), deadline)
        if left is not None:
            failures = self._failures(left)
            raise CannotDeleteResourceException(
                f"The stack {self.name} could not be deleted: {failures}.{_advice(failures)} "
                "Delete what holds it, and call again.",
                operation="cloudformation:delete_stack",
            ) from denial_in(failures)

    def _settle(self, state: StackState | None, deadline: float) -> StackState | None:
        """Wait until CloudFormation is no longer at work on the stack."""
        wait = FIRST_POLL
        while state is not None and state.moving:
            self._pause(deadline, wait, f"; its status is {state.status}")
            wait = min(wait * 1.5, LONGEST_POLL)
            state = self.state(state.stack_id)
        return state

    def _pause(self, deadline: float, wait: float, status: str = "") -> None:
        if self._clock() + wait > deadline:
            raise CKTimeoutError(
                f"The stack {self.name} was not ready within {self._timeout:g} s{status}. CloudFormation goes on "
                "with it; call again to wait for it."
            )
        self._sleep(wait)

    def _failures(self, state: StackState) -> str:
        """The resources that failed in the last operation, AWS's reasons, and what they mean."""
        pages = self._client.get_paginator("describe_stack_events").paginate(StackName=state.stack_id)
        rows = (row for page in pages for row in page["StackEvents"])
        return failures(rows, state.stack_id) or state.reason or f"its status is {state.status}"


def _wanted(template: Template, parameters: Parameters, state: StackState | None) -> dict[str, str]:
    given = parameters if isinstance(parameters, Mapping) else parameters(state)
    return {**given, DIGEST: template.digest}


def _listed(parameters: Mapping[str, str]) -> list[ParameterTypeDef]:
    return [{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()]


def _as_wanted(state: StackState, wanted: Mapping[str, str], free: Collection[str]) -> bool:
    return all(state.parameters.get(key) == value for key, value in wanted.items() if key not in free)


def _advice(failures: str) -> str:
    """What to do about a denied call among the failures, with a blank before it; empty when none was denied."""
    return f" {advice(failures)}".rstrip()
