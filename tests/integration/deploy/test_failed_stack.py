"""A stack that fails says which resource and why, leaves nothing, and does not stand in the way of the next try."""

import os
import subprocess
import sys

import pytest

import cloudknot as ck
from tests.helpers.functions import square
from tests.helpers.inventory import inventory
from tests.helpers.paths import ROOT


@pytest.fixture
def pars(cloud, before):
    """What a knot shares, and a check that nothing but that is there at the end."""
    pars = ck.Pars("failing", cloud=cloud)
    yield pars
    pars.clobber()
    left = inventory(cloud)
    assert {**left, "images": before["images"]} == before


def test_a_name_that_is_taken(cloud, pars):
    other = ck.Knot(name="other", func=square, pars=pars, cloud=cloud)
    have = inventory(cloud)
    with pytest.raises(ck.CannotCreateResourceException) as caught:
        ck.Knot(name="failing", func=square, pars=pars, job_queue_name=other.job_queue, cloud=cloud)
    message = str(caught.value)
    assert "JobQueue (AWS::Batch::JobQueue): Object already exists. " in message
    assert "Another resource already has this name" in message
    assert "RequestToken" not in message
    assert "RequestId" not in message
    assert inventory(cloud) == have
    knot = ck.Knot(name="failing", func=square, pars=pars, cloud=cloud)
    assert knot.map([3]).result() == [9]
    other.clobber(clobber_results=True)
    knot.clobber(clobber_image=True, clobber_results=True)


def test_a_role_of_a_name_that_is_taken(cloud, before):
    trust = '{"Version": "2012-10-17", "Statement": []}'
    cloud.call("iam", "create_role", RoleName="taken", AssumeRolePolicyDocument=trust, Path="/cloudknot/")
    with pytest.raises(
        ck.CannotCreateResourceException, match=r"EcsInstanceRole .*taken already exists.*Choose another"
    ):
        ck.Pars("taken", ecs_instance_role_name="taken", cloud=cloud)
    cloud.call("iam", "delete_role", RoleName="taken")
    ck.Pars("taken", ecs_instance_role_name="taken", cloud=cloud).clobber()
    assert inventory(cloud) == before


def test_what_knots_share_was_deleted_by_hand(cloud, pars):
    cloud.call("ec2", "delete_security_group", GroupId=pars.security_group)
    with pytest.raises(
        ck.CannotCreateResourceException, match=r"ComputeEnvironment .*security group.*deleted outside"
    ):
        ck.Knot(name="failing", func=square, pars=pars, cloud=cloud)


def test_a_change_that_can_neither_be_made_nor_undone_says_how_to_repair(cloud, pars):
    knot = ck.Knot(name="failing", func=square, pars=pars, cloud=cloud)
    cloud.call("batch", "update_job_queue", jobQueue=knot.job_queue, state="DISABLED")
    cloud.call("batch", "delete_job_queue", jobQueue=knot.job_queue)
    words = r"^AWS can no longer change .*undoing it failed, too\. AWS reports: JobQueue .*`cloudknot clobber NAME`"
    with pytest.raises(ck.CannotCreateResourceException, match=words):
        ck.Knot(name="failing", func=square, pars=pars, priority=9, cloud=cloud)
    (found,) = (one for one in ck.list_knots(cloud) if one.name == "failing")
    assert found.status == "UPDATE_ROLLBACK_FAILED"
    knot.clobber(clobber_image=True)


def test_a_queue_that_was_deleted_by_hand_says_how_to_repair(cloud, pars):
    knot = ck.Knot(name="failing", func=square, pars=pars, cloud=cloud)
    cloud.call("batch", "update_job_queue", jobQueue=knot.job_queue, state="DISABLED")
    cloud.call("batch", "delete_job_queue", jobQueue=knot.job_queue)
    with pytest.raises(ck.ResourceDoesNotExistException, match="`cloudknot clobber failing`"):
        knot.map([1])
    knot.clobber(clobber_image=True, clobber_results=True)
    again = ck.Knot(name="failing", func=square, pars=pars, cloud=cloud)
    assert again.map([5]).result() == [25]
    again.clobber(clobber_image=True, clobber_results=True)


ELSEWHERE = """
import sys
import cloudknot as ck
knot = ck.Knot(name="failing", cloud=ck.LocalCloud(sys.argv[1]))
print([job.result() for job in knot.jobs], knot.image_uri, knot.tags["Lab"], knot.pars.name)
print(knot.job_queue, knot.stack_id)
print([(one.name, one.status, one.image) for one in ck.list_knots(ck.LocalCloud(sys.argv[1]))])
"""


def test_another_machine_finds_everything(cloud, pars, tmp_path):
    tags = {"Lab": "optics"}
    knot = ck.Knot(name="failing", func=square, pars=pars, aws_resource_tags=tags, cloud=cloud)
    knot.map([1, 2]).result()
    knot.map([3]).result()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    command = [sys.executable, "-c", ELSEWHERE, str(cloud.directory)]
    said = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    first, second, third = said.stdout.splitlines()
    assert first == f"[[1, 4], [9]] {knot.image_uri} optics failing"
    assert second == f"{knot.job_queue} {knot.stack_id}"
    assert repr(("failing", "CREATE_COMPLETE", knot.image_uri)) in third
    knot.clobber(clobber_image=True, clobber_results=True)
