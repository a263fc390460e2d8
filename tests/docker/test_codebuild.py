"""A session without a Docker engine builds images on CodeBuild, and jobs run in them.

The embedded cloud runs the builds with its own engine. So the calls, the files and the buildspec are those for AWS.
"""

import base64
import json
import secrets
import subprocess
import sys
import threading

import pytest

import cloudknot as ck
from cloudknot.aws.images.codebuild import CONTEXTS
from cloudknot.aws.permissions import policies
from cloudknot.aws.permissions.policies import Scope
from cloudknot.deploy.account.resources import find_resources, remove
from cloudknot.deploy.codebuild.project import delete_project
from cloudknot.deploy.inventory import BUILDS
from tests.helpers.inventory import inventory
from tests.helpers.paths import ROOT
from tests.helpers.waiting import LONG, until

ENGINE = "unix:///no/engine.sock"
"""The address of no engine."""


@pytest.fixture(scope="module")
def owner(machine, tmp_path_factory):
    """Yield a cloud that enforces policies. It has an engine, because it starts before a test hides that."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in machine.login.items():
            patch.setenv(name, value)
        owner = ck.LocalCloud(
            tmp_path_factory.mktemp("iam"), vcpus=2, runner="docker", registry=machine.registry, iam=True
        )
        owner.start()
    with owner:
        yield owner


@pytest.fixture(autouse=True)
def without_engine(monkeypatch, cloud):
    """Take the engine away from this session. The cloud, which runs already, keeps it."""
    monkeypatch.setenv("DOCKER_HOST", ENGINE)
    monkeypatch.setenv("CLOUDKNOT_PROGRESS", "0")


@pytest.fixture
def knot(cloud, machine):
    """Return a function that creates knots with a repository and a Pars of their own, all removed afterwards."""
    suffix = secrets.token_hex(3)
    pars, repository, knots = ck.Pars(f"builds-{suffix}", cloud=cloud), f"builds-{suffix}", []

    def make(func, **choices):
        choices = {"base_image": machine.base_image, **choices}
        knots.append(
            ck.Knot(name=f"builds-{suffix}", func=func, pars=pars, repo_name=repository, cloud=cloud, **choices)
        )
        return knots[-1]

    yield make
    for made in knots[-1:]:
        made.clobber()
    pars.clobber()
    cloud.repository(repository).clobber()


def builds(cloud):
    return cloud.call("codebuild", "list_builds_for_project", projectName=BUILDS)["ids"]


def read(path):
    with open(path) as file:
        return file.read()


def test_image_with_lines_is_built_without_engine_and_jobs_run_in_it(cloud, knot):
    line = f"RUN echo {secrets.token_hex(8)} > /made"
    made = knot(read, dockerfile_lines=line)
    assert made.map(["/made"]).result(LONG) == [f"{line.split()[2]}\n"]
    before = builds(cloud)
    # A new function needs no build, because the image with the lines exists.
    again = knot(lambda path: read(path).strip(), dockerfile_lines=line)
    assert again.map(["/made"]).result(LONG) == [line.split()[2]]
    assert builds(cloud) == before
    assert list(cloud.storage.keys(f"{CONTEXTS}/")) == []


def test_log_and_description_of_build_have_no_login(cloud, knot, machine):
    knot(read, dockerfile_lines=f"RUN echo {secrets.token_hex(8)}")
    (described,) = cloud.call("codebuild", "batch_get_builds", ids=builds(cloud)[:1])["builds"]
    log = _log(cloud, described["id"])
    assert "Login Succeeded" in log
    encoded = base64.b64encode(f"{machine.username}:{machine.password}".encode()).decode()
    secret = cloud.environment()["AWS_SECRET_ACCESS_KEY"]
    assert not [text for text in (machine.password, encoded, secret) if text in log + str(described)]


def test_edited_dockerfile_is_built_without_engine(knot, tmp_path, machine):
    image = ck.DockerImage(func=read, dir_name=tmp_path / "d", base_image=machine.base_image)
    image.docker_path.write_text(image.docker_path.read_text() + "COPY data.txt /\n")
    (tmp_path / "d" / "data.txt").write_text("data")
    made = knot(None, docker_image=image, base_image=None)
    assert made.map(["/data.txt"]).result(LONG) == ["data"]


def test_failed_line_raises_same_error_as_engine(cloud, knot):
    with pytest.raises(ck.ImageError) as caught:
        # All output goes to stderr, because the engine reads stdout and stderr separately and mixes them in any order.
        knot(read, dockerfile_lines=["RUN echo first", "RUN echo second >&2 && ls /none"])
    text = str(caught.value)
    assert "The failed instruction of the Dockerfile:\n    RUN echo second >&2 && ls /none\n" in text
    assert "The end of its log:\nsecond\nls: cannot access '/none': No such file or directory\n" in text
    assert "\nCorrect dockerfile_lines=" in text
    assert list(cloud.storage.keys(f"{CONTEXTS}/")) == []


def test_base_image_with_other_python_raises_same_error_as_engine(knot, tmp_path, machine):
    image = ck.DockerImage(func=read, dir_name=tmp_path / "d", base_image=machine.base_image)
    image.docker_path.write_text(
        f"FROM {machine.base_image}\nRUN printf '#!/bin/sh\\nexit 3\\n' > /usr/local/bin/python"
        " && chmod +x /usr/local/bin/python\nCOPY . /opt/cloudknot\n"
    )
    with pytest.raises(ck.ImageError, match="The program was pickled by Python"):
        knot(None, docker_image=image, base_image=None)


SESSION = """
import os, sys
import cloudknot as ck
from tests.docker import machine
cloud = ck.LocalCloud(sys.argv[1])
ck.Knot(name=sys.argv[2], func=len, base_image=sys.argv[3], repo_name=sys.argv[2], cloud=cloud,
        dockerfile_lines="RUN sleep 300")
