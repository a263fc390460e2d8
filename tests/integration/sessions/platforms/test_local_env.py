"""`cloudknot local env` sets the same variables in each shell's language."""

import subprocess

import pytest
from click.testing import CliRunner

from cloudknot.cli.local import local


def lines(cloud, *options):
    answer = CliRunner().invoke(local, ["env", "--directory", str(cloud.directory), *options])
    assert answer.exit_code == 0, answer.output
    return answer.output.splitlines()


def test_a_shell_reads_the_variables(cloud):
    script = "\n".join([*lines(cloud), "env"])
    answer = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin"}
    )
    found = dict(line.split("=", 1) for line in answer.stdout.splitlines() if "=" in line)
    assert {name: found.get(name) for name in cloud.environment()} == cloud.environment()


@pytest.mark.parametrize(
    ("shell", "form"), [("powershell", "$env:{} = '{}'"), ("cmd", 'set "{}={}"')], ids=["powershell", "cmd"]
)
def test_the_shells_of_windows_have_forms_of_their_own(cloud, shell, form):
    assert lines(cloud, "--shell", shell) == [form.format(*item) for item in cloud.environment().items()]
