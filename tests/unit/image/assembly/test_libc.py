"""The C library of a base image is asked for once, and a registry that cannot be read gives the default."""

import pytest

from cloudknot.aws.images.ecr import RegistryLogin
from cloudknot.image.assembly.base.libc import libc_of
from cloudknot.image.assembly.cache import LayerCache
from cloudknot.program.packages.target import DEFAULT_LIBC

NOWHERE = "127.0.0.1:1/mine:1"


def fail():
    raise AssertionError("a registry is asked")


def anonymous():
    return RegistryLogin("127.0.0.1:1", "", "")


@pytest.mark.parametrize(
    "name",
    [
        "python:3.11-slim",
        "python:3.12.4",
        "python:3.11-slim-bookworm",
        "docker.io/library/python:3.13",
        "public.ecr.aws/docker/library/python:3.11-slim",
        "",
    ],
)
def test_python_on_debian_needs_no_request(name):
    assert libc_of(name, "linux/amd64", fail) == DEFAULT_LIBC


def test_registry_without_answer_gives_default_and_is_asked_again_later(tmp_path):
    cache, now = LayerCache(tmp_path), [0.0]
    assert libc_of(NOWHERE, "linux/amd64", anonymous, cache, lambda: now[0]) == DEFAULT_LIBC
    assert libc_of(NOWHERE, "linux/amd64", fail, cache, lambda: now[0] + 599) == DEFAULT_LIBC
    asked = []
    libc_of(NOWHERE, "linux/amd64", lambda: asked.append(1) or anonymous(), cache, lambda: now[0] + 601)
    assert asked == [1]


def test_name_that_is_none_gives_default(tmp_path):
    assert libc_of("Not A Name", "linux/amd64", anonymous, LayerCache(tmp_path)) == DEFAULT_LIBC
