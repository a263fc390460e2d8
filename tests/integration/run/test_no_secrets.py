"""Secrets of the cloud's owner and of a job leak nowhere.

A real job runs while the tests search every place that could hold its secrets: processes, log, files, stacks, bucket.
"""

import contextlib
import json
import os
import stat
from pathlib import Path

import pytest

import cloudknot as ck
from cloudknot.local.directory.files import RECORDS, state_file
from tests.helpers.waiting import until


def show_and_wait(path):
    """Print this job's environment, write its process id to a file, and wait for the test."""
    import os
    import time

    import boto3

    credentials = boto3.Session().get_credentials()
    print("environment:", dict(os.environ), flush=True)
    with open(f"{path}.new", "w") as stream:
        stream.write(str(os.getpid()))
    os.rename(f"{path}.new", path)
    while not os.path.exists(f"{path}.go"):
        time.sleep(0.02)
    return [credentials.secret_key, credentials.token]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    with ck.LocalCloud(tmp_path_factory.mktemp("secrets") / "local", vcpus=2) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def job_traces(cloud, tmp_path_factory):
    """Run a job, and return the text of the places that could hold its secrets, with all secrets."""
    path = tmp_path_factory.mktemp("job") / "pid"
    knot = ck.Knot(name="secretive", func=show_and_wait, cloud=cloud)
    future = knot.map([str(path)])
    pid = int(until(lambda: path.exists() and path.read_text()))
    traces = {"environ": process_files(pid, "environ"), "commands": all_commands(), "files": files_of(cloud.directory)}
    described = knot._cloud.call("batch", "describe_jobs", jobs=[future.job.job_id])["jobs"]
    Path(f"{path}.go").touch()
    job_secrets = future.result(300)[0]
    log = until(lambda: list(future.job.logs(0)))
    owners = cloud.environment()["AWS_SECRET_ACCESS_KEY"]
    tokens = [text for name, text in traces["files"].items() if "/credentials/" in name]
    # Without a token, the search for tokens would always succeed.
    assert tokens
    traces |= {"described": described, "log": log, "knot": knot, "secrets": [owners, *job_secrets, *tokens]}
    return traces


def process_files(pid, name):
    """Return the text of a file in /proc for a process and its parent, the fork server."""
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return [Path(f"/proc/{process}/{name}").read_bytes().decode(errors="replace") for process in (pid, parent)]


def all_commands():
    """Return the command line of every process on the machine."""
    commands = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                commands.append(Path(f"/proc/{entry}/cmdline").read_bytes().decode(errors="replace"))
            except OSError:
                # The process has ended meanwhile.
                continue
    return commands


def files_of(directory):
    """Return the text of every file in a cloud's directory, by path, without the installed packages."""
    texts = {}
    # The cloud runs, and deletes files meanwhile. Unlike a glob, this walk does not fail for a deleted directory.
    for folder, _, names in os.walk(directory):
        if "environments" in Path(folder).relative_to(directory).parts:
            continue
        for path in (Path(folder, name) for name in names):
            with contextlib.suppress(FileNotFoundError):
                if path.is_file() and not path.is_symlink():
                    texts[str(path)] = path.read_bytes().decode(errors="replace")
    return texts


def assert_none_of(secrets, place):
    text = str(place)
    assert text
    for secret in secrets:
        assert len(secret) > 20
        # Not `assert secret not in text`: pytest compares both at length, which takes minutes for a large text, and
        # would print the secret.
        is_leaked = secret in text
        assert not is_leaked


def test_search_finds_secret_that_is_present(job_traces):
    with pytest.raises(AssertionError):
        assert_none_of(job_traces["secrets"], [*job_traces["log"], job_traces["secrets"][-1]])


@pytest.mark.parametrize("place", ["environ", "commands", "described", "log"])
def test_no_secret_is_in_jobs_traces(job_traces, place):
    assert_none_of(job_traces["secrets"], job_traces[place])


def test_no_secret_is_in_job_definition(job_traces, cloud):
    pages = cloud.pages("batch", "describe_job_definitions")
    assert_none_of(job_traces["secrets"], [page["jobDefinitions"] for page in pages])


def test_no_secret_is_in_stack(job_traces, cloud):
    stacks = cloud.call("cloudformation", "describe_stacks")["Stacks"]
    names = [stack["StackName"] for stack in stacks]
    templates = [cloud.call("cloudformation", "get_template", StackName=name) for name in names]
    assert_none_of(job_traces["secrets"], [stacks, templates])


def test_no_secret_is_in_bucket(job_traces, cloud):
    bodies = [cloud.storage.get(key) for key in cloud.storage.keys("")]
    # The job returned its own secrets as its result, so only those of the owner are searched for.
    owners, *_ = job_traces["secrets"]
    assert_none_of([owners], [body.decode(errors="replace") for body in bodies])


def test_only_state_records_and_token_files_contain_secrets(job_traces, cloud):
    owners, *jobs = job_traces["secrets"]
    files = job_traces["files"].items()
    others = {name: text for name, text in files if "/.cloudknot-scratch/credentials/" not in name}
    assert any("/images/" in name for name in others)
    assert_none_of(jobs, others)
    # The owner's key survives a restart, and a crash, so it is among the cloud's records as well.
    holders = {name for name, text in others.items() if owners in text}
    assert str(state_file(cloud.directory)) in holders
    # SQLite makes and deletes files beside its database.
    databases = {name for name in others if name.startswith(str(cloud.directory / RECORDS))}
    assert holders <= {str(state_file(cloud.directory)), *databases}


def test_files_with_secret_are_closed_to_other_users(job_traces, cloud):
    for name, text in job_traces["files"].items():
        if any(secret in text for secret in job_traces["secrets"]):
            places = [Path(name), *Path(name).parents]
            inside = places[: places.index(cloud.directory) + 1]
            assert any(stat.S_IMODE(place.stat().st_mode) & 0o077 == 0 for place in inside if place.exists()), name
    assert stat.S_IMODE(cloud.directory.stat().st_mode) == 0o700


def test_no_secret_is_in_repr(cloud):
    secret = cloud.environment()["AWS_SECRET_ACCESS_KEY"]
    key = {"aws_access_key_id": "AKIA", "aws_secret_access_key": secret, "aws_session_token": secret}
    session = ck.LocalCloud(cloud.directory, **key)
    state = cloud._connection.state
    assert state.secret_key == secret
    assert secret not in repr(session) + repr(session._key) + repr(state) + json.dumps(str(cloud.status()))
