"""A function that runs the command on the shared cloud."""

import pytest


@pytest.fixture
def command(cloud, command_on):
    """Return a function that runs ``cloudknot`` with words on the shared cloud, and returns click's result."""
    return command_on(cloud)
