"""Each knot has a job role of its own. Its jobs write the runs of that knot only, and read only results of others.

The embedded cloud evaluates the role's policy, also with one of its statements removed.
"""

import json
import secrets
from pathlib import Path

import pytest

import cloudknot as ck
from cloudknot.deploy import knot_stack
from cloudknot.deploy.cloudformation.stack import Stack
from cloudknot.deploy.cloudformation.template import Template
from cloudknot.deploy.inventory import pars_stack_name, stack_name
from cloudknot.deploy.job_definition import BucketName
from cloudknot.options.choices import KnotOptions
from tests.helpers.functions import square
from tests.helpers.waiting import until
from tests.integration.aws.test_job_role import attempt
from tests.integration.deploy.customised.earlier import with_places_for_tags


def role_of(knot):
    return knot.job_role.rpartition("/")[2]


@pytest.fixture(scope="module")
def run(cloud):
    """Return the run of another knot."""
    future = ck.Knot(name="role-other", func=square, cloud=cloud).map([1, 2])
    assert future.result(120) == [1, 4]
    return future.job.keys


@pytest.fixture(scope="module")
def outcome(cloud, run):
    """Return a function that makes one call in a job, and returns the error's code or "allowed"."""
    knot = ck.Knot(name="role-own", func=attempt, cloud=cloud)

    def call(operation, **arguments):
        ((code, _),) = knot.map([("s3", operation, {"Bucket": cloud.bucket, **arguments})]).result(120)
        return code

    return call


class TestOtherKnot:
    """Calls of one knot's job on objects of another knot."""

    def test_job_reads_results_of_other_knot(self, outcome, run):
        assert outcome("get_object", Key=run.output(0, 1)) == "allowed"
        assert outcome("list_objects_v2", Prefix=run.outputs) == "allowed"

    @pytest.mark.parametrize("name", ["manifest", "inputs", "submission", "function"])
    def test_job_reads_nothing_else_of_other_knot(self, outcome, run, name):
        assert outcome("get_object", Key=getattr(run, name)) == "AccessDenied"

    def test_job_lists_nothing_else_of_other_knot(self, outcome, run):
        for prefix in (f"{run.prefix}/", "cloudknot.jobs/role-other/", "cloudknot.jobs/", ""):
            assert outcome("list_objects_v2", Prefix=prefix) == "AccessDenied", prefix

    def test_job_writes_nothing_of_other_knot(self, outcome, run, cloud):
        for key in (run.output(0, 1), run.output(5, 1), run.manifest, "cloudknot.jobs/role-own-2/x/manifest.json"):
            assert outcome("put_object", Key=key, Body=b"forged") == "AccessDenied", key
        assert cloud.storage.get(run.output(0, 1)) != b"forged"

    def test_job_deletes_nothing(self, outcome, run):
        assert outcome("delete_object", Key=run.output(0, 1)) == "AccessDenied"
        assert outcome("delete_object", Key="cloudknot.jobs/role-own/x") == "AccessDenied"


def map_of_elements(knot):
    return knot.map([3])


def map_of_results(knot):
    return knot.map(ck.Knot(name="role-other", func=square, cloud=knot.cloud).map([2]))


STEPS = {"UseOwnRuns": map_of_elements, "ReadResults": map_of_results, "ListRuns": map_of_results}
"""The step that fails without a statement of the job role, by the statement's Sid."""


@pytest.fixture(scope="module")
def document(cloud):
    """Return the policy of a job role."""
    knot = ck.Knot(name="role-stated", func=square, cloud=cloud)
    return cloud.call("iam", "get_role_policy", RoleName=role_of(knot), PolicyName="cloudknot-runs")["PolicyDocument"]


def test_role_is_limited_to_account_and_writes_own_runs_only(document, cloud):
    runs = f"arn:aws:s3:::{cloud.bucket}/cloudknot.jobs/role-stated/*"
    for statement in document["Statement"]:
        assert statement["Condition"]["StringEquals"] == {"aws:ResourceAccount": [cloud.account]}
        if "s3:PutObject" in statement["Action"]:
            assert statement["Resource"] == [runs]


def test_steps_cover_every_statement(document):
    assert list(STEPS) == [statement["Sid"] for statement in document["Statement"]]


