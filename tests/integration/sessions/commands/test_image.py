"""`cloudknot image build` makes environments that later knots find by their digest, on both runners."""

import tomllib

import pytest
from click.testing import CliRunner

from cloudknot.cli.main import main
from cloudknot.options import config
from tests.helpers.waiting import LONG

REQUIREMENTS = ["six==1.16.0"]


def version_of_six(_):
    import six

    return six.__version__


@pytest.fixture
def run_command(place, monkeypatch):
    """Return a function that runs ``cloudknot image build`` on the cloud, and returns the lines of its output."""
    monkeypatch.setenv("CLOUDKNOT_CLOUD", "local")
    monkeypatch.setenv("CLOUDKNOT_LOCAL_DIR", str(place.cloud.directory))
    # No engine: an environment is assembled in the registry.
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    base = ["--base-image", place.choices["base_image"]] if place.choices else []

    def run(*arguments):
        result = CliRunner().invoke(main, ["image", "build", *base, *arguments])
        assert result.exit_code == 0, result.output
        return result.stdout.splitlines()

    return run


def environments(cloud):
    """Return the digest of each environment's image by its tag."""
    images = cloud.repository(config.ecr_repo()).images()
    return {tag: digest for digest, tags in images.items() for tag in tags if tag.startswith("env-")}


def test_knot_finds_environment_that_command_built(place, run_command, monkeypatch):
    # Tests in other processes fill the usual repository of the registry.
    monkeypatch.setenv("CLOUDKNOT_ECR_REPO", "prebuilt")
    (line,) = run_command("-r", REQUIREMENTS[0])
    address, platform, *rest = line.split(None, 2)
    tag = address.rpartition(":")[2]
    assert platform == "linux/amd64,"
    assert rest[0].endswith(" packages")
    before = environments(place.cloud)
    assert tag in before
    knot = place.knot("prebuilt", version_of_six, requirements=REQUIREMENTS)
    assert environments(place.cloud) == before
    assert knot.map([0]).result(LONG) == ["1.16.0"]
    assert run_command("-r", REQUIREMENTS[0]) == [line]


def test_dry_run_prints_lock_of_one_platform_and_builds_nothing(place, run_command, tmp_path, monkeypatch):
    # Tests in other processes fill the usual repository of the registry.
    monkeypatch.setenv("CLOUDKNOT_ECR_REPO", "dry-run")
    file = tmp_path / "requirements.txt"
    file.write_text("six==1.15.0\n")
    lock = tomllib.loads("\n".join(run_command("-r", str(file), "--dry-run", "--platform", "linux/arm64")))
    assert "six" in [package["name"] for package in lock["packages"]]
    assert environments(place.cloud) == {}
    run_command("-r", str(file))
    assert len(environments(place.cloud)) == 1


def test_dry_run_refuses_two_platforms():
    both = ["image", "build", "-r", "six==1.15.0", "--dry-run", "--platform", "linux/amd64,linux/arm64"]
    answer = CliRunner().invoke(main, both)
    assert answer.exit_code == 2
    assert "Pass one --platform" in answer.output


def test_all_installed_packages_make_an_environment(place, run_command):
    names = [line for line in run_command("--environment", "all", "--dry-run") if line.startswith("name = ")]
    assert {'name = "numpy"', 'name = "boto3"', 'name = "pytest"'} <= set(names)


def test_base_image_for_another_platform_is_refused(docker_place, monkeypatch):
    monkeypatch.setenv("CLOUDKNOT_CLOUD", "local")
    monkeypatch.setenv("CLOUDKNOT_LOCAL_DIR", str(docker_place.cloud.directory))
    base = docker_place.choices["base_image"]
    result = CliRunner().invoke(
        main, ["image", "build", "-r", "six==1.16.0", "--platform", "linux/arm64", "--base-image", base]
    )
    assert result.exit_code == 1
    assert "linux/arm64" in result.stderr
    assert "base_image=" in result.stderr


@pytest.mark.parametrize("arguments", [[], ["-r", "six", "--environment", "all"], ["-r", "six", "--platform", "vax"]])
def test_invalid_options_end_with_usage_error(arguments):
    result = CliRunner().invoke(main, ["image", "build", "--cloud", "local", *arguments])
    assert result.exit_code == 2, result.output
    assert "Pass" in result.stderr


def test_failure_is_one_message_with_exit_code_1(cloud, monkeypatch):
    monkeypatch.setenv("CLOUDKNOT_LOCAL_DIR", str(cloud.directory))
    result = CliRunner().invoke(main, ["image", "build", "--cloud", "local", "-r", "six==99.0"])
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.startswith("Error: ")
    assert "six" in result.stderr
