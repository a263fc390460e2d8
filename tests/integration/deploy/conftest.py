"""The inventory of the account before a test, to compare it with the inventory afterwards."""

import pytest

import cloudknot as ck
from cloudknot.deploy.iam import BATCH, SPOT, linked_role
from tests.helpers.inventory import idle_inventory


@pytest.fixture
def inventory_before(cloud):
    """Return the inventory before the test."""
    # Tests share the bucket, the roles and the repository, and no clobber removes them: make them first.
    cloud.storage.ensure_bucket({})
    for service in (BATCH, SPOT):
        linked_role(cloud, service)
    ck.DockerRepo("cloudknot", cloud=cloud)
    delete_unused_images(cloud.repository("cloudknot"))
    return idle_inventory(cloud)


def delete_unused_images(repository):
    """Delete images without a job definition: other tests clobber their knots and keep the images."""
    pages = repository.cloud.pages("batch", "describe_job_definitions", status="ACTIVE")
    definitions = [definition for page in pages for definition in page["jobDefinitions"]]
    tags = {definition["containerProperties"]["image"].rpartition(":")[2] for definition in definitions}
    tags |= {
        definition["parameters"]["environment"]
        for definition in definitions
        if "environment" in definition.get("parameters", {})
    }
    images = repository.images().items()
    repository.delete_images([digest for digest, names in images if not tags.intersection(names)])
