"""Stacks of the version whose templates had words in place of tags: an unchanged knot or Pars makes no update."""

from pathlib import Path

import pytest

import cloudknot as ck
from cloudknot.deploy.cloudformation import template
from cloudknot.deploy.cloudformation.stack import Stack, StackState
from cloudknot.deploy.inventory import pars_stack_name, stack_name
from tests.helpers.counting import CountingCloud
from tests.helpers.functions import square
from tests.helpers.waiting import LONG
from tests.integration.deploy.customised.earlier import with_places_for_tags

EARLIER = Path(__file__).with_name("earlier")
DIGESTS = {"knot": "5ea4a42738845ee9", "pars": "f851e9a0f46c6998", "build": "3d7c7763139ea2bf"}
"""The digests that the earlier version computed from these texts, with the words in place of tags."""


def recreated(cloud, kind, state: StackState, tags):
    """Create a stack as the earlier version did, with the parameters of a stack of today."""
    text = (EARLIER / f"{kind}.yaml").read_text()
    parameters = {name: value for name, value in state.parameters.items() if f"  {name}:\n" in text}
    filled = template.fill_in(with_places_for_tags(text), tags)
    cloud.call(
        "cloudformation",
        "create_stack",
        StackName=state.name,
        TemplateBody=filled,
        Parameters=[
            {"ParameterKey": name, "ParameterValue": value}
            for name, value in {**parameters, template.DIGEST: DIGESTS[kind]}.items()
        ],
        Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    stack = Stack(cloud, state.name)
    return stack._until_idle(stack.state(), stack._clock() + LONG)


@pytest.mark.parametrize("kind", DIGESTS)
def test_new_text_makes_same_resources(kind):
    digest = template.digest(template.load(kind))
    assert template.is_same(DIGESTS[kind], digest), (
        f"{kind}.yaml has changed. If existing stacks need no update for it, put the new digest {digest} into SAME. "
        "Otherwise remove the entry, and this test."
    )
    assert not template.is_same("0" * 16, digest)


def test_unchanged_pars_of_earlier_version_makes_no_update(cloud):
    made = ck.Pars("worded-pars", cloud=cloud)
    state = Stack(cloud, pars_stack_name("worded-pars")).state()
    made.clobber()
    assert recreated(cloud, "pars", state, state.tags).usable
    session = CountingCloud(cloud.directory)
    pars = ck.Pars("worded-pars", cloud=session)
    assert [call for call in session.writes if "stack" in call] == []
    pars.clobber()


def test_unchanged_knot_of_earlier_version_makes_no_update(cloud, caplog):
    donor = ck.Knot("worded", func=square, cloud=cloud)
    state = Stack(cloud, stack_name("worded")).state()
    donor.clobber()
    assert recreated(cloud, "knot", state, state.tags).usable
    session = CountingCloud(cloud.directory)
    knot = ck.Knot("worded", func=square, cloud=session)
    assert [call for call in session.writes if "stack" in call] == []
    assert "another version" not in caplog.text
    assert knot.map([3]).result(LONG) == [9]
    # A change updates the stack, and all resources stay.
    queue = cloud.call("batch", "describe_job_queues", jobQueues=[knot.job_queue])["jobQueues"][0]
    changed = ck.Knot("worded", func=square, max_vcpus=8, cloud=session)
    assert session.writes.count("update_stack") == 1
    assert cloud.call("batch", "describe_job_queues", jobQueues=[knot.job_queue])["jobQueues"][0] == queue
    assert changed.map([4]).result(LONG) == [16]
    changed.clobber()
