"""Typed clients: every operation is a call of the caller's, every page comes from it."""

import subprocess
import sys

import pytest

from cloudknot.aws import clients

SERVICES = ("batch", "cloudformation", "ec2", "ecr", "iam", "logs", "s3", "sts")


class Caller:
    """Gives back what it was asked."""

    def call(self, service, operation, /, **arguments):
        return service, operation, arguments

    def pages(self, service, operation, /, **arguments):
        yield service, operation, arguments


@pytest.mark.parametrize("service", SERVICES)
def test_an_operation_is_a_call(service):
    client = getattr(clients, service)(Caller())
    assert client.describe_it(name="a", service="b") == (service, "describe_it", {"name": "a", "service": "b"})


@pytest.mark.parametrize("service", SERVICES)
def test_a_paginator_gives_the_pages(service):
    paginator = getattr(clients, service)(Caller()).get_paginator("list_them")
    assert list(paginator.paginate(name="a")) == [(service, "list_them", {"name": "a"})]


def test_no_types_are_loaded():
    code = "import cloudknot.aws.clients, sys; print(*(name for name in sys.modules if name.startswith('types_')))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
