"""The names under ``cloudknot.aws`` that scripts of the earlier library use, on the embedded cloud."""

import pickle

import pytest

import cloudknot as ck

SETTINGS = [f"{verb}_{name}" for verb in ("get", "set") for name in ("region", "profile", "s3_params", "ecr_repo")]


@pytest.fixture
def settings(cloud, tmp_path, monkeypatch):
    """Make the embedded cloud that of the settings."""
    monkeypatch.setenv("CLOUDKNOT_CLOUD", "local")
    monkeypatch.setenv("CLOUDKNOT_LOCAL_DIR", str(cloud.directory))
    monkeypatch.setenv("CLOUDKNOT_CONFIG_FILE", str(tmp_path / "settings"))


@pytest.mark.parametrize("name", [*ck.errors.__all__, *SETTINGS, "BatchJob", "DockerRepo", "Cloud", "refresh_clients"])
def test_name_under_aws_is_that_of_the_package(name):
    assert getattr(ck.aws, name) is getattr(ck, name)
    assert name in dir(ck.aws)


def test_clients_are_a_dictionary_of_boto3_clients_with_the_present_settings(cloud, settings, monkeypatch, tmp_path):
    bucket = "for-old-scripts"
    ck.aws.clients["s3"].create_bucket(Bucket=bucket)
    assert bucket in [found["Name"] for found in cloud.client("s3").list_buckets()["Buckets"]]
    ck.aws.clients["s3"].delete_bucket(Bucket=bucket)
    assert ck.aws.clients["s3"] is ck.aws.clients["s3"]
    assert {"batch", "cloudformation", "ec2", "ecr", "ecs", "iam", "s3"} <= set(ck.aws.clients)
    assert len(ck.aws.clients) == len(ck.aws.clients.keys()) == len(list(ck.aws.clients))
    assert "s3" in ck.aws.clients
    waiter = ck.aws.clients["cloudformation"].get_waiter("stack_delete_complete")
    waiter.wait(StackName="never-existed", WaiterConfig={"Delay": 1, "MaxAttempts": 1})
    # On AWS, a client follows the region of the settings at once.
    monkeypatch.setenv("CLOUDKNOT_CLOUD", "aws")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "of-nobody")
    regions = []
    for region in ("eu-west-1", "us-west-2"):
        ck.set_region(region)
        ck.refresh_clients()
        regions.append(ck.aws.clients["batch"].meta.region_name)
    assert regions == ["eu-west-1", "us-west-2"]


def test_user_and_tags(settings):
    assert ck.aws.get_user()
    tags = ck.aws.get_tags("pi-calc", {"Project": "pi"})
    assert {tag["Key"] for tag in tags} == {"Owner", "Environment", "Name", "Project"}
    assert {"Key": "Name", "Value": "pi-calc"} in tags
    assert ck.aws.get_tags("x", [{"Key": "Owner", "Value": "me"}])[0] == {"Key": "Owner", "Value": "me"}
    with pytest.raises(ck.CloudknotInputError, match="additional_tags"):
        ck.aws.get_tags("x", "Project=pi")


def test_exceptions_carry_the_resource_and_the_job(cloud):
    with pytest.raises(ck.aws.ResourceDoesNotExistException) as missing:
        ck.Knot(name="never-created", cloud=cloud)
    assert missing.value.resource_id == "never-created"
    assert pickle.loads(pickle.dumps(missing.value)).resource_id == "never-created"
    with pytest.raises(ck.aws.ResourceDoesNotExistException) as missing:
        ck.BatchJob("12345678-1234-1234-1234-123456789012", cloud=cloud).result()
    assert missing.value.resource_id == "12345678-1234-1234-1234-123456789012"
