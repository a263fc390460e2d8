"""The descriptions of services are those of botocore, in less memory."""

import json

import pytest
from botocore.exceptions import UnknownServiceError
from botocore.loaders import create_loader
from botocore.model import ServiceModel
from botocore.session import get_session

from cloudknot.aws import clients
from cloudknot.aws.door import Door
from cloudknot.aws.sdk.descriptions import SERVICES, Files, ServiceNames, Shapes, _parse, shared_loader

KEYS = {"region_name": "us-east-1", "aws_access_key_id": "k", "aws_secret_access_key": "s"}


def without_documentation(value):
    """Return a description in plain dicts, with its documentation empty."""
    if isinstance(value, dict):
        return {
            name: "" if name == "documentation" and isinstance(item, str) else without_documentation(item)
            for name, item in value.items()
        }
    return [without_documentation(item) for item in value] if isinstance(value, list) else value


def own_loader():
    """Return a loader that has read nothing yet, and that no client shares: clients of S3 change its description."""
    return shared_loader.__wrapped__("")


@pytest.mark.parametrize("service", sorted(SERVICES))
@pytest.mark.parametrize("kind", ["service-2", "paginators-1", "endpoint-rule-set-1"])
def test_description_equals_that_of_botocore(service, kind):
    expected = create_loader().load_service_model(service, kind)
    own = own_loader().load_service_model(service, kind)
    assert without_documentation(own) == without_documentation(expected)


def test_other_services_are_those_of_botocore():
    own, botocore = own_loader(), create_loader()
    for service in ("sso", "sso-oidc", "signin", "sqs"):
        description, expected = (loader.load_service_model(service, "service-2") for loader in (own, botocore))
        assert without_documentation(description) == without_documentation(expected)
    names = own.list_available_services("service-2")
    assert (list(names), len(names)) == (botocore.list_available_services("service-2"), len(names))
    with pytest.raises(UnknownServiceError, match=r"nothing.*sqs"):
        own.load_service_model("nothing", "service-2")


def test_names_of_own_services_need_no_list_of_all():
    listed = []
    names = ServiceNames(lambda: listed.append(1) or ["sqs"])
    assert all(name in names for name in SERVICES)
    assert not listed
    assert "sqs" in names
    assert listed


def test_shape_is_parsed_at_its_first_use():
    shapes = own_loader().load_service_model("logs", "service-2")["shapes"]
    assert isinstance(shapes, Shapes)
    name = next(name for name in shapes if isinstance(dict.get(shapes, name), str))
    assert shapes.get(name) is shapes[name] is dict.get(shapes, name)
    assert ServiceModel({"metadata": {}, "operations": {}, "shapes": shapes}).shape_for(name).name == name


@pytest.mark.parametrize(
    "text",
    [
        '{"operations": {"shapes": {"A": 1}}, "shapes": {"B": {"type": "string"}}}',
        '{"shapes":{},"operations":{}}',
        '{"operations": {}}',
        '{"shapes": {"A": {"documentation": "a } \\" b", "members": {}}, "B": [1, "}"]}, "version": "2.0"}',
    ],
)
def test_unusual_format_is_read_as_it_is(text):
    assert without_documentation(_parse(text)) == without_documentation(json.loads(text))


def test_missing_file_has_no_content(tmp_path):
    assert Files().load_file(str(tmp_path / "service-2")) is None


def test_endpoints_of_own_services_equal_those_of_botocore():
    session, door = get_session(), Door(KEYS)
    for service in sorted(SERVICES):
        for region in ("us-east-1", "cn-north-1", "us-gov-west-1", "eu-central-1"):
            options = {"region_name": region, "aws_access_key_id": "k", "aws_secret_access_key": "s"}
            plain = session.create_client(service, **options).meta
            own = Door({**KEYS, "region_name": region}).client(service).meta
            assert (own.endpoint_url, own.region_name) == (plain.endpoint_url, plain.region_name)
    assert door.client("organizations").meta.endpoint_url == "https://organizations.us-east-1.amazonaws.com"
    assert door.client("dynamodb").meta.region_name == "us-east-1"


def test_services_are_those_of_typed_clients():
    assert {name for name in SERVICES if callable(getattr(clients, name, None))} == SERVICES