@pytest.mark.parametrize("sid", STEPS)
def test_jobs_need_every_statement_of_their_role(cloud, sid):
    knot = ck.Knot(name=f"role-{secrets.token_hex(3)}", func=square, cloud=cloud)
    place = {"RoleName": role_of(knot), "PolicyName": "cloudknot-runs"}
    whole = cloud.call("iam", "get_role_policy", **place)["PolicyDocument"]
    lacking = {**whole, "Statement": [item for item in whole["Statement"] if item["Sid"] != sid]}
    cloud.call("iam", "put_role_policy", **place, PolicyDocument=json.dumps(lacking))
    failed = STEPS[sid](knot)
    assert isinstance(failed.exception(120), ck.CloudknotError)
    assert until(lambda: "AccessDenied" in "".join(failed.job.logs(0)))
    cloud.call("iam", "put_role_policy", **place, PolicyDocument=json.dumps(whole))
    assert STEPS[sid](knot).result(120)


def test_role_is_deleted_with_its_knot(cloud):
    knot = ck.Knot(name=f"role-{secrets.token_hex(3)}", func=square, cloud=cloud)
    assert cloud.call("iam", "get_role", RoleName=role_of(knot))["Role"]["Arn"] == knot.job_role
    knot.clobber()
    with pytest.raises(ck.ResourceDoesNotExistException):
        cloud.call("iam", "get_role", RoleName=role_of(knot))


EARLIER = Path(__file__).with_name("earlier")
"""Templates of an earlier version, in which all knots of a Pars shared its job role."""


class Earlier:
    """Stacks of the earlier version: a Pars with a job role, and knots with that role."""

    def __init__(self, cloud):
        self.cloud, self.pars = cloud, f"earlier-{secrets.token_hex(3)}"
        # A knot of today lends its parameters and its image.
        donor = ck.Knot(name="role-donor", func=square, cloud=cloud)
        self.image, self.parameters = donor.image_uri, donor.pars._state.parameters
        bucket = f"arn:aws:s3:::{cloud.bucket}"
        own = {"BucketArns": bucket, "RunArns": f"{bucket}/cloudknot.jobs/*", "Policies": ""}
        self.outputs = self._deploy("pars", pars_stack_name(self.pars), {**self.parameters, **own}).outputs

    def _deploy(self, kind, name, parameters):
        text = (EARLIER / f"{kind}.yaml").read_text()
        declared = text.split("\nConditions:")[0]
        kept = {
            key: value for key, value in parameters.items() if f"  {key}:\n" in declared and key != "TemplateDigest"
        }
        template = Template.of(with_places_for_tags(text), {"cloudknot": name, "Name": name})
        return Stack(self.cloud, name).deploy(template, kept)

    def knot(self, name):
        """Create a knot of the earlier version."""
        options = KnotOptions.make(name=name)
        pars = ck.Pars(cloud=self.cloud)
        wanted = knot_stack.wanted_parameters(options, pars, self.image, BucketName(self.cloud.bucket))
        roles = {"JobRole": self.outputs["JobRole"], "ExecutionRole": self.outputs["ExecutionRole"]}
        profile = {
            "InstanceProfile": self.outputs["EcsInstanceProfile"],
            "SecurityGroup": self.outputs["SecurityGroup"],
        }
        self._deploy("knot", stack_name(name), {**wanted, **roles, **profile, "ParsName": self.pars})
        return ck.Knot(name=name, cloud=self.cloud)


def test_knots_and_pars_of_earlier_version_are_updated(cloud):
    earlier = Earlier(cloud)
    shared = earlier.outputs["JobRole"]
    first, second = (earlier.knot(f"{earlier.pars}-{number}") for number in (1, 2))
    assert (first.job_role, second.job_role) == (shared, shared)
    job = first.map([2, "not a number"]).job
    job.future().exception(120)
    until(lambda: job.status == "FAILED")
    # An update of the Pars keeps the shared role, because running maps and the other knot have it.
    pars = ck.Pars(earlier.pars, policies="AmazonSQSFullAccess", cloud=cloud)
    assert pars.job_role == shared
    assert second.map([3]).result(120) == [9]
    updated = ck.Knot(name=first.name, func=square, pars=pars, cloud=cloud)
    assert f"{first.name}-cloudknot-JobRole" in updated.job_role
    attached = cloud.call("iam", "list_attached_role_policies", RoleName=role_of(updated))["AttachedPolicies"]
    assert [policy["PolicyName"] for policy in attached] == ["AmazonSQSFullAccess"]
    assert updated.map([4]).result(120) == [16]
    # A retry uses the revision of its map, with the shared role.
    retried = ck.BatchJob(job.job_id, cloud=cloud)
    retried.retry_failed()
    error = retried.future().exception(120)
    assert "can't multiply" in str(error)
    before = Stack(cloud, stack_name(first.name)).state()
    ck.Knot(name=first.name, func=square, pars=ck.Pars(earlier.pars, cloud=cloud), cloud=cloud)
    assert Stack(cloud, stack_name(first.name)).state() == before, "an updated knot is not updated again"
    for knot in (updated, second):
        knot.clobber()
    pars.clobber()
