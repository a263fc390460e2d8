"""No secret is where it does not belong: every place that a job's secrets could leak to is searched for them."""

import json
import os
import stat
from pathlib import Path

import pytest

import cloudknot as ck
from tests.helpers.waiting import until


def show_and_wait(path):
    """Print what this job has, tell its process id, and stay until told to end."""
    import os
    import time

    import boto3

    found = boto3.Session().get_credentials()
    print("environment:", dict(os.environ), flush=True)
    with open(f"{path}.new", "w") as stream:
        stream.write(str(os.getpid()))
    os.rename(f"{path}.new", path)
    while not os.path.exists(f"{path}.go"):
        time.sleep(0.02)
    return [found.secret_key, found.token]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    with ck.LocalCloud(tmp_path_factory.mktemp("secrets") / "local", vcpus=2) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def ran(cloud, tmp_path_factory):
    """A job that runs while the places are searched: its knot, its process, and every secret there is."""
    path = tmp_path_factory.mktemp("job") / "pid"
    knot = ck.Knot(name="secretive", func=show_and_wait, cloud=cloud)
    future = knot.map([str(path)])
    pid = int(until(lambda: path.exists() and path.read_text()))
    seen = {"environ": process_files(pid, "environ"), "commands": all_commands(), "files": files_of(cloud.directory)}
    described = knot._cloud.call("batch", "describe_jobs", jobs=[future.job.job_id])["jobs"]
    Path(f"{path}.go").touch()
    job_secrets = future.result(300)[0]
    log = until(lambda: list(future.job.logs(0)))
    owners = cloud.environment()["AWS_SECRET_ACCESS_KEY"]
    tokens = [text for name, text in seen["files"].items() if "/credentials/" in name]
    assert tokens
    seen |= {"described": described, "log": log, "knot": knot, "secrets": [owners, *job_secrets, *tokens]}
    return seen


def process_files(pid, name):
    """A file of a process and of its parent, from the kernel."""
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return [Path(f"/proc/{one}/{name}").read_bytes().decode(errors="replace") for one in (pid, parent)]


def all_commands():
    """The command line of every process of the machine."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                found.append(Path(f"/proc/{entry}/cmdline").read_bytes().decode(errors="replace"))
            except OSError:
                continue
    return found


def files_of(directory):
    """The text of every file in a cloud's directory, but for the installed packages."""
    found = {}
    for path in directory.rglob("*"):
        if path.is_file() and not path.is_symlink() and "environments" not in path.relative_to(directory).parts:
            found[str(path)] = path.read_bytes().decode(errors="replace")
    return found


def assert_none_of(secrets, place):
    text = str(place)
    assert text
    for secret in secrets:
        assert len(secret) > 20
        assert secret not in text


def test_the_search_finds_what_is_there(ran):
    with pytest.raises(AssertionError):
        assert_none_of(ran["secrets"], [*ran["log"], ran["secrets"][-1]])


@pytest.mark.parametrize("place", ["environ", "commands", "described", "log"])
def test_no_secret_is_in_a_jobs_traces(ran, place):
    assert_none_of(ran["secrets"], ran[place])


def test_no_secret_is_in_a_job_definition(ran, cloud):
    pages = cloud.pages("batch", "describe_job_definitions")
    assert_none_of(ran["secrets"], [page["jobDefinitions"] for page in pages])


def test_no_secret_is_in_a_stack(ran, cloud):
    stacks = cloud.call("cloudformation", "describe_stacks")["Stacks"]
    names = [stack["StackName"] for stack in stacks]
    templates = [cloud.call("cloudformation", "get_template", StackName=name) for name in names]
    assert_none_of(ran["secrets"], [stacks, templates])


def test_no_secret_is_in_the_bucket(ran, cloud):
    bodies = [cloud.storage.get(key) for key in cloud.storage.keys("")]
    # The result that this test asks the job for is made of its secrets.
    owners, *_ = ran["secrets"]
    assert_none_of([owners], [body.decode(errors="replace") for body in bodies])


def test_no_secret_is_in_an_image_or_another_file_than_those_that_are_for_it(ran, cloud):
    allowed = ("/cloud.json", "/.cloudknot-scratch/credentials/")
    others = {name: text for name, text in ran["files"].items() if not any(part in name for part in allowed)}
    assert any("/images/" in name for name in others)
    assert_none_of(ran["secrets"], others)


def test_what_holds_a_secret_is_closed_to_other_users(ran, cloud):
    for name, text in ran["files"].items():
        if any(secret in text for secret in ran["secrets"]):
            places = [Path(name), *Path(name).parents]
            inside = places[: places.index(cloud.directory) + 1]
            assert any(stat.S_IMODE(place.stat().st_mode) & 0o077 == 0 for place in inside if place.exists()), name
    assert stat.S_IMODE(cloud.directory.stat().st_mode) == 0o700


def test_no_secret_is_in_a_repr(cloud):
    secret = cloud.environment()["AWS_SECRET_ACCESS_KEY"]
    key = {"aws_access_key_id": "AKIA", "aws_secret_access_key": secret, "aws_session_token": secret}
    other = ck.LocalCloud(cloud.directory, **key)
    assert secret not in repr(other) + repr(other._key) + repr(cloud._state) + json.dumps(str(cloud.status()))
