"""The account before a test, for tests that compare it with the account afterwards."""

import pytest

import cloudknot as ck
from cloudknot.deploy.iam import BATCH, SPOT, linked_role
from tests.helpers.inventory import inventory


@pytest.fixture
def before(cloud):
    """What there was. What other tests use, and what stays on purpose, is made first."""
    cloud.storage.ensure_bucket({})
    for service in (BATCH, SPOT):
        linked_role(cloud, service)
    ck.DockerRepo("cloudknot", cloud=cloud)
    drop_unused(cloud.repository("cloudknot"))
    return inventory(cloud)


def drop_unused(repository):
    """Delete what knots left there that other tests clobbered without their images."""
    pages = repository.cloud.pages("batch", "describe_job_definitions", status="ACTIVE")
    used = [one for page in pages for one in page["jobDefinitions"]]
    tags = {one["containerProperties"]["image"].rpartition(":")[2] for one in used}
    tags |= {one["parameters"]["environment"] for one in used if "environment" in one.get("parameters", {})}
    images = repository.images().items()
    repository.delete_images([digest for digest, names in images if not tags.intersection(names)])
