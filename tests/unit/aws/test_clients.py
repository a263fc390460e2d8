"""Typed clients pass every operation to their caller. A fake caller returns its arguments."""

import subprocess
import sys

import pytest

from cloudknot.aws import clients

SERVICES = ("batch", "cloudformation", "ec2", "ecr", "iam", "logs", "s3", "sts")


class Caller:
    """A fake door that returns the arguments of each call."""

    def call(self, service, operation, /, **arguments):
        return service, operation, arguments

    def pages(self, service, operation, /, **arguments):
        yield service, operation, arguments


@pytest.mark.parametrize("service", SERVICES)
def test_client_passes_operation_to_its_caller(service):
    client = getattr(clients, service)(Caller())
    assert client.describe_it(name="a", service="b") == (service, "describe_it", {"name": "a", "service": "b"})


@pytest.mark.parametrize("service", SERVICES)
def test_paginator_yields_pages_of_its_caller(service):
    paginator = getattr(clients, service)(Caller()).get_paginator("list_them")
    assert list(paginator.paginate(name="a")) == [(service, "list_them", {"name": "a"})]


def test_clients_load_no_type_packages():
    # Users do not install these packages. A process of its own starts without the modules of other tests.
    code = "import cloudknot.aws.clients, sys; print(*(name for name in sys.modules if name.startswith('types_')))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
