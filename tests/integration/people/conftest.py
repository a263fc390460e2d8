"""Several people with an account each on one embedded cloud, which enforces their IAM policies."""

import json
import secrets
import time
from dataclasses import dataclass, field

import pytest

import cloudknot as ck
from cloudknot.aws.permissions import policies
from cloudknot.aws.permissions.policies import Scope
from cloudknot.deploy.cloudformation.stack import USABLE
from tests.helpers.inventory import inventory
from tests.helpers.waiting import LONG, until

ACCOUNT = "123456789012"


def work(x):
    """Return 1 / x, or sleep. All knots of these tests share this function, and so one image."""
    if x == "sleep":
        # Longer than all tests of a module on a busy machine.
        time.sleep(3600)
    return 1 / x


class Meddled(ck.LocalCloud):
    """A session during which somebody else acts once, right before or right after a call of this session."""

    def __init__(self, directory, operation, act, after=False, **keys):
        super().__init__(directory, **keys)
        self._operation, self._acts, self._after = operation, [act], after

    def call(self, service, operation, **arguments):
        act = self._acts.pop() if operation == self._operation and self._acts else None
        if act and not self._after:
            act()
        answer = super().call(service, operation, **arguments)
        if act and self._after:
            act()
        return answer

    def pages(self, service, operation, **arguments):
        if operation == self._operation and self._acts:
            self._acts.pop()()
        return super().pages(service, operation, **arguments)


@dataclass
class Lab:
    """The cloud of a lab, with the key of its owner, who may do everything."""

    owner: ck.LocalCloud
    keys: dict = field(default_factory=dict)

    def person(self, level, *denied):
        """Return a session of a person with the policy of a level, except for the denied actions."""
        if (level, denied) not in self.keys:
            self.keys[level, denied] = self._new_key(level, denied)
        return ck.LocalCloud(self.owner.directory, **self.keys[level, denied])

    def _new_key(self, level, denied):
        scope = Scope(ACCOUNT, self.owner.region)
        levels = (*policies.needed_with(level), level)
        statements = [part for each in levels for part in policies.policy(each, scope)["Statement"]]
        document = {"Version": "2012-10-17", "Statement": statements}
        if denied:
            statements.append({"Effect": "Deny", "Action": list(denied), "Resource": "*"})
        name, iam = f"person-{secrets.token_hex(4)}", self.owner.client("iam")
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName="cloudknot", PolicyDocument=json.dumps(document))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}

    def knot(self, name, **choices):
        return ck.Knot(name=name, func=work, cloud=self.owner, **choices)

    def running(self, knot):
        """Return the future of a new job that is running."""
        future = knot.map(["sleep"])
        assert until(lambda: future.job.status == "RUNNING")
        # It stores nothing else. Until then, two snapshots would differ by this object.
        assert until(lambda: future.job._cloud.storage.exists(future.job.keys.started_of(0)))
        return future

    def snapshot(self):
        """Return the inventory of the account, with the state of everything that can be stopped or broken."""
        call = self.owner.call
        stacks = call("cloudformation", "describe_stacks")["Stacks"]
        queues = call("batch", "describe_job_queues")["jobQueues"]
        environments = call("batch", "describe_compute_environments")["computeEnvironments"]
        return {
            **inventory(self.owner),
            # An update that AWS has undone leaves the stack as it was, with another status.
            "stack states": sorted(
                (stack["StackId"], "usable" if stack["StackStatus"] in USABLE else stack["StackStatus"])
                for stack in stacks
            ),
            "queue states": sorted((queue["jobQueueName"], queue["state"]) for queue in queues),
            "environment states": sorted((item["computeEnvironmentName"], item["state"]) for item in environments),
        }


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with ck.LocalCloud(tmp_path_factory.mktemp("lab"), vcpus=4, quota=1000, iam=True) as owner:
        yield Lab(owner)


def changes(before, after):
    """Return the differences between two snapshots: what is gone and what is new, by kind."""
    return {
        kind: (sorted({*before[kind]} - {*after[kind]}), sorted({*after[kind]} - {*before[kind]}))
        for kind in before
        if before[kind] != after[kind]
    }


def denial_in(error):
    """Return the `PermissionDeniedError` among an error and its causes, or None."""
    while error is not None and not isinstance(error, ck.PermissionDeniedError):
        error = error.__cause__
    return error


def succeeded(future):
    """Return whether the knot of a future still works: a new job gives its result."""
    return ck.Knot(name=future.job.manifest.knot, cloud=future.job._cloud).map([2]).result(LONG) == [0.5]
