"""Batch's API in the embedded cloud: resources with AWS's rules, and listings that no submission disturbs."""

import pytest

from cloudknot.local.batch import catalog, engine, job_store
from cloudknot.local.batch.job_api import Batch
from cloudknot.local.batch.records import Exited, Started
from cloudknot.local.directory.database import Database
from cloudknot.local.directory.documents import Documents, cloud_database
from cloudknot.local.iam.keys import Keys
from cloudknot.local.iam.signing import AccessKey
from cloudknot.local.server.services.ec2.api import Ec2
from cloudknot.local.server.services.iam.api import Iam
from cloudknot.local.server.services.service import ControlPlane
from cloudknot.local.wsgi import ServiceError

POD = {"podProperties": {}}
NO_QUEUE = "arn:aws:batch:us-east-1:123456789012:job-queue/none"


class Runner:
    """A runner that keeps the started tasks, and ends them when the test says so."""

    def __init__(self):
        self.tasks, self.reports = [], []

    def prepare(self, image, role, environment):
        pass

    def release(self, image):
        pass

    def start(self, task, report):
        self.tasks.append(task)
        self.reports.append(report)

    def stop(self, task_id, *, kill):
        pass

    def close(self):
        pass

    def end_all(self):
        while self.tasks:
            task, report = self.tasks.pop(0), self.reports.pop(0)
            report(Started(task.id))
            report(Exited(task.id, 0))


class Service:
    """Batch on a database of its own, with a compute environment ``env``, a queue ``q`` and a definition ``d``."""

    def __init__(self, path, vcpus=2):
        self.database = Database(path, catalog.SCHEMA + job_store.SCHEMA, is_synced=False)
        self.resources = cloud_database(path.parent)
        keys = Keys(AccessKey("owner", ""), kept=Documents(self.resources, "key"), takes_users=False)
        services = {"ec2": Ec2(self.resources), "iam": Iam(self.resources, keys)}
        self.services = ControlPlane(services, self.resources, {}).call
        self.runner = Runner()
        self.api = Batch(self.database, self.runner, self.services, vcpus, quota=2)
        self.api.start()

    def call(self, operation, **arguments):
        return self.api.respond(operation, arguments)

    def refusal(self, operation, **arguments):
        with pytest.raises(ServiceError) as caught:
            self.call(operation, **arguments)
        return caught.value.args[0]

    def environment(self, name, **more):
        return self.call("CreateComputeEnvironment", computeEnvironmentName=name, type="UNMANAGED", **more)

    def network(self):
        """Return the network of the account, in the form of compute resources."""
        subnets = [subnet["SubnetId"] for subnet in self.services("ec2", "DescribeSubnets")["Subnets"]]
        groups = [group["GroupId"] for group in self.services("ec2", "DescribeSecurityGroups")["SecurityGroups"]]
        return {"subnets": subnets, "securityGroupIds": groups}

    def queue(self, name):
        order = [{"order": 1, "computeEnvironment": "env"}]
        return self.call("CreateJobQueue", jobQueueName=name, priority=1, computeEnvironmentOrder=order)

    def register(self, name="d", **more):
        container = {"image": "i:t", "vcpus": 1, "memory": 9}
        return self.call(
            "RegisterJobDefinition", jobDefinitionName=name, type="container", containerProperties=container, **more
        )

    def submit(self, **more):
        return self.call("SubmitJob", jobName="job", jobQueue="q", jobDefinition="d", **more)["jobId"]

    def close(self):
        self.api.close()
        self.database.close()
        self.resources.close()


@pytest.fixture
def service(tmp_path):
    service = Service(tmp_path / "jobs.sqlite")
    service.environment("env")
    service.queue("q")
    service.register()
    yield service
    service.close()


def test_resources_are_described_as_by_aws(service):
    (environment,) = service.call("DescribeComputeEnvironments", computeEnvironments=["env"])["computeEnvironments"]
    (queue,) = service.call("DescribeJobQueues")["jobQueues"]
    assert (environment["status"], environment["state"]) == (queue["status"], queue["state"]) == ("VALID", "ENABLED")
    # Batch shows environments by their ARNs, also those that a request names.
    assert queue["computeEnvironmentOrder"] == [
        {"order": 1, "computeEnvironment": environment["computeEnvironmentArn"]}
    ]
    (definition,) = service.call("DescribeJobDefinitions", jobDefinitions=["d:1"])["jobDefinitions"]
    assert (definition["status"], definition["containerProperties"]["environment"]) == ("ACTIVE", [])


