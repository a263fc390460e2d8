"""No request with the credentials of a job does more than its role allows, however the request is written."""

import json
from dataclasses import dataclass

import pytest

from cloudknot.local import LocalCloud
from tests.helpers.raw_requests import Key, key_of, raw, send
from tests.integration.local.attacks import ATTACKS, POLICY, SECRET

TRUST = '{"Statement": [{"Effect": "Allow", "Principal": {"AWS": "123456789012"}, "Action": "sts:AssumeRole"}]}'


@dataclass(frozen=True)
class Scene:
    """A cloud with policies, the owner's key, and the key of a job that may use the bucket ``mine`` only."""

    cloud: LocalCloud
    owner: Key
    job: Key

    def restore(self):
        """Store the secret again, so that each attack could read it."""
        self.cloud.call("s3", "put_object", Bucket="theirs", Key="secret", Body=SECRET)

    def content(self):
        """Return everything that an attack may change."""
        call = self.cloud.call
        buckets = [bucket["Name"] for bucket in call("s3", "list_buckets")["Buckets"]]
        listed = {name: call("s3", "list_objects_v2", Bucket=name).get("Contents", []) for name in buckets}
        return {
            "objects": {name: [(item["Key"], item["ETag"]) for item in items] for name, items in listed.items()},
            "jobs": self.cloud.status().jobs,
            "queues": len(call("batch", "describe_job_queues")["jobQueues"]),
            "users": [user["UserName"] for user in call("iam", "list_users")["Users"]],
            "networks": len(call("ec2", "describe_vpcs")["Vpcs"]),
            "repositories": len(call("ecr", "describe_repositories")["repositories"]),
            "groups": len(call("logs", "describe_log_groups")["logGroups"]),
        }


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    with LocalCloud(tmp_path_factory.mktemp("attacked") / "local", iam=True) as cloud:
        call = cloud.call
        for name in ("mine", "theirs", "empty"):
            call("s3", "create_bucket", Bucket=name)
        call("s3", "put_object", Bucket="mine", Key="k", Body=b"own")
        for name in ("mine", "theirs"):
            call("ecr", "create_repository", repositoryName=name)
            call("logs", "create_log_group", logGroupName=name)
        call("iam", "create_user", UserName="victim")
        role = call("iam", "create_role", RoleName="mine", AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
        policy = json.dumps({"Version": "2012-10-17", "Statement": POLICY})
        call("iam", "put_role_policy", RoleName="mine", PolicyName="rights", PolicyDocument=policy)
        environment = {"computeEnvironmentName": "env", "type": "UNMANAGED", "serviceRole": role}
        call("batch", "create_compute_environment", **environment)
        order = [{"order": 1, "computeEnvironment": "env"}]
        call("batch", "create_job_queue", jobQueueName="queue", priority=1, computeEnvironmentOrder=order)
        container = {"image": "none", "vcpus": 1, "memory": 128, "command": ["true"]}
        definition = {"jobDefinitionName": "definition", "type": "container", "containerProperties": container}
        call("batch", "register_job_definition", **definition)
        # As the endpoint for the credentials of jobs does it.
        session = call("sts", "assume_role", RoleArn=role, RoleSessionName="cloudknot-job")["Credentials"]
        owner = key_of(cloud)
        job = Key(owner.host, session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"])
        scene = Scene(cloud, owner, job)
        scene.restore()
        yield scene


@pytest.mark.parametrize(
    ("method", "uri", "body", "choices"),
    [
        ("GET", "/mine/k", b"", {}),
        ("PUT", "/mine/k", b"own", {}),
        ("GET", "/mine?list-type=2&prefix=k", b"", {}),
        ("POST", "/", b"Action=GetCallerIdentity", {"service": "sts"}),
        ("GET", "/?Action=GetCallerIdentity", b"", {"service": "sts"}),
        ("POST", "/", b"Action=DescribeVpcs", {"service": "ec2"}),
    ],
)
def test_allowed_requests_in_the_same_form_succeed(scene, method, uri, body, choices):
    assert send(scene.owner.host, scene.job.request(method, uri, body=body, **choices)).status == 200


def test_signed_query_succeeds(scene):
    answer = send(scene.owner.host, raw("GET", scene.job.presigned("GET", "/mine/k"), ("Host", scene.owner.host))())
    assert answer.body == b"own"


def outcome(scene, attack, before):
    """Make an attack. Return "refused", or what it achieved."""
    answer = send(scene.owner.host, attack.make(scene.job))
    if SECRET in answer.body or b"<Key>secret</Key>" in answer.body:
        return "read"
    if answer.is_refusal:
        return "refused"
    return "changed" if scene.content() != before else f"HTTP {answer.status}"


def test_attacks_are_refused_and_read_and_change_nothing(scene):
    before = scene.content()
    outcomes = {}
    for attack in ATTACKS:
        outcomes[attack.name] = outcome(scene, attack, before)
        if outcomes[attack.name] == "changed":
            scene.restore()
            before = scene.content()
    print("\n".join(f"{name:70} {result}" for name, result in outcomes.items()))
    assert len(outcomes) == len(ATTACKS) >= 60
    assert {name: result for name, result in outcomes.items() if result != "refused"} == {}
    # An attack may be refused and still leave something behind.
    assert scene.content() == before
