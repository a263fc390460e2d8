"""Invalid calls of the `cloudknot` command."""

from __future__ import annotations

import io

import click
import pytest

import cloudknot as ck
from cloudknot.aws.s3.bucket import Bucket
from cloudknot.cli.main import main
from tests.integration.messages.catalogue import Area, World

AREA = Area("command line")


def _call(world: World, *arguments: str) -> None:
    world.patch.setenv("CLOUDKNOT_LOCAL_DIR", str(world.cloud.directory))
    world.patch.setenv("CLOUDKNOT_CLOUD", "local")
    main.main(list(arguments), standalone_mode=False)


def _refusal(world: World, *arguments: str) -> click.ClickException:
    with pytest.raises(click.ClickException) as caught:
        _call(world, *arguments)
    return caught.value


@AREA.case
def clobber_without_knot(world: World) -> None:
    _call(world, "clobber")


@AREA.case
def clobber_of_all_with_another_option(world: World) -> None:
    _call(world, "clobber", "--all", "--pars")


@AREA.case
def question_without_terminal(world: World) -> None:
    world.patch.setattr("sys.stdin", io.StringIO())
    _call(world, "selftest")


@AREA.case
def clobber_of_unknown_knot(world: World) -> None:
    _call(world, "clobber", "no-such-knot", "--yes")


@AREA.case
def region_for_embedded_cloud(world: World) -> None:
    _call(world, "list", "--region", "eu-west-1")


@AREA.case
def account_without_digits(world: World) -> None:
    _call(world, "permissions", "run", "--account", "mine")


@AREA.case
def boundary_for_policy_without_roles(world: World) -> None:
    _call(world, "permissions", "run", "--boundary", "arn:aws:iam::123456789012:policy/lab")


@AREA.case
def policy_for_jobs_without_boundary(world: World) -> None:
    _call(world, "permissions", "create", "--policy", "arn:aws:iam::123456789012:policy/lab")


@AREA.case
def boundary_without_arn(world: World) -> None:
    _call(world, "permissions", "create", "--boundary", "lab")


@AREA.case
def policy_for_one_knot_of_level_that_creates_knots(world: World) -> None:
    _call(world, "permissions", "create", "--account", "123456789012", "--knot", "pi-calc")


def _square(x: int) -> int:
    return x * x


@AREA.case
def commands_for_no_job(world: World) -> list[click.ClickException]:
    ck.Knot(name="squares-idle", func=_square, cloud=world.cloud)
    return [_refusal(world, "status", name) for name in ("squares-idel", "squares-idle")]


@AREA.case
def results_that_cannot_be_written(world: World) -> list[click.ClickException]:
    job = ck.Knot(name="squares-idle", func=_square, cloud=world.cloud).map([1j]).job
    job.result()
    files = (world.path / "missing" / "x.pkl", world.path / "x.json")
    return [_refusal(world, "result", job.job_id, "-o", str(file)) for file in files]


@AREA.case
def results_of_failed_map(world: World) -> None:
    future = ck.Knot(name="squares-idle", func=_square, cloud=world.cloud).map(["a"])
    _call(world, "result", future.job.job_id)


@AREA.case
def output_of_too_many_jobs(world: World) -> None:
    future = ck.Knot(name="squares-idle", func=_square, cloud=world.cloud).map(range(101))
    try:
        _call(world, "logs", future.job.job_id, "--follow")
    finally:
        future.cancel()


@AREA.case
def clobber_of_bucket_with_other_objects(world: World) -> None:
    with ck.LocalCloud(world.path / "own") as cloud:
        Bucket(cloud.door, cloud.bucket, cloud.region, has_default_name=True).ensure({})
        cloud.storage.put("thesis.tex", b"mine")
        world.patch.setenv("CLOUDKNOT_LOCAL_DIR", str(cloud.directory))
        world.patch.setenv("CLOUDKNOT_CLOUD", "local")
        main.main(["clobber", "--all", "--results", "--yes"], standalone_mode=False)


@AREA.case
def settings_without_answers(world: World) -> None:
    world.patch.setenv("CLOUDKNOT_CONFIG_FILE", str(world.path / "settings"))
    world.patch.setattr("sys.stdin", io.StringIO())
    _call(world, "configure")


@AREA.case
def image_without_requirements(world: World) -> None:
    _call(world, "image", "build")


@AREA.case
def image_for_unknown_platform(world: World) -> None:
    _call(world, "image", "build", "-r", "six", "--platform", "linux/vax")


@AREA.case
def image_of_file_and_line(world: World) -> None:
    (world.path / "requirements.txt").write_text("six\n")
    _call(world, "image", "build", "-r", str(world.path / "requirements.txt"), "-r", "attrs")


@AREA.case
def lock_of_two_platforms(world: World) -> None:
    _call(world, "image", "build", "-r", "six", "--dry-run", "--platform", "linux/amd64,linux/arm64")


@AREA.case
def error_of_library_as_usage_error(world: World) -> None:
    world.patch.setenv("CLOUDKNOT_CLOUD", "moon")
    main.main(["list"], standalone_mode=False)