def test_existing_names_and_the_quota_are_refused(service):
    order = [{"order": 1, "computeEnvironment": "env"}]
    queue = {"priority": 1, "computeEnvironmentOrder": order}
    assert service.refusal("CreateJobQueue", jobQueueName="q", **queue) == "Object already exists"
    service.queue("r")
    assert (
        service.refusal("CreateJobQueue", jobQueueName="s", **queue) == "Maximum number of job queues supported is 2"
    )
    none = [{"order": 1, "computeEnvironment": "none"}]
    message = service.refusal("UpdateJobQueue", jobQueue="q", computeEnvironmentOrder=none)
    assert message == "Compute environment none does not exist"


def test_deletions_need_disabled_resources_that_nothing_uses(service):
    assert "must be DISABLED" in service.refusal("DeleteJobQueue", jobQueue="q")
    assert "must be DISABLED" in service.refusal("DeleteComputeEnvironment", computeEnvironment="env")
    service.call("UpdateComputeEnvironment", computeEnvironment="env", state="DISABLED")
    assert "JobQueue relationship" in service.refusal("DeleteComputeEnvironment", computeEnvironment="env")
    service.call("UpdateJobQueue", jobQueue="q", state="DISABLED")
    service.call("DeleteJobQueue", jobQueue="q")
    service.call("DeleteComputeEnvironment", computeEnvironment="env")
    assert service.call("DescribeComputeEnvironments")["computeEnvironments"] == []


def test_environment_changes_single_members_and_is_not_scaled_down_by_hand(service):
    resources = {"type": "EC2", "maxvCpus": 8, "desiredvCpus": 4, "instanceTypes": ["optimal"], **service.network()}
    call = {"computeEnvironmentName": "managed", "type": "MANAGED", "computeResources": resources}
    service.call("CreateComputeEnvironment", **call)
    service.call("UpdateComputeEnvironment", computeEnvironment="managed", computeResources={"maxvCpus": 16})
    (found,) = service.call("DescribeComputeEnvironments", computeEnvironments=["managed"])["computeEnvironments"]
    assert found["computeResources"] == {**resources, "maxvCpus": 16}
    less = {"computeEnvironment": "managed", "computeResources": {"desiredvCpus": 1}}
    assert "scaling down" in service.refusal("UpdateComputeEnvironment", **less)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"instanceRole": "none"}, "Invalid IamInstanceProfile: none"),
        (
            {"instanceRole": "arn:aws:iam::123456789012:instance-profile/none"},
            "Profile: arn:aws:iam::123456789012",
        ),
        ({"launchTemplate": {"launchTemplateName": "none"}}, "template name none, does not exist"),
        ({"launchTemplate": {"launchTemplateId": "lt-1"}}, "The launch template ID 'lt-1' does not exist"),
        ({"launchTemplate": {"launchTemplateName": "template", "version": "7"}}, "the specified version 7"),
    ],
)
def test_environment_with_missing_profile_or_template_is_invalid(service, changed, words):
    def status(name):
        (found,) = service.call("DescribeComputeEnvironments", computeEnvironments=[name])["computeEnvironments"]
        return found["status"], found["statusReason"]

    service.services("iam", "CreateInstanceProfile", InstanceProfileName="profile")
    service.services("ec2", "CreateLaunchTemplate", LaunchTemplateName="template", LaunchTemplateData={})
    right = {"instanceRole": "profile", "launchTemplate": {"launchTemplateName": "template", "version": "$Latest"}}
    resources = {"type": "EC2", "maxvCpus": 8, "instanceTypes": ["optimal"], **service.network(), **right}
    call = {"computeEnvironmentName": "managed", "type": "MANAGED"}
    service.call("CreateComputeEnvironment", **call, computeResources={**resources, **changed})
    kind, reason = status("managed")
    assert kind == "INVALID"
    assert reason.startswith("CLIENT_ERROR - ")
    assert words in reason
    order = [{"order": 1, "computeEnvironment": "managed"}]
    queue = {"jobQueueName": "r", "priority": 1, "computeEnvironmentOrder": order}
    assert "is not VALID" in service.refusal("CreateJobQueue", **queue)
    service.call("UpdateComputeEnvironment", computeEnvironment="managed", computeResources=right)
    assert status("managed") == ("VALID", "ComputeEnvironment Healthy")
    service.call("CreateJobQueue", **queue)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"subnets": ["subnet-1"]}, "The subnet ID 'subnet-1' does not exist"),
        ({"securityGroupIds": ["sg-1"]}, "The security group 'sg-1' does not exist"),
    ],
)
def test_environment_in_missing_network_is_refused(service, changed, words):
    network = service.network()
    resources = {"type": "EC2", "maxvCpus": 8, "instanceTypes": ["optimal"], **network}
    (member,) = changed
    # One missing resource beside the existing ones is enough.
    wrong = {member: network[member] + changed[member]}
    call = {"computeEnvironmentName": "managed", "type": "MANAGED"}
    assert service.refusal("CreateComputeEnvironment", **call, computeResources={**resources, **wrong}) == words
    assert len(service.call("DescribeComputeEnvironments")["computeEnvironments"]) == 1
    service.call("CreateComputeEnvironment", **call, computeResources=resources)
    assert words == service.refusal("UpdateComputeEnvironment", computeEnvironment="managed", computeResources=wrong)
    (found,) = service.call("DescribeComputeEnvironments", computeEnvironments=["managed"])["computeEnvironments"]
    assert found["computeResources"] == resources


