"""A base image must have the program's Python, and a C library for all of its wheels."""

import dataclasses

import pytest

from cloudknot.errors import ImageError
from cloudknot.image.assembly.base.checks import check_architecture, check_facts, check_lock
from cloudknot.image.assembly.base.facts import BaseFacts
from cloudknot.image.assembly.layers.environment import grouped
from cloudknot.program.packages.lock import LockedPackage
from cloudknot.program.program import make_program
from tests.helpers.functions import square
from tests.helpers.images import render_image


def package(filename, size=0, url=""):
    return LockedPackage(filename.partition("-")[0], "1", filename, "0" * 64, url, size)


def image_with(*filenames):
    image = render_image(make_program(square))
    return dataclasses.replace(image, lock=dataclasses.replace(image.lock, packages=tuple(map(package, filenames))))


def facts(libc, python=None):
    return BaseFacts("/usr/bin/python3", python or image_with().python, libc, "", "", "")


@pytest.mark.parametrize(
    ("tags", "libc"),
    [
        ("any", "manylinux_2_5"),
        ("manylinux_2_28_x86_64", "manylinux_2_28"),
        ("manylinux_2_28_aarch64", "manylinux_2_36"),
        ("manylinux_2_17_x86_64.manylinux2014_x86_64", "manylinux_2_17"),
        ("manylinux1_x86_64", "manylinux_2_5"),
        ("manylinux_2_5_x86_64.manylinux_2_40_x86_64", "manylinux_2_28"),
        ("musllinux_1_1_x86_64", "musllinux_1_2"),
        ("manylinux_2_40_x86_64", ""),
        ("linux_x86_64", "manylinux_2_28"),
    ],
)
def test_wheel_that_runs_is_accepted(tags, libc):
    check_facts(facts(libc), image_with("six-1-py3-none-any.whl", f"numpy-1-cp311-cp311-{tags}.whl"))


@pytest.mark.parametrize(
    ("tags", "libc", "words"),
    [
        ("manylinux_2_28_x86_64", "manylinux_2_27", "glibc 2.27"),
        ("manylinux2014_x86_64", "manylinux_2_12", "glibc 2.12"),
        ("manylinux_2_28_x86_64", "musllinux_1_2", "musl 1.2"),
        ("musllinux_1_2_x86_64", "manylinux_2_36", "glibc 2.36"),
    ],
)
def test_wheel_that_cannot_run_is_refused(tags, libc, words):
    with pytest.raises(ImageError, match=rf"numpy-1.*does not run on the base image python:.*{words}\. Pass"):
        check_facts(facts(libc), image_with("six-1-py3-none-any.whl", f"numpy-1-cp311-cp311-{tags}.whl"))


def test_other_python_is_refused():
    with pytest.raises(ImageError, match=r"it has Python 3\.2\."):
        check_facts(facts("manylinux_2_36", "3.2"), image_with())


def test_other_architecture_is_refused():
    check_architecture("linux/amd64", image_with())
    with pytest.raises(ImageError, match="for linux/arm64, but"):
        check_architecture("linux/arm64", image_with())


def test_lock_without_files_is_refused():
    check_lock(image_with("six-1-py3-none-any.whl"))
    image = image_with("six-1-py3-none-any.whl")
    copy = dataclasses.replace(image.lock.packages[0], filename="", sha256="")
    with pytest.raises(ImageError, match="files of six cannot be found"):
        check_lock(dataclasses.replace(image, lock=dataclasses.replace(image.lock, packages=(copy,))))


def test_large_wheels_have_layers_of_their_own(tmp_path):
    local = tmp_path / "local-1-py3-none-any.whl"
    with local.open("wb") as file:
        file.truncate(5 << 20)
    large, near = package("zeta-1-py3-none-any.whl", 5 << 20), package("local-1-py3-none-any.whl", 0, local.as_uri())
    gone = package("gone-1-py3-none-any.whl", 0, "file:///none/gone.whl")
    small = package("six-1-py3-none-any.whl", 9000), package("unknown-1-py3-none-any.whl"), gone
    assert grouped([large, *small, near]) == [(near,), (large,), small]
    assert grouped([]) == []


def test_number_of_layers_is_bounded():
    packages = [package(f"p{number:03}-1-py3-none-any.whl", (5 << 20) + number) for number in range(100)]
    groups = grouped(packages)
    assert len(groups) == 41
    assert groups[-1] == tuple(packages[:60])
