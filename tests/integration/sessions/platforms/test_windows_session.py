"""A session on Windows: AWS only, and no message names the embedded cloud."""

import pytest

from tests.integration.sessions.platforms.test_windows_imports import on_windows

REFUSALS = {
    "a name": "import cloudknot as ck; ck.Knot('x', func=len, cloud='local')",
    "an object": "import cloudknot as ck; ck.LocalCloud()",
    "a command": "from cloudknot.cli.main import main; main(['local', 'start'])",
    "a variable": "import os; os.environ['CLOUDKNOT_CLOUD'] = 'local'; import cloudknot as ck; ck.Knot('x', func=len)",
}


@pytest.mark.parametrize("code", REFUSALS.values(), ids=REFUSALS)
def test_the_embedded_cloud_names_what_it_needs(code):
    answer = on_windows(code)
    assert answer.returncode == 1
    assert "needs Linux, WSL or macOS" in answer.stderr
    assert "wsl --install" in answer.stderr


def test_no_credentials_do_not_lead_to_the_embedded_cloud():
    answer = on_windows("import cloudknot as ck; ck.Knot('x', func=len)")
    assert "No AWS credentials were found" in answer.stderr
    assert "local" not in answer.stderr.strip().splitlines()[-1].partition("Error: ")[2]
