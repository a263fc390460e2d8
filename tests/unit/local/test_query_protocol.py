"""Forms and answers of AWS's query protocol agree with botocore, which is on the other side."""

import pytest
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from hypothesis import given
from hypothesis import strategies as st

from cloudknot.aws.sdk.service_models import operation_model
from cloudknot.local.iam.requests.query_protocol import read_form, write_answer
from cloudknot.local.wsgi import ServiceError

OPERATIONS = [
    ("iam", "CreateRole"),
    ("iam", "ListPolicies"),
    ("sts", "AssumeRole"),
    ("ec2", "CreateSecurityGroup"),
    ("ec2", "AuthorizeSecurityGroupIngress"),
    ("ec2", "DescribeVpcs"),
    ("ec2", "DescribeRouteTables"),
    ("cloudformation", "CreateStack"),
    ("cloudformation", "DescribeStacks"),
]
TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=8)
# The client decodes these, and refuses other texts.
DOCUMENTS = {"AssumeRolePolicyDocument", "PolicyDocument", "Document"}


def values(shape, depth=0):
    """Return values of a shape of botocore."""
    kind = shape.type_name
    if kind == "structure":
        members = {
            name: values(member, depth + 1)
            for name, member in shape.members.items()
            if name not in DOCUMENTS and not (depth > 2 and member.type_name in ("structure", "list", "map"))
        }
        return st.fixed_dictionaries({}, optional=dict(list(members.items())[:12]))
    if kind == "list":
        return st.lists(values(shape.member, depth + 1), min_size=1, max_size=3)
    if kind == "map":
        return st.dictionaries(TEXT, values(shape.value, depth + 1), min_size=1, max_size=2)
    if kind == "boolean":
        return st.booleans()
    if kind in ("integer", "long"):
        return st.integers(-1000, 1000)
    return TEXT


def only_plain(shape, value):
    """Return a value without members of other types than text, numbers and booleans, and without empty structures."""
    if shape.type_name == "structure":
        kept = {name: only_plain(shape.members[name], item) for name, item in value.items()}
        return {name: item for name, item in kept.items() if item not in (None, {}, [])}
    if shape.type_name == "list":
        return [item for item in (only_plain(shape.member, item) for item in value) if item not in (None, {}, [])]
    return None if shape.type_name in ("timestamp", "blob", "float", "double") else value


@pytest.mark.parametrize(("service", "operation"), OPERATIONS)
@given(data=st.data())
def test_arguments_of_a_client_arrive_unchanged(service, operation, data):
    model = operation_model(service, operation)
    arguments = only_plain(model.input_shape, data.draw(values(model.input_shape)))
    protocol = model.service_model.metadata["protocol"]
    form = create_serializer(protocol, include_validation=False).serialize_to_request(arguments, model)["body"]
    texts = {name: value if isinstance(value, str) else str(value) for name, value in form.items()}
    for name in ("Action", "Version"):
        texts.pop(name)
    assert read_form(service, operation, texts) == arguments


@pytest.mark.parametrize(("service", "operation"), OPERATIONS)
@given(data=st.data())
def test_answer_arrives_at_a_client_unchanged(service, operation, data):
    model = operation_model(service, operation)
    if model.output_shape is None:
        return
    answer = only_plain(model.output_shape, data.draw(values(model.output_shape)))
    body = write_answer(service, operation, answer)
    parser = create_parser(model.service_model.metadata["protocol"])
    parsed = parser.parse({"body": body, "headers": {}, "status_code": 200}, model.output_shape)
    del parsed["ResponseMetadata"]
    assert {name: value for name, value in parsed.items() if value != []} == answer


@pytest.mark.parametrize(
    ("service", "operation", "form"),
    [
        ("ec2", "DescribeVpcs", {"MaxResults": "many"}),
        ("ec2", "DescribeVpcs", {"DryRun": "yes"}),
        ("ec2", "DescribeVpcs", {"VpcId.x": "vpc-1"}),
        ("ec2", "DescribeVpcs", {"VpcId.1": "vpc-1", "VpcId.1.a": "vpc-2"}),
        ("ec2", "DescribeVpcs", {"Filter.1": "name"}),
        ("iam", "CreateRole", {"RoleName.1": "r"}),
        ("iam", "ListEverything", {}),
    ],
    ids=str,
)
def test_form_with_values_of_other_types_is_refused(service, operation, form):
    with pytest.raises(ServiceError):
        read_form(service, operation, form)
