"""Tests with a real Docker engine, registry and containers, and the machine that provides them."""

import os
import re
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

HOW = "run `make docker` as root on Debian first, or see docs/docker.md"


@dataclass(frozen=True)
class Machine:
    """The registry and the base image that ``.ci/docker-setup`` has made. Docker's own variables name the engine."""

    registry: str
    username: str
    password: str = field(repr=False)
    base_image: str

    @property
    def login(self):
        """The variables with the login, for a cloud to read when it starts."""
        return {"CLOUDKNOT_REGISTRY_USERNAME": self.username, "CLOUDKNOT_REGISTRY_PASSWORD": self.password}


def machine():
    """Return the machine with engine and registry. Skip the test where they are missing."""
    available = _machine_or_reason()
    if isinstance(available, str):
        pytest.skip(f"{available}: {HOW}")
    return available


@cache
def _machine_or_reason():
    """Return the machine, or the reason why it cannot run these tests."""
    names = ("REGISTRY", "REGISTRY_USERNAME", "REGISTRY_PASSWORD_FILE", "BASE_IMAGE")
    values = [os.environ.get(f"CLOUDKNOT_TEST_{name}", "") for name in names]
    if not all(values):
        return "no Docker engine and registry for tests"
    registry, username, password_file, base_image = values
    python = "{}.{}".format(*sys.version_info)
    # Programs are pickled by the Python of the tests, and containers must unpickle them with the same minor version.
    if not re.search(rf":{re.escape(python)}(\D|$)", base_image):
        return f"the base image {base_image} has another Python than {python}"
    return Machine(registry, username, Path(password_file).read_text(), base_image)
