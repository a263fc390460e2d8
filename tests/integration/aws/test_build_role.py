"""The role of the project for builds, which a line of a Dockerfile may use, can do nothing but build."""

import json

import pytest

import cloudknot as ck
from cloudknot.aws.images.codebuild import CONTEXTS
from cloudknot.deploy.codebuild.project import delete_project, make_project
from tests.helpers.waiting import until
from tests.integration.aws.test_permissions import Users, documents


@pytest.fixture(scope="module")
def owner(tmp_path_factory):
    """Yield a cloud that evaluates IAM policies, with the key of its owner, who may do everything."""
    with ck.LocalCloud(tmp_path_factory.mktemp("iam"), vcpus=2, iam=True) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def users(owner):
    return Users(owner)


@pytest.fixture(scope="module")
def project(owner):
    owner.storage.ensure_bucket({})
    repository = owner.repository("cloudknot")
    repository.create()
    yield make_project(owner, repository)
    delete_project(owner)


def build(cloud, project, *commands):
    """Run commands as a build, and return its status and the end of its log."""
    buildspec = json.dumps({"version": 0.2, "phases": {"build": {"commands": commands}}})
    answer = cloud.call("codebuild", "start_build", projectName=project, buildspecOverride=buildspec)

    def ended():
        (build,) = cloud.call("codebuild", "batch_get_builds", ids=[answer["build"]["id"]])["builds"]
        return build if build["buildComplete"] else None

    build = until(ended)
    names = {"logGroupName": build["logs"]["groupName"], "logStreamName": build["logs"]["streamName"]}
    events = cloud.call("logs", "get_log_events", startFromHead=True, **names)["events"]
    return build["buildStatus"], "".join(event["message"] for event in events)


def read(owner, key):
    return (
        f"aws s3api get-object --bucket {owner.bucket} --key {key} --expected-bucket-owner {owner.account} file"
        " && cat file"
    )


def test_role_reads_files_of_builds_and_no_results(owner, project):
    owner.storage.put(f"{CONTEXTS}/files", b"files of a build")
    owner.storage.put("cloudknot.jobs/x/results", b"results")
    status, log = build(owner, project, read(owner, f"{CONTEXTS}/files"))
    assert status == "SUCCEEDED"
    assert "files of a build" in log
    status, log = build(owner, project, read(owner, "cloudknot.jobs/x/results"))
    assert status == "FAILED"
    assert "do not allow s3:get_object" in log
    owner.storage.delete(f"{CONTEXTS}/files", "cloudknot.jobs/x/results")


def test_user_cannot_give_project_another_role(users, owner, project):
    cloud = users.with_policy(documents("build"))
    job_role = ck.Knot(name="shared", func=len, cloud=owner).job_role
    with pytest.raises(ck.PermissionDeniedError, match="iam:PassRole"):
        cloud.call("codebuild", "update_project", name=project, serviceRole=job_role)
    with pytest.raises(ck.PermissionDeniedError, match="iam:PassRole"):
        cloud.call("codebuild", "start_build", projectName=project, serviceRoleOverride=job_role)


def test_user_without_build_policy_starts_no_build(users, project):
    cloud = users.with_policy(documents("create"))
    with pytest.raises(ck.PermissionDeniedError, match="The statement MakeBuilds of the policy"):
        cloud.call("codebuild", "start_build", projectName=project)
