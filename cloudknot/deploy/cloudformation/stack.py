"""Create, adopt, update and delete one CloudFormation stack.

CloudFormation is the only record of existing resources. A stack's own parameters show whether it is up to date.
This module does not know the resources of a stack. The templates and the modules that own them define those.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NoReturn, TypedDict

from cloudknot.aws import clients
from cloudknot.aws.permissions.denials import advice, denial_in
from cloudknot.aws.tags import tag_list
from cloudknot.deploy.cloudformation.stack_errors import denied_resources, failures
from cloudknot.deploy.cloudformation.template import DIGEST, Template, is_same
from cloudknot.errors import (
    CannotCreateResourceException,
    CannotDeleteResourceException,
    CKTimeoutError,
    CloudError,
    PermissionDeniedError,
    ResourceExistsException,
    refuse,
)

if TYPE_CHECKING:
    from types_boto3_cloudformation import CloudFormationClient
    from types_boto3_cloudformation.type_defs import ParameterTypeDef, StackEventTypeDef, StackTypeDef

    from cloudknot.aws.cloud import Cloud

TIMEOUT = 1800.0
"""Longest wait in seconds for a creation, an update or a deletion."""
FIRST_POLL, LONGEST_POLL, OVERLAP = 0.1, 10.0, 1.0
"""Seconds between two reads of a stack: the first pause, the longest, and the one after updating a shared stack."""
GONE, DELETING, DELETE_FAILED = "DELETE_COMPLETE", "DELETE_IN_PROGRESS", "DELETE_FAILED"
USABLE = {
    "CREATE_COMPLETE",
    "UPDATE_COMPLETE",
    "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS",
    "UPDATE_ROLLBACK_COMPLETE",
    "IMPORT_COMPLETE",
    "IMPORT_ROLLBACK_COMPLETE",
}
# cloudknot does not delete such a stack by itself, because its jobs may still be running.
STUCK = {"UPDATE_FAILED", "UPDATE_ROLLBACK_FAILED"}
"""Statuses of a stack that CloudFormation can neither change nor roll back. Its resources may still work."""


@dataclass(frozen=True)
class StackState:
    """A stack as DescribeStacks reported it."""

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
        """Return the state in one entry of the answer to DescribeStacks."""
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
    def account(self) -> str:
        """The number of the AWS account, from the stack's id."""
        return self.stack_id.split(":")[4]

    @property
    def usable(self) -> bool:
        return self.status in USABLE

    @property
    def in_progress(self) -> bool:
        """Whether CloudFormation is working on the stack."""
        # UPDATE_COMPLETE_CLEANUP_IN_PROGRESS is usable already. REVIEW_IN_PROGRESS is an abandoned change set, which
        # never ends by itself.
        return not self.usable and self.status.endswith("_IN_PROGRESS") and self.status != "REVIEW_IN_PROGRESS"


Parameters = Mapping[str, str] | Callable[[StackState | None], Mapping[str, str]]


