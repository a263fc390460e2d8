"""What stays in the registry when knots are clobbered whose images were really pushed there."""

import uuid

import pytest

import cloudknot as ck
from cloudknot.local.server.registry import Registry
from tests.helpers.functions import double
from tests.helpers.waiting import LONG


@pytest.fixture
def make(cloud, machine):
    """Makes knots, in a repository and with an environment of the test's own."""
    pars = ck.Pars("registry", cloud=cloud)
    choices = {"base_image": machine.base_image, "dockerfile_lines": f"ENV NEW={uuid.uuid4()}", "pars": pars}
    repository = f"clobbered-{uuid.uuid4().hex[:8]}"

    def make_knot(name, func, **more):
        return ck.Knot(name=name, func=func, repo_name=repository, cloud=cloud, **choices, **more)

    yield make_knot
    cloud.repository(repository).clobber()


@pytest.fixture
def registry(cloud):
    """The registry itself, asked without ECR."""
    return lambda knot: Registry(cloud.repository("any").login()).tags(knot.docker_repo.name)


def test_no_image_stays_not_even_its_environment_or_another_tag(cloud, make, registry):
    knot = make("first", double, image_tags=["v1", "newest"])
    assert knot.map([2]).result(LONG) == [4]
    edited = make("first", lambda x: x + 1, image_tags="newest")
    (environment,) = [tag for tag in registry(knot) if tag.startswith("env-")]
    both = [one.image_uri.rpartition(":")[2] for one in (knot, edited)]
    assert sorted(registry(knot)) == sorted([environment, *both, "v1", "newest"])

    name = knot.docker_repo.name
    edited.clobber(clobber_image=True)
    assert Registry(cloud.repository(name).login()).tags(name) == []
    assert cloud.repository(name).images() == {}
    assert cloud.call("ecr", "list_images", repositoryName=name)["imageIds"] == []


def test_what_another_knot_runs_or_stands_on_stays(cloud, make, registry):
    one, same, other = make("one", double, image_tags="v1"), make("same", double), make("other", lambda x: x + 3)
    everything = registry(one)
    assert len(everything) == 4  # the environment, two programs, v1
    one.clobber(clobber_image=True)
    assert registry(same) == everything
    same.clobber(clobber_image=True)
    (environment,) = [tag for tag in everything if tag.startswith("env-")]
    assert registry(other) == sorted([environment, other.image_uri.rpartition(":")[2]])
    assert other.map([1]).result(LONG) == [4]
    # The engine has the environment, but the registry has to have it again when it is to be pushed.
    name = other.docker_repo.name
    other.clobber(clobber_image=True)
    assert cloud.repository(name).images() == {}
    again = make("again", double)
    assert again.map([4]).result(LONG) == [8]
    assert environment in registry(again)
    again.clobber(clobber_image=True)
    assert cloud.repository(name).images() == {}
