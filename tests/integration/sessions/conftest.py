"""Sessions that are interpreters of their own, on the embedded cloud of the tests."""

import os
import subprocess
import sys
import textwrap

import pytest

LONG = 120


@pytest.fixture
def python(cloud, tmp_path):
    """Return a function that runs a script in an interpreter and a directory of its own."""

    def run(script, *arguments, folder="one", check=True, options=()):
        directory = tmp_path / folder
        directory.mkdir(exist_ok=True)
        path = directory / "script.py"
        path.write_text(textwrap.dedent(script))
        environment = {**os.environ, "CLOUDKNOT_LOCAL_DIR": str(cloud.directory), "CLOUDKNOT_CLOUD": "local"}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [os.getcwd(), environment.get("PYTHONPATH")]))
        return subprocess.run(
            [sys.executable, *options, str(path), *map(str, arguments)],
            cwd=directory,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LONG,
            check=check,
        )

    return run
