"""A function that runs the command on the shared cloud."""

import pytest
from click.testing import CliRunner

from cloudknot.cli.main import main


@pytest.fixture
def command(cloud, monkeypatch):
    """Return a function that runs ``cloudknot`` with words on the shared cloud, and returns click's result."""
    monkeypatch.setenv("CLOUDKNOT_CLOUD", "local")
    monkeypatch.setenv("CLOUDKNOT_LOCAL_DIR", str(cloud.directory))
    return lambda *words, **choices: CliRunner().invoke(main, list(map(str, words)), **choices)
