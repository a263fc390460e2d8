"""A failed stack names the resource and the cause, leaves nothing and does not block the next try."""

import os
import subprocess
import sys

import pytest

import cloudknot as ck
from tests.helpers.functions import square
from tests.helpers.inventory import inventory
from tests.helpers.paths import ROOT


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    """Yield a cloud of this module alone: jobs of other tests would change the inventory."""
    with ck.LocalCloud(tmp_path_factory.mktemp("failed"), vcpus=2, quota=1000) as cloud:
        yield cloud


@pytest.fixture
def pars(cloud, inventory_before):
    """Yield a Pars. At the end, check that the test left nothing but images."""
    pars = ck.Pars("failing", cloud=cloud)
    yield pars
    pars.clobber()
    remaining = inventory(cloud)
    assert {**remaining, "images": inventory_before["images"]} == inventory_before


def test_knot_with_taken_queue_name_fails_and_leaves_nothing(cloud, pars):
    other_knot = ck.Knot(name="other", func=square, pars=pars, cloud=cloud)
    before = inventory(cloud)
    with pytest.raises(ck.CannotCreateResourceException) as caught:
        ck.Knot(name="failing", func=square, pars=pars, job_queue_name=other_knot.job_queue, cloud=cloud)
    message = str(caught.value)
    assert "JobQueue (AWS::Batch::JobQueue): Object already exists. " in message
    assert "Another resource already has this name" in message
    assert "RequestToken" not in message
    assert "RequestId" not in message
    assert inventory(cloud) == before
    knot = ck.Knot(name="failing", func=square, pars=pars, cloud=cloud)
    assert knot.map([3]).result() == [9]
    other_knot.clobber(clobber_results=True)
    knot.clobber(clobber_image=True, clobber_results=True)


def test_pars_with_taken_role_name_fails_and_leaves_nothing(cloud, inventory_before):
    trust = '{"Version": "2012-10-17", "Statement": []}'
    cloud.call("iam", "create_role", RoleName="taken", AssumeRolePolicyDocument=trust, Path="/cloudknot/")
    with pytest.raises(
        ck.CannotCreateResourceException, match=r"EcsInstanceRole .*taken already exists.*Choose another"
    ):
        ck.Pars("taken", ecs_instance_role_name="taken", cloud=cloud)
    cloud.call("iam", "delete_role", RoleName="taken")
    ck.Pars("taken", ecs_instance_role_name="taken", cloud=cloud).clobber()
    assert inventory(cloud) == inventory_before


def test_error_for_deleted_security_group_names_it_and_cause(cloud, pars):
    cloud.call("ec2", "delete_security_group", GroupId=pars.security_group)
    with pytest.raises(
        ck.CannotCreateResourceException, match=r"ComputeEnvironment .*security group.*deleted outside"
    ):
        ck.Knot(name="failing", func=square, pars=pars, cloud=cloud)


def test_error_for_failed_update_and_failed_rollback_names_repair(cloud, pars):
    knot = ck.Knot(name="failing", func=square, pars=pars, cloud=cloud)
    cloud.call("batch", "update_job_queue", jobQueue=knot.job_queue, state="DISABLED")
    cloud.call("batch", "delete_job_queue", jobQueue=knot.job_queue)
    message = (
        r"^AWS can no longer change .*undoing it failed, too\. AWS reports: JobQueue "
        r".*`.*cloudknot clobber NAME --cloud local`"
    )
    with pytest.raises(ck.CannotCreateResourceException, match=message):
        ck.Knot(name="failing", func=square, pars=pars, priority=9, cloud=cloud)
    (listed,) = (listed for listed in ck.list_knots(cloud) if listed.name == "failing")
    assert listed.status == "UPDATE_ROLLBACK_FAILED"
    knot.clobber(clobber_image=True)


def test_map_error_for_deleted_queue_names_repair(cloud, pars):
    knot = ck.Knot(name="failing", func=square, pars=pars, cloud=cloud)
    cloud.call("batch", "update_job_queue", jobQueue=knot.job_queue, state="DISABLED")
    cloud.call("batch", "delete_job_queue", jobQueue=knot.job_queue)
    with pytest.raises(ck.ResourceDoesNotExistException, match=r"`.*cloudknot clobber failing --cloud local`"):
        knot.map([1])
    knot.clobber(clobber_image=True, clobber_results=True)
    again = ck.Knot(name="failing", func=square, pars=pars, cloud=cloud)
    assert again.map([5]).result() == [25]
    again.clobber(clobber_image=True, clobber_results=True)


SESSION = """
import sys
import cloudknot as ck
knot = ck.Knot(name="failing", cloud=ck.LocalCloud(sys.argv[1]))
print([job.result() for job in knot.jobs], knot.image_uri, knot.tags["Lab"], knot.pars.name)
print(knot.job_queue, knot.stack_id)
print([(listed.name, listed.status, listed.image) for listed in ck.list_knots(ck.LocalCloud(sys.argv[1]))])
"""


def test_session_on_another_machine_finds_knot_and_results(cloud, pars, tmp_path):
    tags = {"Lab": "optics"}
    knot = ck.Knot(name="failing", func=square, pars=pars, aws_resource_tags=tags, cloud=cloud)
    knot.map([1, 2]).result()
    knot.map([3]).result()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    command = [sys.executable, "-c", SESSION, str(cloud.directory)]
    session = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120
    )
    first, second, third = session.stdout.splitlines()
    assert first == f"[[1, 4], [9]] {knot.image_uri} optics failing"
    assert second == f"{knot.job_queue} {knot.stack_id}"
    assert repr(("failing", "CREATE_COMPLETE", knot.image_uri)) in third
    knot.clobber(clobber_image=True, clobber_results=True)
