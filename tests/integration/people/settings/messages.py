"""Messages on variables and files of settings, profiles, amounts of memory, and misspelt keywords."""

from __future__ import annotations

import codecs
from typing import Any

import pytest
from botocore.exceptions import NoCredentialsError, PartialCredentialsError

import cloudknot as ck
from cloudknot.aws import settings
from cloudknot.aws.error_table import translate
from cloudknot.aws.sdk.settings import aws_files, profiles
from cloudknot.aws.sdk.settings.variables import check_aws_variables
from cloudknot.options import config
from cloudknot.options.choices import vcpus_of
from cloudknot.options.memory import memory
from cloudknot.options.variables import check_variables
from tests.integration.messages.catalogue import Area, World, error_of

AREA = Area("settings")
AREA.refuses(vcpus_of, {"job_def_vcpus": 4, "vcpus": 2})
AREA.refuses(memory, *({"name": "memory", "value": value} for value in (8, "8 MiB", 10_000_000, "33 TiB", "8", 7.5)))
KEYWORDS: list[tuple[Any, str]] = [(ck.Knot, "nam"), (ck.Knot, "chunksize"), (ck.Pars, "colour"), (ck.Cloud, "regoin")]
"""A function with a keyword that it lacks: one that resembles another, one of a method, and one of nothing."""


@AREA.case
def unknown_keywords(world: World) -> object:
    return [error_of(lambda call=function, key=keyword: call(**{key: 1})) for function, keyword in KEYWORDS]  # type: ignore[misc]


@AREA.case
def unread_variables(world: World) -> object:
    errors = []
    for name in ("CLOUDKNOT_S3_BUKET", "CLOUDKNOT_REGION", "CLOUDKNOT_ZZZ"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(name, "x")
            errors.append(error_of(check_variables))
    world.patch.setenv("AWS_REGON", "eu-west-1")
    return [*errors, error_of(check_aws_variables)]


@AREA.case
def invalid_settings(world: World) -> object:
    world.patch.setenv("CLOUDKNOT_S3_BUCKET", "Bad_Name")
    variable = error_of(config.bucket)
    world.patch.setenv("CLOUDKNOT_CONFIG_FILE", str(world.path / "settings"))
    (world.path / "settings").write_text("[aws]\necr-repo = Not/Valid\n")
    return [variable, error_of(config.ecr_repo)]


@AREA.case
def files_of_aws(world: World) -> object:
    file = world.path / "config"
    world.patch.setenv("AWS_CONFIG_FILE", str(file))
    errors = []
    for data in (codecs.BOM_UTF8 + b"[default]\n", "[default]".encode("utf-16"), b"[default]\n# \xe9\n", b"region\n"):
        file.write_bytes(data)
        errors.append(error_of(settings.list_profiles))
    return [*errors, aws_files.unreadable_file(str(file), PermissionError(13, "Permission denied"))]


@AREA.case
def missing_profiles(world: World) -> object:
    (world.path / "config").write_text("[profile lab]\nregion = eu-west-1\n")
    world.patch.setenv("AWS_CONFIG_FILE", str(world.path / "config"))
    world.patch.setenv("AWS_PROFILE", "labs")
    return [error_of(settings.get_region), profiles.missing_profile(""), error_of(lambda: settings.set_profile("z"))]


@AREA.case
def incomplete_credentials(world: World) -> object:
    half = [
        PartialCredentialsError(provider=name, cred_var="aws_secret_access_key")
        for name in ("shared-credentials-file", "env", "process")
    ]
    texts = [translate(error, "sts:x") for error in (*half, NoCredentialsError())]
    world.patch.setenv("AWS_SECRET_KEY", "x")
    texts.append(translate(NoCredentialsError(), "sts:x", place=ck.Cloud("eu-west-1").place))
    world.patch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    return [*texts, translate(NoCredentialsError(), "sts:x")]


@AREA.case
def nobody_at_home(world: World) -> object:
    def home() -> object:
        raise RuntimeError("Could not determine home directory.")

    world.patch.setattr("pathlib.Path.home", home)
    return config.user_home()


@AREA.case
def relative_directory(world: World) -> object:
    world.patch.setenv("CLOUDKNOT_LOCAL_DIR", "clouds/mine")
    return ck.LocalCloud().directory
