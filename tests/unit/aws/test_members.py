"""The table of members that answers need names every call of the package, and members that the operations have."""

import ast

import pytest
from botocore import xform_name
from botocore.session import Session

from cloudknot.aws.sdk.descriptions import SERVICES
from cloudknot.aws.sdk.members import MEMBERS
from tests.helpers.paths import ROOT

SESSION = Session()
NOT_OURS = "cloudknot/local"
"""The embedded cloud answers calls, and makes none through a `Door`."""


def calls():
    """Return the names of all methods that the package calls, and the strings that it passes to calls."""
    names = set()
    for path in (ROOT / "cloudknot").rglob("*.py"):
        if path.is_relative_to(ROOT / NOT_OURS):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                names.add(node.attr)
            elif isinstance(node, ast.Call):
                names |= {item.value for item in node.args if isinstance(item, ast.Constant)}
    return names


def test_table_has_services_of_clients():
    assert MEMBERS.keys() == SERVICES


def test_table_names_every_operation_that_package_calls():
    named = {xform_name(operation) for operations in MEMBERS.values() for operation in operations}
    operations = {
        xform_name(name) for service in SERVICES for name in SESSION.get_service_model(service).operation_names
    }
    assert (calls() & operations) - named == set()
    # The test sees the calls.
    assert {"submit_job", "describe_stack_events", "head_object"} <= calls()


@pytest.mark.parametrize("service", sorted(MEMBERS))
def test_members_are_those_of_operations(service):
    model = SESSION.get_service_model(service)
    for name, members in MEMBERS[service].items():
        if name in model.operation_names:
            shape = model.operation_model(name).output_shape
            assert set(members) <= (shape.members.keys() if shape else set()), name