class Stack:
    """One CloudFormation stack.

    Parameters
    ----------
    cloud : Cloud
    name : str
    timeout : float
        Longest wait of one method, in seconds.
    clock : callable
        Returns the current time in seconds.
    sleep : callable
        Waits for a number of seconds.
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
        """Return the stack's current state; None when it does not exist."""
        try:
            answer = self._client.describe_stacks(StackName=stack_id or self.name)
        except CloudError as error:
            if "does not exist" in str(error):
                return None
            raise
        state = StackState.of(answer["Stacks"][0])
        return None if state.status == GONE else state

    def deploy(self, template: Template, parameters: Parameters, *, ignore: Collection[str] = ()) -> StackState:
        """Read the stack's state, then create, adopt or update it as `deploy_from` does."""
        return self.deploy_from(self.state(), template, parameters, ignore=ignore)

    def deploy_from(
        self,
        state: StackState | None,
        template: Template,
        parameters: Parameters,
        *,
        ignore: Collection[str] = (),
        merges: bool = True,
    ) -> StackState:
        """Create, adopt or update the stack, and return its state once it is up to date.

        An up-to-date stack is adopted without a change. While another session changes the stack, this session waits
        and then reads it again. The remains of a failed creation are deleted, and the stack is created anew.

        Parameters
        ----------
        state : StackState or None
            A recent answer of `state`. The stack is read again before an update, and after an answer of AWS that
            contradicts it.
        template : Template
            At creation, every resource gets its tags. An update keeps the stack's tags, because Batch cannot change
            those of a compute environment, and a template of the user's own, unless this one was chosen.
        parameters : mapping or callable
            Every parameter of the template except its digest. A callable returns them for the existing usable stack,
            or for None.
        ignore : collection of str
            Parameters that cause no update when they alone differ.
        merges : bool
            Whether a callable adds to the parameters of other sessions. If not, and another session changes the stack
            right after this one, that session's parameters count, and the returned state has them.

        Raises
        ------
        CannotCreateResourceException
            Resources failed; the message names them with AWS's reasons. No incomplete stack remains.
        CKTimeoutError
            The work took longer than this stack's timeout.
        """
        deadline = self._clock() + self._timeout
        while True:
            if state is not None and state.in_progress:
                # CloudFormation finishes the creation of a killed session. So wait and adopt.
                self._until_idle(state, deadline)
            elif state is not None and state.status in STUCK:
                # Perhaps only the person who began the change lacked a permission to undo it.
                self._roll_back(state, (), deadline)
            elif state is not None and not state.usable:
                self._remove(state, deadline)
            elif state is None:
                if stack_id := self._create(template, _wanted(template, parameters, None)):
                    return self._created(stack_id, deadline)
            elif _up_to_date(state, wanted := _wanted(template, parameters, state), template, ignore):
                return state
            elif (latest := self.state()) != state:
                # An update from an outdated state would undo the other session's change, so compute it again.
                state = latest
                continue
            elif changed := self._change(state, template, wanted, deadline, callable(parameters), merges):
                return changed
            state = self.state()

    def check_template(self, template: Template) -> None:
        """Let AWS check a template. Does nothing without the permission for that: AWS also checks it at its use.

        Raises
        ------
        CloudknotInputError
            AWS does not accept the template. The message has AWS's reason.
        """
        try:
            self._client.validate_template(TemplateBody=template.body)
        except PermissionDeniedError:
            return
        except CloudError as error:
            if error.code != "ValidationError":
                raise
            answer = getattr(error.__cause__, "response", {}).get("Error", {}).get("Message") or str(error)
            refuse(
                problem="AWS does not accept the template that template= names. Nothing was created.",
                cause=f"AWS reports: {answer.rstrip('. ')}.",
                fix="Correct the file. `cfn-lint` finds such mistakes: `pip install cfn-lint`, then `cfn-lint FILE`.",
            )

    def delete(self, stack_id: str | None = None, meanwhile: Callable[[], None] = lambda: None) -> bool:
        """Delete the stack and wait until it is gone. Return whether there was one.

        Parameters
        ----------
        stack_id : str, optional
            Delete only the stack with this id, and leave a newer one of the same name unchanged. Default: the stack
            that has the name now.
        meanwhile : callable
            Called after AWS has accepted the deletion, and again at each look at the stack.

        Raises
        ------
        CannotDeleteResourceException
            Resources remain; the message names them with AWS's reasons.
        PermissionDeniedError
            The credentials do not allow the deletion. The stack is unchanged.
        """
        deadline = self._clock() + self._timeout
        state = self.state(stack_id)
        if state is None:
            return False
        # CloudFormation accepts the deletion of a stack during its creation, but not during an update.
        if state.in_progress and not state.status.startswith("CREATE"):
            state = self._until_idle(state, deadline, meanwhile)
        if state is not None:
            self._remove(state, deadline, meanwhile)
        return True

    def _create(self, template: Template, parameters: Mapping[str, str]) -> str | None:
        """Start the creation, and return the id of the new stack; None when another session was faster."""
        try:
            answer = self._client.create_stack(
                StackName=self.name,
                TemplateBody=template.body,
                Parameters=_parameter_list(parameters),
                Tags=tag_list(template.tags),
                Capabilities=["CAPABILITY_NAMED_IAM"],
                ClientRequestToken=_token(),
            )
        except ResourceExistsException:
            return None
        return answer["StackId"]

    def _created(self, stack_id: str, deadline: float) -> StackState:
        """Wait for the end of a creation; delete the stack and raise if it failed."""
        # By id, because another session may delete this stack and create one of the same name.
        state = self._until_idle(self.state(stack_id), deadline)
        if state is not None and state.usable:
            return state
        reasons = self._reasons(state)
        if state is not None:
            # A failed creation blocks the name: CloudFormation lets nobody update such a stack.
            self._remove(state, deadline)
        raise CannotCreateResourceException(
            f"The AWS resources in stack {self.name} could not be created. The incomplete stack was deleted. "
            f"{reasons}{_advice(reasons)} Fix the cause, then try again.",
            operation="cloudformation:create_stack",
            resource_id=self.name,
        ) from denial_in(reasons)

    def _change(
        self,
        state: StackState,
        template: Template,
        wanted: Mapping[str, str],
        deadline: float,
        shared: bool,
        merges: bool,
    ) -> StackState | None:
        """Update the stack and return its new state; None when the caller has to read the stack again."""
        accepted = self._update(state, template, wanted)
        if accepted is None:
            # CloudFormation refuses an update that changes no resource. Then only comments or outputs differ, unless
            # another session has made the same update in the meantime.
            return state if self.state() == state else None
        updated = self._updated(state, deadline) if accepted else None
        if updated is not None and not shared:
            return updated
        # Another session may have read a shared stack before this update, and may now send an update without this
        # session's parameters. So read the stack once more after a pause.
        self._pause(deadline, OVERLAP if accepted else LONGEST_POLL)
        # Without a merge, two sessions would undo each other's changes forever.
        if updated is None or merges:
            return None
        latest = self._until_idle(self.state(state.stack_id), deadline)
        return latest if latest is not None and latest.usable else None

    def _update(self, state: StackState, template: Template, parameters: Mapping[str, str]) -> bool | None:
        """Start the update.

        Return False while another session is changing the stack, and None when the update would change no resource.
        """
        try:
            self._client.update_stack(
                StackName=state.stack_id,
                **_new_content(state, template, parameters),
                Tags=tag_list(state.tags),
                Capabilities=["CAPABILITY_NAMED_IAM"],
                ClientRequestToken=_token(),
            )
        except CloudError as error:
            if "IN_PROGRESS" in str(error):
                return False
            if "No updates" in str(error):
                return None
            raise
        return True

    def _updated(self, before: StackState, deadline: float) -> StackState:
        """Wait for the end of an update; raise if it failed."""
        state = self._until_idle(self.state(before.stack_id), deadline)
        if state is not None and state.usable and "ROLLBACK" not in state.status:
            return state
        reasons = self._reasons(state)
        if state is not None and state.status in STUCK:
            # A denied call changed nothing, so its resource needs no rollback. Without this step, a person's update
            # without the permission for it would block the stack for everybody.
            denied = denied_resources(self._events(state), state.stack_id)
            if not denied:
                self._raise_stuck(state)
            self._roll_back(state, denied, deadline)
        undone = "AWS undid the change. " if state else ""
        raise CannotCreateResourceException(
            f"The AWS resources in stack {self.name} could not be changed. {undone}"
            f"{reasons}{_advice(reasons)} Fix the cause, then try again.",
            operation="cloudformation:update_stack",
            resource_id=self.name,
        ) from denial_in(reasons)

    def _roll_back(self, state: StackState, skipped: Sequence[str], deadline: float) -> None:
        """Let CloudFormation finish a rollback that failed, except for the ``skipped`` resources.

        Raises
        ------
        CannotCreateResourceException
            The rollback failed again, or the credentials do not allow it.
        """
        try:
            self._client.continue_update_rollback(
                StackName=state.stack_id, ResourcesToSkip=skipped, ClientRequestToken=_token()
            )
        except CloudError as error:
            # Without a code, AWS did not answer.
            if not error.code:
                raise
            self._raise_stuck(state)
        finished = self._until_idle(self.state(state.stack_id), deadline)
        if finished is not None and finished.status in STUCK:
            # The rollback stops at the first resource whose old state these credentials may not restore, for example
            # a role without the permissions boundary that the update gave to it.
            denied = [name for name in denied_resources(self._events(finished), state.stack_id) if name not in skipped]
            if not denied:
                self._raise_stuck(finished)
            self._roll_back(finished, denied, deadline)

    def _raise_stuck(self, state: StackState) -> NoReturn:
        reasons = self._reasons(state)
        # Without a reason from AWS, `_reasons` names the status.
        status = "" if state.status in reasons else f" ({state.status})"
        raise CannotCreateResourceException(
            f"AWS can no longer change the resources in stack {self.name}{status}: a change failed, and "
            f"undoing it failed, too. {reasons}{_advice(reasons)} Delete the resources with "
            f"`{self._cloud.command('clobber NAME')}`. This ends jobs but keeps results. "
            f"`{self._cloud.command('list')}` shows the names. Then try again.",
            operation="cloudformation:update_stack",
            resource_id=self.name,
        ) from denial_in(reasons)

    def _remove(self, state: StackState, deadline: float, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Delete the stack and wait until it is gone."""
        # By id: another session may have deleted the stack since it was read, and created one of the same name. AWS
        # then does nothing.
        self._client.delete_stack(StackName=state.stack_id, ClientRequestToken=_token())
        remaining = self._until_idle(self.state(state.stack_id), deadline, meanwhile)
        if remaining is not None:
            reasons = self._reasons(remaining)
            raise CannotDeleteResourceException(
                f"Some AWS resources in stack {self.name} could not be deleted. "
                f"{reasons}{_advice(reasons)} Fix the cause, then try again to delete the rest.",
                operation="cloudformation:delete_stack",
                resource_id=self.name,
            ) from denial_in(reasons)

    def _until_idle(
        self, state: StackState | None, deadline: float, meanwhile: Callable[[], None] = lambda: None
    ) -> StackState | None:
        """Wait until CloudFormation has stopped working on the stack, and return its state.

        ``meanwhile`` is called at each look that finds the stack deleted, in whole or in part.
        """
        wait = FIRST_POLL
        while True:
            if state is None or state.status in (DELETING, DELETE_FAILED):
                meanwhile()
            if state is None or not state.in_progress:
                return state
            self._pause(deadline, wait, f" Its status is {state.status}.")
            wait = min(wait * 1.5, LONGEST_POLL)
            state = self.state(state.stack_id)

    def _pause(self, deadline: float, wait: float, status: str = "") -> None:
        if self._clock() + wait > deadline:
            raise CKTimeoutError(
                f"The AWS resources in stack {self.name} were not ready within {self._timeout:g} s.{status} AWS keeps "
                "working on them. Call again to wait longer."
            )
        self._sleep(wait)

    def _reasons(self, state: StackState | None) -> str:
        """Return AWS's reasons for a failed operation, and advice for common ones; None stands for a deleted stack."""
        if state is None:
            return "Somebody deleted the stack meanwhile."
        reason = (state.reason or f"the status is {state.status}").rstrip(". ")
        return f"AWS reports: {failures(self._events(state), state.stack_id) or f'{reason}.'}"

    def _events(self, state: StackState) -> Iterator[StackEventTypeDef]:
        """Yield the events of the stack, newest first."""
        for page in self._client.get_paginator("describe_stack_events").paginate(StackName=state.stack_id):
            yield from page["StackEvents"]


class _Content(TypedDict, total=False):
    """The arguments of UpdateStack for the template and its parameters."""

    TemplateBody: str
    UsePreviousTemplate: bool
    Parameters: Sequence[ParameterTypeDef]


def _wanted(template: Template, parameters: Parameters, state: StackState | None) -> dict[str, str]:
    """Return all parameters of the stack, the template's digest included."""
    values = parameters if isinstance(parameters, Mapping) else parameters(state)
    current = state.parameters if state else {}
    kept = template.is_kept_by(current)
    if kept or template.custom:
        # A newer version of cloudknot may have parameters that a template of the user's own does not declare.
        declared = current if kept else template.declared
        values = {name: value for name, value in values.items() if name in declared}
    return {**values, DIGEST: template.digest_in(current)}


def _new_content(state: StackState, template: Template, parameters: Mapping[str, str]) -> _Content:
    """Return the template and the parameters of an update."""
    given = _parameter_list(parameters)
    if not template.is_kept_by(state.parameters):
        return {"TemplateBody": template.tagged(state.tags).body, "Parameters": given}
    # Without their previous value, CloudFormation sets parameters to their defaults.
    others = [name for name in state.parameters if name not in parameters]
    previous: list[ParameterTypeDef] = [{"ParameterKey": name, "UsePreviousValue": True} for name in others]
    return {"UsePreviousTemplate": True, "Parameters": [*given, *previous]}


def _token() -> str:
    """Return a new token, by which AWS recognises the repetition of a request whose answer was lost."""
    return f"cloudknot-{uuid.uuid4()}"


def _parameter_list(parameters: Mapping[str, str]) -> list[ParameterTypeDef]:
    return [{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()]


def _up_to_date(state: StackState, wanted: Mapping[str, str], template: Template, ignore: Collection[str]) -> bool:
    # A stack without a new parameter has its default.
    current = {**template.defaults, **state.parameters}
    same_template = is_same(state.parameters.get(DIGEST), wanted[DIGEST])
    return same_template and all(
        current.get(key) == value for key, value in wanted.items() if key not in ignore and key != DIGEST
    )


def _advice(reasons: str) -> str:
    """Return advice on a denied call among the reasons, after a blank; empty when AWS denied none."""
    return f" {advice(reasons)}".rstrip()
