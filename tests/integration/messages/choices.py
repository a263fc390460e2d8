"""Invalid choices for `Knot`, `map`, `DockerImage` and `Pars`, and invalid settings."""

from __future__ import annotations

import numpy as np

import cloudknot as ck
from cloudknot.options import config
from cloudknot.options.choices import ImageOptions, KnotOptions, MapOptions, ParsOptions, RetryOptions
from tests.helpers.functions import square
from tests.integration.messages.catalogue import Area, World

AREA = Area("choices")

AREA.refuses(
    KnotOptions.make,
    {"name": "pi_calc"},
    {"name": square},
    {"func": "square"},
    {"func": square, "image_script_path": "run.py"},
    {"docker_image": object(), "apt_packages": "imagemagick"},
    {"image_script_path": ""},
    {"retries": 0},
    {"retries": "3"},
    {"retries": 1.0},
    {"retries": np.array([1, 2])},
    {"memory": 3},
    {"job_def_vcpus": 0},
    {"job_def_vcpus": 300},
    {"timeout": 5},
    {"memory_growth": 20},
    {"n_gpus": -1},
    {"n_gpus": 1, "instance_types": ["default_x86_64", "default_arm64"]},
    {"n_gpus": 1, "instance_types": "default_x86_64"},
    {"n_gpus": 1, "instance_types": "p3.2xlarge"},
    {"instance_types": "a1.large"},
    {"instance_types": ["c7g", "c6i"]},
    {"instance_types": ["fargate", "c6i"]},
    {"instance_types": "fargate", "bid_percentage": 50},
    {"instance_types": "fargate", "min_vcpus": 1},
    {"instance_types": "fargate", "desired_vcpus": 1},
    {"instance_types": "fargate", "n_gpus": 1},
    {"instance_types": "fargate", "memory_growth": 2},
    {"instance_types": "fargate", "volume_size": 50},
    {"instance_types": "fargate", "memory": 7500},
    {"instance_types": "fargate", "timeout": 2_000_000},
    {"instance_types": "fargate", "job_def_vcpus": 3},
    {"min_vcpus": 10, "max_vcpus": 4},
    {"volume_size": 10},
    {"volume_size": 50, "image_id": "ami-0123456789abcdef0"},
    {"image_id": "ubuntu"},
    {"bid_percentage": 101},
    {"no_image_cache": "yes"},
    {"base_image": "python 3"},
    {"pars_policies": ["no such/ policy"]},
    {"instance_types": ["c5.large", 7]},
    {"instance_types": {"c5.large": 1}},
    {"image_github_installs": ["numpy"]},
    {"apt_packages": ["Upper"]},
    {"dockerfile_lines": 3},
    {"dockerfile_lines": [3]},
    {"dockerfile_lines": ["FROM other"]},
    {"requirements": [""]},
    {"environment": "all", "requirements": ["six"]},
    {"aws_resource_tags": ["Owner"]},
    {"aws_resource_tags": 3},
    {"aws_resource_tags": {"aws:reserved": "x"}},
    {"aws_resource_tags": {"Owner": "x" * 300}},
    {"aws_resource_tags": {f"tag-{number}": "x" for number in range(47)}},
    {"min_vcpus": 1},
    {"bid_percentage": 0},
)
AREA.refuses(
    MapOptions.of_map,
    {"env_vars": {"A B": "1"}},
    {"env_vars": [{"key": "A"}]},
    {"env_vars": "A=1"},
    {"env_vars": {"A": "a\0b"}},
    {"env_vars": {"CLOUDKNOT_X": "1"}},
    {"env_vars": {"AWS_SECRET_ACCESS_KEY": "secret"}},
    {"env_vars": {"A": "x" * 7000}},
    {"job_type": "many"},
    {"kwargs": [1]},
    {"chunksize": "some"},
    {"chunksize": 0},
    {"starmap": 1},
)
AREA.refuses(RetryOptions.make, {"memory": 0}, {"chunksize": 0})
AREA.refuses(
    ImageOptions.make,
    {"name": "x"},
    {"func": square, "script_path": "run.py"},
)
AREA.refuses(
    ParsOptions.make,
    {"ipv4_cidr": "10.0.0.0/16"},
    {"ipv4_cidr": "10.0.0.0/4", "use_default_vpc": False},
    {"instance_tenancy": "alone", "use_default_vpc": False},
)


@AREA.case
def cloud_with_unknown_name(world: World) -> object:
    return ck.Knot(name="x", func=square, cloud="moon")  # type: ignore[arg-type]


@AREA.case
def cloud_setting_with_unknown_name(world: World) -> object:
    world.patch.setenv("CLOUDKNOT_CLOUD", "moon")
    return config.cloud()


@AREA.case
def config_file_without_section(world: World) -> object:
    file = world.path / "cloudknot.ini"
    file.write_text("no section")
    world.patch.setenv("CLOUDKNOT_CONFIG_FILE", str(file))
    return ck.get_ecr_repo()


@AREA.case
def config_file_below_a_file(world: World) -> None:
    file = world.path / "file"
    file.touch()
    world.patch.setenv("CLOUDKNOT_CONFIG_FILE", str(file / "cloudknot.ini"))
    ck.set_ecr_repo("data")


@AREA.case
def unknown_profile(world: World) -> None:
    ck.set_profile("default-2")


@AREA.case
def unknown_region(world: World) -> None:
    ck.set_region("eu-west-11")


@AREA.case
def unknown_encryption(world: World) -> None:
    ck.set_s3_params("bucket", sse="rot13")


@AREA.case
def owner_of_bucket_without_digits(world: World) -> None:
    ck.set_s3_params("bucket", owner="my-lab")
