"""What a user names for the instances is looked up before anything is made, and only when it is new."""

import pytest

import cloudknot as ck
from cloudknot.deploy.cloudformation.stack import Stack
from tests.helpers.counting import CountingCloud
from tests.helpers.functions import square

LOOKS = {"ec2:describe_images", "ec2:describe_key_pairs", "ec2:describe_instance_types"}


@pytest.fixture
def counting(cloud):
    return CountingCloud(cloud.directory)


@pytest.fixture(scope="session")
def image(cloud):
    """The id of a public machine image, by its architecture."""

    def find(architecture):
        wanted = [{"Name": "architecture", "Values": [architecture]}]
        images = cloud.call("ec2", "describe_images", Filters=wanted)["Images"]
        return next(one["ImageId"] for one in images if one.get("Platform") != "windows")

    return find


@pytest.fixture(scope="session")
def lab(cloud):
    """The name of a key pair."""
    return cloud.call("ec2", "create_key_pair", KeyName="lab")["KeyName"]


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (
            {"image_id": "ami-0123456789abcdef0"},
            r"^image_id='ami-0123456789abcdef0' does not exist in us-east-1",
        ),
        ({"ec2_key_pair": "labb"}, r"^ec2_key_pair='labb' .*Near matches: lab\. Pass"),
        (
            {"n_gpus": 1, "instance_types": "default_x86_64"},
            r"^n_gpus=1 is not available on instance_types='default_x86_64'",
        ),
    ],
)
def test_what_is_not_there_is_refused_and_nothing_is_made(counting, lab, choice, words):
    with pytest.raises(ck.CloudknotInputError, match=words):
        ck.Knot(name="not-there", func=square, cloud=counting, **choice)
    assert counting.writes == []
    assert Stack(counting, "not-there-cloudknot").state() is None


def test_an_image_of_another_architecture_is_refused(counting, image):
    arm = image("arm64")
    with pytest.raises(
        ck.CloudknotInputError, match=rf"^image_id='{arm}' is for arm64, and the instance types are x86_64\."
    ):
        ck.Knot(name="other-image", func=square, image_id=arm, cloud=counting)
    assert counting.writes == []


def test_an_image_that_was_switched_off_is_refused(counting, cloud):
    own = cloud.call("ec2", "register_image", Name="own")["ImageId"]
    cloud.call("ec2", "disable_image", ImageId=own)
    with pytest.raises(ck.CloudknotInputError, match=rf"^image_id='{own}' is not available: its state is 'disabled'"):
        ck.Knot(name="disabled", func=square, image_id=own, cloud=counting)
    assert counting.writes == []


def test_what_is_there_is_looked_up_once(counting, image, lab):
    choices = {"image_id": image("x86_64"), "ec2_key_pair": lab}
    knot = ck.Knot(name="own-image", func=square, cloud=counting, **choices)
    assert LOOKS & {*counting.service_calls} == {"ec2:describe_images", "ec2:describe_key_pairs"}
    assert knot.map([3]).result(120) == [9]
    counting.forget()
    ck.Knot(name="own-image", func=square, cloud=counting, **choices)
    assert not LOOKS & {*counting.service_calls}
    assert counting.writes == []
    ck.Knot(name="own-image", func=square, cloud=counting)
    assert not LOOKS & {*counting.service_calls}


def test_an_image_must_fit_instance_types_that_change(counting, image):
    own = image("x86_64")
    ck.Knot(name="turned", func=square, image_id=own, cloud=counting)
    counting.forget()
    with pytest.raises(
        ck.CloudknotInputError, match=rf"^image_id='{own}' is for x86_64, and the instance types are arm64\."
    ):
        ck.Knot(name="turned", func=square, image_id=own, instance_types="m6g", cloud=counting)
    assert counting.writes == []


@pytest.mark.parametrize(
    ("larger", "words"),
    [
        ({"n_gpus": 1}, r"^n_gpus=1 does not fit .*no GPU\. Remove n_gpus"),
        ({"job_def_vcpus": 3}, r"^job_def_vcpus=3 does not fit .*job_def_vcpus=2 or less"),
        ({"memory": 4000}, r"^memory=4000 does not fit .*memory=3961 or less"),
    ],
)
def test_a_knot_does_not_outgrow_its_instance_types(counting, larger, words):
    choices = {"instance_types": "c5.large", "memory": 1000}
    ck.Knot(name="grown", func=square, cloud=counting, **choices)
    counting.forget()
    with pytest.raises(ck.CloudknotInputError, match=words):
        ck.Knot(name="grown", func=square, cloud=counting, **{**choices, **larger})
    assert counting.writes == []


def test_spot_in_a_new_account_makes_the_role_that_it_needs(counting):
    for role in counting.call("iam", "list_roles", PathPrefix="/aws-service-role/spot.amazonaws.com/")["Roles"]:
        counting.call("iam", "delete_role", RoleName=role["RoleName"])
    ck.Knot(name="spot", func=square, cloud=counting)
    assert "create_service_linked_role" not in counting.calls
    for _ in range(2):
        ck.Knot(name="spot", func=square, bid_percentage=70, cloud=counting)
        assert counting.calls.count("create_service_linked_role") == 1
    ck.Knot(name="spot-too", func=square, bid_percentage=70, cloud=counting)
    assert counting.calls.count("create_service_linked_role") == 1
    roles = counting.call("iam", "list_roles", PathPrefix="/aws-service-role/spot.amazonaws.com/")["Roles"]
    assert len(roles) == 1