"""


def test_interrupt_stops_build_and_deletes_its_files(cloud, machine):
    name = f"interrupted-{secrets.token_hex(3)}"
    command = [sys.executable, "-c", SESSION, str(cloud.directory), name, machine.base_image]
    session = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        (build,) = until(lambda: _running(cloud), LONG)
        until(lambda: "RUN sleep" in _log(cloud, build), LONG)
        session.send_signal(2)
        assert session.wait(60) != 0
        until(lambda: not _running(cloud), 30)
        assert list(cloud.storage.keys(f"{CONTEXTS}/")) == []
    finally:
        session.kill()
        session.communicate()


def _running(cloud):
    if BUILDS not in cloud.call("codebuild", "list_projects")["projects"] or not builds(cloud):
        return []
    described = cloud.call("codebuild", "batch_get_builds", ids=builds(cloud))["builds"]
    return [build["id"] for build in described if build["buildStatus"] == "IN_PROGRESS"]


def _log(cloud, build):
    (described,) = cloud.call("codebuild", "batch_get_builds", ids=[build])["builds"]
    names = {"logGroupName": described["logs"]["groupName"], "logStreamName": described["logs"]["streamName"]}
    return "".join(event["message"] for event in cloud.call("logs", "get_log_events", **names)["events"])


class TestPermissions:
    """A cloud that enforces policies: of the person who builds, and of the project's role."""

    @pytest.fixture
    def repository(self):
        """Return the name of a repository of its own: all clouds of this machine share the registry."""
        return f"builds-{secrets.token_hex(3)}"

    def user(self, owner, repository, *levels):
        name, iam = f"user-{secrets.token_hex(4)}", owner.client("iam")
        iam.create_user(UserName=name)
        for level in levels:
            document = json.dumps(policies.policy(level, Scope("123456789012", "us-east-1", repository=repository)))
            iam.put_user_policy(UserName=name, PolicyName=level, PolicyDocument=document)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        keys = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
        return ck.LocalCloud(owner.directory, **keys)

    def test_user_with_build_policy_builds_and_removes_everything(self, owner, machine, repository):
        before = inventory(owner)
        cloud = self.user(owner, repository, "run", "create", "build", "administer")
        line = f"RUN echo {secrets.token_hex(8)} > /made"
        made = ck.Knot(
            name="permitted",
            func=read,
            repo_name=repository,
            base_image=machine.base_image,
            dockerfile_lines=line,
            cloud=cloud,
        )
        assert made.map(["/made"]).result(LONG) == [f"{line.split()[2]}\n"]
        resources = find_resources(cloud)
        assert ("project for image builds (CodeBuild)", BUILDS, "none while idle") in resources.rows()
        assert remove(cloud, resources, results=True) == []
        assert _without_service_roles(inventory(owner)) == _without_service_roles(before)

    def test_user_without_build_policy_creates_nothing_and_reads_both_ways(self, owner, machine, repository):
        before = inventory(owner)
        cloud = self.user(owner, repository, "run", "create")
        with pytest.raises(ck.ImageError) as caught:
            ck.Knot(
                name="denied",
                func=read,
                repo_name=repository,
                base_image=machine.base_image,
                apt_packages="hello",
                cloud=cloud,
            )
        assert ENGINE in str(caught.value)
        assert "The statement MakeBuilds of the policy that `cloudknot permissions build` prints" in str(caught.value)
        assert inventory(owner) == before

    def test_role_of_project_reads_no_results_and_pushes_nowhere_else(self, owner, machine, repository):
        """A line of a Dockerfile may use the role. So the role can do nothing but build."""
        cloud = self.user(owner, repository, "run", "create", "build")
        made = ck.Knot(
            name="limited",
            func=read,
            repo_name=repository,
            base_image=machine.base_image,
            dockerfile_lines="RUN true",
            cloud=cloud,
        )
        (role,) = [
            role["RoleName"]
            for role in owner.call("iam", "list_roles", PathPrefix="/cloudknot/")["Roles"]
            if role["RoleName"].startswith(BUILDS)
        ]
        (name,) = owner.call("iam", "list_role_policies", RoleName=role)["PolicyNames"]
        document = owner.call("iam", "get_role_policy", RoleName=role, PolicyName=name)["PolicyDocument"]
        allowed = {
            (action, str(statement["Resource"]))
            for statement in document["Statement"]
            for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
        }
        bucket = f"['arn:aws:s3:::{owner.bucket}/{CONTEXTS}/*']"
        assert {resource for action, resource in allowed if action.startswith("s3:")} == {bucket}
        assert {resource for action, resource in allowed if action == "ecr:PutImage"} == {
            f"['arn:aws:ecr:us-east-1:123456789012:repository/{repository}']"
        }
        made.clobber()
        owner.repository(repository).clobber()
        delete_project(owner)


def _without_service_roles(resources):
    """Return an inventory without the roles that AWS keeps after the first use of a service."""
    return {**resources, "roles": [name for name in resources["roles"] if not name.startswith("AWSServiceRole")]}


def test_two_sessions_that_build_same_image_both_succeed(cloud, machine):
    line, results, repository = f"RUN echo {secrets.token_hex(8)} > /made", {}, f"twins-{secrets.token_hex(3)}"

    def build(name):
        made = ck.Knot(
            name=name, func=read, base_image=machine.base_image, dockerfile_lines=line, repo_name=repository,
            cloud=cloud,
        )  # fmt: skip
        results[name] = made.map(["/made"]).result(LONG)

    threads = [threading.Thread(target=build, args=(f"{repository}-{n}",)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * LONG)
    cloud.repository(repository).clobber()
    assert list(results.values()) == [[f"{line.split()[2]}\n"]] * 2
