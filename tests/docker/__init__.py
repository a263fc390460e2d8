"""Tests on a real Docker engine with a real registry and real containers, and what they need of the machine."""

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
    """What ``.ci/docker-setup`` has made: an engine that Docker's own variables name, a registry, a base image."""

    registry: str
    username: str
    password: str = field(repr=False)
    base_image: str

    @property
    def login(self):
        """The variables that a cloud reads when it is started."""
        return {"CLOUDKNOT_REGISTRY_USERNAME": self.username, "CLOUDKNOT_REGISTRY_PASSWORD": self.password}


def machine():
    """The machine's engine and registry; a test that asks for them where there are none is skipped."""
    found = _look()
    if isinstance(found, str):
        pytest.skip(f"{found}: {HOW}")
    return found


@cache
def _look():
    """The machine, or why it cannot run these tests."""
    names = ("REGISTRY", "REGISTRY_USERNAME", "REGISTRY_PASSWORD_FILE", "BASE_IMAGE")
    values = [os.environ.get(f"CLOUDKNOT_TEST_{name}", "") for name in names]
    if not all(values):
        return "no Docker engine and registry for tests"
    registry, username, password_file, base_image = values
    python = "{}.{}".format(*sys.version_info)
    if not re.search(rf":{re.escape(python)}(\D|$)", base_image):
        return f"the base image {base_image} has another Python than {python}"
    return Machine(registry, username, Path(password_file).read_text(), base_image)