@pytest.mark.parametrize(
    ("operation", "arguments", "words"),
    [
        ("CreateJobQueue", {"jobQueueName": "x"}, "priority"),
        ("CreateJobQueue", {"jobQueueName": "x", "priority": 1, "computeEnvironmentOrder": []}, "At least 1 compute"),
        ("CreateJobQueue", {"jobQueueName": "x", "priority": 1, "schedulingPolicyArn": "a"}, "schedulingPolicyArn"),
        ("UpdateJobQueue", {"jobQueue": "q", "state": "OFF"}, "satisfy enum value set: [ENABLED, DISABLED]"),
        ("UpdateJobQueue", {"jobQueue": "none"}, "Job queue none does not exist"),
        ("CreateComputeEnvironment", {"computeEnvironmentName": "a b", "type": "UNMANAGED"}, "valid pattern"),
        ("CreateComputeEnvironment", {"computeEnvironmentName": "a", "type": "MANAGED"}, "computeResources"),
        ("RegisterJobDefinition", {"jobDefinitionName": "a", "type": "multinode"}, "of type multinode"),
        (
            "RegisterJobDefinition",
            {"jobDefinitionName": "a", "type": "container", "eksProperties": POD},
            "eksProperties",
        ),
        ("SubmitJob", {"jobName": "a", "jobQueue": "q"}, "jobDefinition"),
        ("SubmitJob", {"jobName": "a", "jobQueue": "q", "jobDefinition": "none"}, "does not exist"),
        ("DescribeJobs", {}, "jobs"),
        ("CreateSchedulingPolicy", {"name": "a"}, "does not support batch:CreateSchedulingPolicy"),
        ("TagResource", {"resourceArn": NO_QUEUE, "tags": {"k": "v"}}, "not exist"),
    ],
)
def test_requests_that_break_a_rule_are_refused_with_it(service, operation, arguments, words):
    assert words in service.refusal(operation, **arguments)


@pytest.mark.parametrize("entry", [{"value": "v"}, {"name": "", "value": "v"}, {"name": "aws_batch_x"}])
def test_definition_whose_jobs_are_refused_does_not_stop_the_cloud(service, tmp_path, entry):
    container = {"image": "i:t", "vcpus": 1, "memory": 9, "environment": [entry]}
    answer = service.call(
        "RegisterJobDefinition", jobDefinitionName="d", type="container", containerProperties=container
    )
    assert answer["revision"] == 2
    assert "Environment variable names must not" in service.refusal(
        "SubmitJob", jobName="job", jobQueue="q", jobDefinition="d"
    )
    # The newest definition is prepared at the start.
    again = Service(tmp_path / "jobs.sqlite")
    assert again.call("DescribeJobDefinitions", jobDefinitionName="d", status="ACTIVE")["jobDefinitions"]
    again.close()


def test_no_revision_comes_back_after_deregistration(service):
    arn = service.register()["jobDefinitionArn"]
    service.call("DeregisterJobDefinition", jobDefinition=arn)
    assert service.register()["revision"] == 3
    service.call("DeregisterJobDefinition", jobDefinition="d:3")
    # The name alone stands for the latest active revision.
    job_id = service.submit()
    assert service.call("DescribeJobs", jobs=[job_id])["jobs"][0]["jobDefinition"].endswith("/d:1")
    inactive = service.call("DescribeJobDefinitions", status="INACTIVE")["jobDefinitions"]
    assert [found["revision"] for found in inactive] == [2, 3]


