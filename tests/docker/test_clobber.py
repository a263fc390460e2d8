"""Clobbering knots deletes their images from a real registry, except images that other knots need."""

import uuid

import pytest

import cloudknot as ck
from cloudknot.aws.images.registry.client import Registry
from tests.helpers.functions import double
from tests.helpers.waiting import LONG


@pytest.fixture
def make_knot(cloud, machine):
    """Create knots in a repository and with an environment that only this test uses."""
    pars = ck.Pars("registry", cloud=cloud)
    choices = {"base_image": machine.base_image, "dockerfile_lines": f"ENV NEW={uuid.uuid4()}", "pars": pars}
    repository = f"clobbered-{uuid.uuid4().hex[:8]}"

    def make_knot(name, func, **more):
        return ck.Knot(name=name, func=func, repo_name=repository, cloud=cloud, **choices, **more)

    yield make_knot
    cloud.repository(repository).clobber()


@pytest.fixture
def tags_in_registry(cloud):
    """List the tags of a knot's repository in the registry itself, not through ECR."""
    return lambda knot: Registry(cloud.repository("any").login()).tags(knot.docker_repo.name)


def test_clobbering_last_knot_deletes_all_images_and_tags(cloud, make_knot, tags_in_registry):
    knot = make_knot("first", double, image_tags=["v1", "newest"])
    assert knot.map([2]).result(LONG) == [4]
    edited = make_knot("first", lambda x: x + 1, image_tags="newest")
    environment, system = [tag for tag in tags_in_registry(knot) if tag.startswith(("env-", "system-"))]
    programs = [version.image_uri.rpartition(":")[2] for version in (knot, edited)]
    assert sorted(tags_in_registry(knot)) == sorted([environment, system, *programs, "v1", "newest"])

    name = knot.docker_repo.name
    edited.clobber(clobber_image=True)
    assert Registry(cloud.repository(name).login()).tags(name) == []
    assert cloud.repository(name).images() == {}
    assert cloud.call("ecr", "list_images", repositoryName=name)["imageIds"] == []


def test_clobbering_knot_keeps_images_that_other_knots_need(cloud, make_knot, tags_in_registry):
    tagged, same, different = (
        make_knot("one", double, image_tags="v1"),
        make_knot("same", double),
        make_knot("other", lambda x: x + 3),
    )
    all_tags = tags_in_registry(tagged)
    assert len(all_tags) == 5  # the system, the environment, two programs, v1
    tagged.clobber(clobber_image=True)
    assert tags_in_registry(same) == all_tags
    same.clobber(clobber_image=True)
    environment, system = [tag for tag in all_tags if tag.startswith(("env-", "system-"))]
    assert tags_in_registry(different) == sorted([environment, system, different.image_uri.rpartition(":")[2]])
    assert different.map([1]).result(LONG) == [4]
    # The engine still has the system. It must push it again, since the registry has lost it.
    name = different.docker_repo.name
    different.clobber(clobber_image=True)
    assert cloud.repository(name).images() == {}
    again = make_knot("again", double)
    assert again.map([4]).result(LONG) == [8]
    assert environment in tags_in_registry(again)
    again.clobber(clobber_image=True)
    assert cloud.repository(name).images() == {}
