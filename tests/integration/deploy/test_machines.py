"""A knot looks up new machine choices once, before it makes any resource, on the embedded cloud."""

import pytest

import cloudknot as ck
from cloudknot.deploy.cloudformation.stack import Stack
from cloudknot.deploy.iam import BATCH, linked_role
from tests.helpers.counting import CountingCloud
from tests.helpers.functions import square

LOOKUPS = {"ec2:describe_images", "ec2:describe_key_pairs", "ec2:describe_instance_types"}


@pytest.fixture
def counting_cloud(cloud):
    return CountingCloud(cloud.directory)


@pytest.fixture(scope="session")
def find_image(cloud):
    """Return a function that finds the id of a public machine image for an architecture."""

    def find(architecture):
        filters = [{"Name": "architecture", "Values": [architecture]}]
        images = cloud.call("ec2", "describe_images", Filters=filters)["Images"]
        return next(image["ImageId"] for image in images if image.get("Platform") != "windows")

    return find


@pytest.fixture(scope="session")
def key_pair(cloud):
    """Return the name of an existing key pair."""
    return cloud.call("ec2", "create_key_pair", KeyName="lab")["KeyName"]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (
            {"image_id": "ami-0123456789abcdef0"},
            r"^image_id='ami-0123456789abcdef0' does not exist in the embedded cloud at",
        ),
        ({"ec2_key_pair": "labb"}, r"^ec2_key_pair='labb' .*Near matches: lab\. Pass"),
        (
            {"n_gpus": 1, "instance_types": "default_x86_64"},
            r"^n_gpus=1 is not available with instance_types='default_x86_64'",
        ),
    ],
)
def test_unavailable_machine_choice_is_refused_before_any_write(counting_cloud, key_pair, choice, message):
    with pytest.raises(ck.CloudknotInputError, match=message):
        ck.Knot(name="not-there", func=square, cloud=counting_cloud, **choice)
    assert counting_cloud.writes == []
    assert Stack(counting_cloud, "not-there-cloudknot").state() is None


def test_machine_image_for_another_architecture_is_refused(counting_cloud, find_image):
    arm = find_image("arm64")
    with pytest.raises(
        ck.CloudknotInputError, match=rf"^image_id='{arm}' is for arm64, and the instance types are x86_64\."
    ):
        ck.Knot(name="other-image", func=square, image_id=arm, cloud=counting_cloud)
    assert counting_cloud.writes == []


def test_disabled_machine_image_is_refused(counting_cloud, cloud):
    own = cloud.call("ec2", "register_image", Name="own")["ImageId"]
    cloud.call("ec2", "disable_image", ImageId=own)
    with pytest.raises(ck.CloudknotInputError, match=rf"^image_id='{own}' is not available: its state is 'disabled'"):
        ck.Knot(name="disabled", func=square, image_id=own, cloud=counting_cloud)
    assert counting_cloud.writes == []


def test_machine_image_and_key_pair_are_looked_up_once(counting_cloud, find_image, key_pair):
    choices = {"image_id": find_image("x86_64"), "ec2_key_pair": key_pair}
    knot = ck.Knot(name="own-image", func=square, cloud=counting_cloud, **choices)
    assert LOOKUPS & {*counting_cloud.service_calls} == {"ec2:describe_images", "ec2:describe_key_pairs"}
    assert knot.map([3]).result(120) == [9]
    counting_cloud.forget()
    ck.Knot(name="own-image", func=square, cloud=counting_cloud, **choices)
    assert not LOOKUPS & {*counting_cloud.service_calls}
    assert counting_cloud.writes == []
    ck.Knot(name="own-image", func=square, cloud=counting_cloud)
    assert not LOOKUPS & {*counting_cloud.service_calls}


def test_new_instance_types_must_fit_knots_machine_image(counting_cloud, find_image):
    own = find_image("x86_64")
    ck.Knot(name="turned", func=square, image_id=own, cloud=counting_cloud)
    counting_cloud.forget()
    with pytest.raises(
        ck.CloudknotInputError, match=rf"^image_id='{own}' is for x86_64, and the instance types are arm64\."
    ):
        ck.Knot(name="turned", func=square, image_id=own, instance_types="m6g", cloud=counting_cloud)
    assert counting_cloud.writes == []


@pytest.mark.parametrize(
    ("larger", "message"),
    [
        ({"n_gpus": 1}, r"^n_gpus=1 does not fit .*no GPU\. Remove n_gpus"),
        ({"job_def_vcpus": 3}, r"^job_def_vcpus=3 does not fit .*job_def_vcpus=2 or less"),
        ({"memory": 4000}, r"^memory=4000 does not fit .*memory=3961 or less"),
    ],
)
def test_changed_job_must_fit_knots_instance_types(counting_cloud, larger, message):
    choices = {"instance_types": "c5.large", "memory": 1000}
    ck.Knot(name="grown", func=square, cloud=counting_cloud, **choices)
    counting_cloud.forget()
    with pytest.raises(ck.CloudknotInputError, match=message):
        ck.Knot(name="grown", func=square, cloud=counting_cloud, **{**choices, **larger})
    assert counting_cloud.writes == []


def test_first_spot_knot_creates_service_linked_role_once(counting_cloud, cloud):
    linked_role(cloud, BATCH)  # The first knot of a new account makes this role, too.
    for role in counting_cloud.call("iam", "list_roles", PathPrefix="/aws-service-role/spot.amazonaws.com/")["Roles"]:
        counting_cloud.call("iam", "delete_role", RoleName=role["RoleName"])
    ck.Knot(name="spot", func=square, cloud=counting_cloud)
    assert "create_service_linked_role" not in counting_cloud.calls
    for _ in range(2):
        ck.Knot(name="spot", func=square, bid_percentage=70, cloud=counting_cloud)
        assert counting_cloud.calls.count("create_service_linked_role") == 1
    ck.Knot(name="spot-too", func=square, bid_percentage=70, cloud=counting_cloud)
    assert counting_cloud.calls.count("create_service_linked_role") == 1
    roles = counting_cloud.call("iam", "list_roles", PathPrefix="/aws-service-role/spot.amazonaws.com/")["Roles"]
    assert len(roles) == 1