def test_definitions_are_described_in_pages(service):
    for _ in range(4):
        service.register("other")
    page = service.call("DescribeJobDefinitions", jobDefinitionName="other", maxResults=3)
    rest = service.call("DescribeJobDefinitions", jobDefinitionName="other", nextToken=page["nextToken"])
    assert [found["revision"] for found in page["jobDefinitions"] + rest["jobDefinitions"]] == [1, 2, 3, 4]
    assert "nextToken" not in rest


def test_tags_are_changed_one_by_one(service):
    arn = service.register("tagged", tags={"a": "1"})["jobDefinitionArn"]
    service.call("TagResource", resourceArn=arn, tags={"b": "2"})
    service.call("UntagResource", resourceArn=arn, tagKeys=["a"])
    assert service.call("ListTagsForResource", resourceArn=arn) == {"tags": {"b": "2"}}


def test_listing_neither_repeats_nor_skips_jobs_submitted_between_pages(service):
    ids = [service.submit() for _ in range(5)]
    service.runner.end_all()
    query = {"jobQueue": "q", "jobStatus": "SUCCEEDED"}
    first = service.call("ListJobs", **query, maxResults=2)
    service.submit()
    service.runner.end_all()
    second = service.call("ListJobs", **query, maxResults=10, nextToken=first["nextToken"])
    listed = [entry["jobId"] for page in (first, second) for entry in page["jobSummaryList"]]
    assert listed == ids[::-1]
    assert "nextToken" not in second


def test_children_are_listed_in_pages_and_by_state(service):
    array = service.submit(arrayProperties={"size": 5})
    service.runner.end_all()
    first = service.call("ListJobs", arrayJobId=array, jobStatus="SUCCEEDED", maxResults=3)
    second = service.call("ListJobs", arrayJobId=array, jobStatus="SUCCEEDED", nextToken=first["nextToken"])
    listed = [entry["jobId"] for page in (first, second) for entry in page["jobSummaryList"]]
    assert listed == [f"{array}:{index}" for index in range(5)]


def test_jobs_that_left_memory_are_still_described_listed_and_needed(service, monkeypatch):
    array = service.submit(arrayProperties={"size": 3})
    service.runner.end_all()
    before = service.call("DescribeJobs", jobs=[array, f"{array}:2"])
    listed = service.call("ListJobs", jobQueue="q", jobStatus="SUCCEEDED")
    monkeypatch.setattr(engine, "ENDED_JOBS", 0)
    for _ in range(2):
        service.submit()
        service.runner.end_all()
    assert array not in service.api._engine.jobs
    found = service.call("ListJobs", jobQueue="q", jobStatus="SUCCEEDED")["jobSummaryList"]
    assert found[-1] == listed["jobSummaryList"][0]
    assert array not in service.api._engine.jobs
    assert service.call("DescribeJobs", jobs=[array, f"{array}:2"]) == before
    dependent = service.submit(dependsOn=[{"jobId": array}])
    service.runner.end_all()
    assert service.call("DescribeJobs", jobs=[dependent])["jobs"][0]["status"] == "SUCCEEDED"
    assert service.api.counts()["SUCCEEDED"] == 6


def test_state_that_a_client_has_seen_is_stored(service):
    job_id = service.submit()
    service.runner.reports[0](Started(service.runner.tasks[0].id))
    assert service.call("DescribeJobs", jobs=[job_id])["jobs"][0]["status"] == "RUNNING"
    assert service.database.rows("SELECT status FROM batch_jobs") == [("RUNNING",)]


def test_attempt_is_stored_before_its_task_starts(service):
    stored = []
    start = service.runner.start

    def noting(task, report):
        stored.append(service.database.rows("SELECT state FROM batch_jobs")[0][0].count(task.id))
        start(task, report)

    service.runner.start = noting
    service.submit()
    assert stored == [1]


def test_job_that_cannot_be_stored_is_refused_and_leaves_nothing(service):
    with service.database.transaction() as connection:
        connection.execute("CREATE TRIGGER full BEFORE INSERT ON batch_jobs BEGIN SELECT RAISE(FAIL, 'full'); END")
    with pytest.raises(Exception, match="full"):
        service.submit(arrayProperties={"size": 3})
    assert service.runner.tasks == []
    assert not service.api.live
    with service.database.transaction() as connection:
        connection.execute("DROP TRIGGER full")
    service.submit(arrayProperties={"size": 2})
    assert len(service.runner.tasks) == 2
