"""`cloudknot local prune` and the limit of disk space, with knots and jobs of a running embedded cloud."""

import os
import shutil

import pytest
from click.testing import CliRunner

import cloudknot as ck
from cloudknot.cli.main import main
from cloudknot.local.runners.images.contents import site_packages
from tests.helpers.batch import Client
from tests.helpers.functions import double, square
from tests.helpers.waiting import until


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    monkeypatch.delenv("CLOUDKNOT_LOCAL_ENVIRONMENTS", raising=False)
    with ck.LocalCloud(tmp_path / "own", vcpus=2) as cloud:
        yield cloud


def images(cloud):
    return {path.name for path in (cloud.directory / "images").iterdir() if path.is_dir()}


def environments(cloud):
    folder = cloud.directory / "environments"
    return {path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")}


def command(cloud, *words):
    result = CliRunner().invoke(main, ["local", *words, "--directory", str(cloud.directory)])
    assert result.exit_code == 0, result.output
    return result.output


def test_prune_keeps_what_knots_use_and_their_jobs_run(cloud):
    knot = ck.Knot(name="kept", func=square, cloud=cloud, requirements=[])
    other = ck.Knot(name="other", func=double, cloud=cloud, requirements=["six==1.16.0"])
    assert list(knot.map([2]).result()) == [4]
    assert (len(images(cloud)), len(environments(cloud))) == (2, 2)
    assert "Removed 0 environments" in command(cloud, "prune")
    other.clobber()
    output = command(cloud, "prune")
    assert "Removed 1 environment with installed packages and 1 image" in output
    assert "1 environment (" in output
    assert (len(images(cloud)), len(environments(cloud))) == (1, 1)
    assert list(knot.map([3]).result()) == [9]


def test_prune_returns_space_of_deleted_objects(cloud):
    cloud.storage.ensure_bucket({})
    keys = [f"small{number}" for number in range(300)]
    for key in keys:
        cloud.storage.put(key, os.urandom(30_000))
    cloud.storage.put("kept", b"kept")
    cloud.storage.delete(*keys)
    before = cloud.usage().disk["results"]
    assert before > 9_000_000
    freed = cloud.prune().freed
    assert freed > 9_000_000
    assert cloud.usage().disk["results"] < before - 8_000_000
    assert cloud.storage.get("kept") == b"kept"
    assert cloud.usage().objects == 1


def test_prune_spares_running_job_of_deregistered_definition(cloud, tmp_path):
    client = Client(cloud)
    path = tmp_path / "go"
    job = client.submit(*["python", "-m", "cloudknot_worker", "talk", str(path)])
    until(lambda: client.describe(job)["status"] == "RUNNING")
    client.batch.deregister_job_definition(jobDefinition="worker")
    assert cloud.prune().environments == 0
    path.touch()
    assert client.wait(job)["status"] == "SUCCEEDED"


def test_knot_is_repaired_under_a_running_cloud(cloud):
    knot = ck.Knot(name="six", func=uses_six, cloud=cloud, requirements=["six==1.16.0"])
    assert list(knot.map([1]).result()) == ["1.16.0"]
    (environment,) = (cloud.directory / "environments").glob("[!.]*[!k]")
    (site_packages(environment) / "six.py").unlink()
    again = ck.Knot(name="six", func=uses_six, cloud=cloud, requirements=["six==1.16.0"])
    assert (site_packages(environment) / "six.py").exists()
    assert list(again.map([1]).result()) == ["1.16.0"]


def test_job_without_its_environment_names_the_cause(cloud):
    knot = ck.Knot(name="lost", func=square, cloud=cloud, requirements=[])
    # A process that already waits for jobs has loaded its files.
    cloud.stop()
    shutil.rmtree(cloud.directory / "environments")
    cloud.start()
    with pytest.raises(ck.ImagePullError, match=r"not installed any more.*Create the Knot again"):
        knot.map([1]).result()
    again = ck.Knot(name="lost", func=square, cloud=cloud, requirements=[])
    assert list(again.map([2]).result()) == [4]


def test_job_of_removed_python_names_the_cause(cloud):
    knot = ck.Knot(name="upgraded", func=square, cloud=cloud, requirements=[])
    cloud.stop()
    for python in (cloud.directory / "environments").glob("[!.]*/bin/python*"):
        python.unlink()
    cloud.start()
    with pytest.raises(ck.ImagePullError, match=r"not installed any more.*bin/python.*Create the Knot again"):
        knot.map([1]).result()
    again = ck.Knot(name="upgraded", func=square, cloud=cloud, requirements=[])
    assert list(again.map([2]).result()) == [4]


def test_new_image_removes_old_ones_above_the_limit(cloud, monkeypatch):
    old = ck.Knot(name="old", func=square, cloud=cloud, requirements=[])
    kept = ck.Knot(name="kept", func=double, cloud=cloud, requirements=["six==1.16.0"])
    old.clobber()
    for folder in (*(cloud.directory / "images").iterdir(), *(cloud.directory / "environments").glob("*/.used")):
        os.utime(folder, (0, 0))
    before = environments(cloud)
    monkeypatch.setenv("CLOUDKNOT_LOCAL_GB", "0.001")
    ck.Knot(name="new", func=square, cloud=cloud, requirements=["six==1.15.0"])
    assert len(before - environments(cloud)) == 1
    assert list(kept.map([4]).result()) == [8]


def test_prune_of_stopped_cloud_keeps_environments_of_its_knots(cloud):
    knot = ck.Knot(name="one", func=square, cloud=cloud, requirements=[])
    command(cloud, "stop")
    assert "Removed 0 environments with installed packages and 0 images" in command(cloud, "prune")
    # The command started the cloud to ask for its knots.
    assert cloud.status() is None
    cloud.start()
    knot.clobber()
    command(cloud, "stop")
    assert "Removed 1 environment with installed packages and 1 image" in command(cloud, "prune")
    assert (images(cloud), environments(cloud)) == (set(), set())


def test_prune_deletes_old_runs_after_a_question(cloud):
    knot = ck.Knot(name="one", func=square, cloud=cloud, requirements=[])
    future = knot.map([2])
    assert future.result() == [4]
    # The result is there before its run has ended.
    until(lambda: future.job.status == "SUCCEEDED")
    words = ["local", "prune", "--directory", str(cloud.directory), "--runs"]
    assert "No run older than 1 day has ended." in CliRunner().invoke(main, [*words, "1"]).output
    asked = CliRunner().invoke(main, [*words, "0"], "n\n")
    assert asked.exit_code == 1
    assert "The inputs and results of 1 run of the knot one will be deleted." in asked.output
    assert knot.jobs[-1].result() == [4]
    assert "Deleted 1 run." in CliRunner().invoke(main, [*words, "0", "--yes"]).output
    assert len(ck.Knot(name="one", cloud=cloud).jobs) == 0


def uses_six(_):
    import six

    return six.__version__
