"""The errors that people meet most print their sentence with a few lines before it, and none of botocore."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import cloudknot as ck

DEFINITIONS = """
import cloudknot as ck

def divide(x):
    return 1 / x

class Unpicklable:
    def __reduce__(self):
        raise TypeError("no copy of a microscope")
"""
KEY = {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "B"}
SILENT = {**KEY, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
ON_AWS = {
    "no credentials": ("ck.Knot('lines', func=divide)", {}, "CredentialsError: No AWS credentials were found"),
    "half a key": (
        "ck.Knot('lines', func=divide)",
        {"AWS_ACCESS_KEY_ID": "A"},
        "CredentialsError: The AWS access key",
    ),
    "no network": ("ck.Knot('lines')", SILENT, "CloudError: cloudformation:describe_stacks got no answer"),
    "unknown profile": ("ck.Knot('lines')", {"AWS_PROFILE": "x"}, "ProfileException: There is no AWS profile 'x'"),
    "no network for a list": ("ck.list_knots()", SILENT, "CloudError: "),
    "bad option": ("ck.Knot('lines', func=divide, retries=99)", {}, "CloudknotInputError: retries=99"),
    "bad memory": ("ck.Knot('lines', func=divide, memory=8)", {}, "CloudknotInputError: memory=8"),
    "misspelt keyword": ("ck.Knot(nam='lines')", {}, "UnknownArgumentError: Knot has no parameter 'nam'"),
    "unread variable": ("ck.Knot('lines')", {"CLOUDKNOT_X": "1"}, "CloudknotConfigurationError: cloudknot does not"),
    "unknown region": ("ck.set_region('eu-wset-1')", {}, "RegionException: 'eu-wset-1' is not an AWS region"),
    "missing requirement": ("ck.Knot('lines', func=divide, requirements=['x==latest'])", {}, "CloudknotInputError: "),
}
"""A statement with the variables around it, and how the last lines of its output begin."""
ON_EMBEDDED_CLOUD = {
    "missing knot": (
        "ck.Knot('no-such')",
        "ResourceDoesNotExistException: There is no knot 'no-such' in the",
    ),
    "wrong key": ("ck.Knot('x', cloud=unknown)", "CredentialsError: AWS does not know your access key"),
    "element without its package": (
        "import numpy; knot.map([numpy.float64(1)])",
        "CloudknotInputError: Element 0 of the input needs numpy",
    ),
    "element of another number": (
        "ck.Knot('lines-of-job', func=divide).map([(1, 2)], starmap=True)",
        "CloudknotInputError: Element 0 of the input has 2 arguments",
    ),
    "function in the place of pars": ("ck.Knot('lines', abs)", "CloudknotInputError: pars=<built-in function abs>"),
    "bad element": ("import threading; knot.map([1, threading.Lock()])", "CloudknotInputError: "),
    "bad function": ("import socket\ns = socket.socket()\nck.Knot('x', func=lambda x: s)", "InputError: "),
    "bad option of map": ("knot.map([1], chunksize=0)", "CloudknotInputError: chunksize=0"),
    "misspelt keyword of map": ("knot.map([1], chunk_size=2)", "UnknownArgumentError: Knot.map has no parameter"),
    "timeout": ("knot.map([1]).result(timeout=0)", "CKTimeoutError: "),
    "no package": ("ck.Knot('x', func=divide, requirements=['no-such-package-of-ours==1'])", "ImageError: "),
}


def output_of(code: str, environment: dict[str, str]) -> list[str]:
    """Return the lines that a Python process prints to standard error."""
    variables = {**os.environ, "AWS_EC2_METADATA_DISABLED": "true", **environment}
    command = [sys.executable, "-c", DEFINITIONS + code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, env=variables)
    assert done.returncode == 1, done.stderr
    text = done.stderr[done.stderr.index("Traceback (most") :]
    return text.splitlines()


@pytest.mark.parametrize("name", ON_AWS)
def test_error_on_aws_has_few_lines_before_its_sentence(name: str) -> None:
    statement, variables, sentence = ON_AWS[name]
    lines = output_of(statement, variables)
    assert_short(lines, sentence)


@pytest.fixture(scope="module")
def knot(cloud: ck.LocalCloud) -> ck.Knot:
    return ck.Knot(name="lines", func=abs, cloud=cloud)


@pytest.mark.parametrize("name", ON_EMBEDDED_CLOUD)
def test_error_on_embedded_cloud_has_few_lines_before_its_sentence(
    name: str, cloud: ck.LocalCloud, knot: ck.Knot
) -> None:
    statement, sentence = ON_EMBEDDED_CLOUD[name]
    secret = "aws_secret_access_key='x'"
    code = (
        f"unknown = ck.LocalCloud({str(cloud.directory)!r}, aws_access_key_id='AKIAUNKNOWN', {secret})\n"
        f"knot = ck.Knot('lines')\n{statement}"
    )
    variables = {"CLOUDKNOT_CLOUD": "local", "CLOUDKNOT_LOCAL_DIR": str(cloud.directory)}
    lines = output_of(code, variables)
    assert_short(lines, sentence)


def test_error_of_function_shows_its_line_in_job_and_no_line_of_botocore(cloud: ck.LocalCloud, knot: ck.Knot) -> None:
    variables = {"CLOUDKNOT_CLOUD": "local", "CLOUDKNOT_LOCAL_DIR": str(cloud.directory)}
    lines = output_of("ck.Knot('lines-of-job', func=divide).map([1, 0]).result(300)", variables)
    assert any("return 1 / x" in line or ", in divide" in line for line in lines)
    assert "ZeroDivisionError: division by zero" in lines
    assert not [line for line in lines if "botocore" in line or "urllib3" in line]
    # The last part is the error in this session, with one line of cloudknot.
    assert len([line for line in lines if line.startswith('  File "') and "cloudknot/" in line]) == 1, lines
    assert len(lines) <= 20, "\n".join(lines)


def test_error_of_function_has_all_lines_for_developers(cloud: ck.LocalCloud, knot: ck.Knot) -> None:
    local = {"CLOUDKNOT_CLOUD": "local", "CLOUDKNOT_LOCAL_DIR": str(cloud.directory), "CLOUDKNOT_TRACEBACK": "1"}
    lines = output_of("ck.Knot('lines-of-job', func=divide).map([1, 0]).result(300)", local)
    assert any("element_future.py" in line for line in lines)


def test_line_of_user_that_refuses_to_be_pickled_is_shown(cloud: ck.LocalCloud, knot: ck.Knot) -> None:
    variables = {"CLOUDKNOT_CLOUD": "local", "CLOUDKNOT_LOCAL_DIR": str(cloud.directory)}
    lines = output_of("ck.Knot('lines').map([1, Unpicklable()])", variables)
    assert any(", in __reduce__" in line for line in lines)
    assert "TypeError: no copy of a microscope" in lines


def test_variable_shows_all_lines_for_developers() -> None:
    statement, variables, sentence = ON_AWS["no network"]
    lines = output_of(statement, {**variables, "CLOUDKNOT_TRACEBACK": "1"})
    assert any("door.py" in line for line in lines)
    assert sentence in "\n".join(lines)


def test_command_prints_one_line_without_traceback(tmp_path: Path) -> None:
    for arguments, variables in (
        (["list"], {}),
        (["list"], SILENT),
        (["jobs", "x"], {"AWS_PROFILE": "x"}),
        (["list"], {"CLOUDKNOT_S3_BUKET": "x"}),
        (["list"], {"AWS_REGON": "x"}),
    ):
        command = [sys.executable, "-m", "cloudknot", *arguments]
        environment = {**os.environ, "AWS_EC2_METADATA_DISABLED": "true", **variables}
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("Error: ")
        assert len(done.stderr.splitlines()) == 1


def assert_short(lines: list[str], sentence: str) -> None:
    """Check the number of lines from the first one to the sentence of the error."""
    text = "\n".join(lines)
    before = next((n for n, line in enumerate(lines) if sentence in line), None)
    assert before is not None, text
    # Title, the user's line, and one line of cloudknot; Python adds a line of code and one of markers to each.
    assert before <= 9, text
    assert not [line for line in lines if "botocore/" in line or "urllib3/" in line], text
    assert "During handling of the above exception" not in text
