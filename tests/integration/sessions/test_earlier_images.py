"""A knot whose image has the worker of an earlier version: nothing is submitted until the knot is created again."""

import re
from dataclasses import replace

import pytest

import cloudknot as ck
from cloudknot.worker.wire.keys import RUNS
from tests.helpers.functions import square
from tests.helpers.waiting import LONG

OUTDATED = r"knot 'earlier-image' was created with an earlier version.*again.*Knot\(name='earlier-image', func="
REDUCED_ELSEWHERE = r"map was started in the knot 'earlier-image' by an earlier.*reduce\(Knot\("


def earlier(image_uri):
    """Return the name that an earlier version would have given to an image."""
    return re.sub(r":format\d+-", ":", image_uri)


@pytest.fixture(scope="module")
def job_id(cloud):
    """Yield the job of a knot, which the earlier version then updated as its last user."""
    knot = ck.Knot(name="earlier-image", func=square, cloud=cloud)
    job = knot.map([1, 2]).job
    assert job.result(LONG) == [1, 4]
    assert earlier(knot.image_uri) != knot.image_uri
    described = cloud.call("batch", "describe_job_definitions", jobDefinitions=[knot.job_definition.arn])
    definition = described["jobDefinitions"][0]
    container = {**definition["containerProperties"], "image": earlier(knot.image_uri)}
    kept = (
        "jobDefinitionName",
        "type",
        "parameters",
        "retryStrategy",
        "platformCapabilities",
        "propagateTags",
        "tags",
    )
    fields = {name: definition[name] for name in kept if name in definition}
    cloud.call("batch", "register_job_definition", **fields, containerProperties=container)
    manifest = replace(job.manifest, image=earlier(job.manifest.image))
    cloud.storage.put(job.keys.manifest, manifest.to_document(job.keys.manifest))
    yield job.job_id
    # A process may run some tests of this module, others of another one, and then the rest.
    ck.Knot(name="earlier-image", cloud=cloud).clobber(clobber_results=True)


@pytest.fixture
def unchanged(cloud, job_id):
    """Check that a test stores nothing and submits nothing."""
    before = set(cloud.storage.keys(f"{RUNS}/earlier-image/"))
    yield
    assert set(cloud.storage.keys(f"{RUNS}/earlier-image/")) == before
    assert [job.job_id for job in ck.Knot(name="earlier-image", cloud=cloud).jobs] == [job_id]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("choices", [{}, {"job_type": "independent"}, {"kwargs": {}}])
def test_map_is_refused_before_its_elements_are_read(cloud, choices):
    elements = iter([3, 4])
    with pytest.raises(ck.CloudknotInputError, match=OUTDATED):
        ck.Knot(name="earlier-image", cloud=cloud).map(elements, **choices)
    assert list(elements) == [3, 4]


@pytest.mark.usefixtures("unchanged")
def test_map_of_results_and_reduce_are_refused(cloud, job_id):
    knot, job = ck.Knot(name="earlier-image", cloud=cloud), ck.BatchJob(job_id, cloud=cloud)
    with pytest.raises(ck.CloudknotInputError, match=OUTDATED):
        knot.map(job)
    with pytest.raises(ck.CloudknotInputError, match=OUTDATED):
        job.reduce(knot)
    with pytest.raises(ck.CloudknotInputError, match=REDUCED_ELSEWHERE):
        job.reduce(sum)
    assert job.result(LONG) == [1, 4]


def test_knot_that_is_created_again_maps_old_and_new_elements(cloud, job_id):
    knot = ck.Knot(name="earlier-image", func=square, cloud=cloud)
    assert knot.map([3]).result(LONG) == [9]
    assert knot.map(ck.BatchJob(job_id, cloud=cloud)).result(LONG) == [1, 16]
    assert ck.Knot(name="earlier-image", cloud=cloud).map([5]).result(LONG) == [25]
