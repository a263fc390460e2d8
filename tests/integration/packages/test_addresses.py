"""Packages are fetched from addresses with a login, and the login is in no line and no message."""

import sys

import pytest

from cloudknot.errors import ImageError
from cloudknot.program.packages.target import InstallTarget
from cloudknot.program.packages.wheels.fetch import wheel_at, without_secret
from tests.integration.packages.index import package_index, wheel

TARGET = InstallTarget("linux/amd64", f"{sys.version_info.major}.{sys.version_info.minor}")


def test_address_gets_back_the_login_that_was_taken_out():
    with package_index(wheel("lab", "1"), login="me:s3cret") as index:
        path = f"127.0.0.1:{index.port}/files/lab-1-py3-none-any.whl"
        plain = without_secret(f"lab @ http://me:s3cret@{path}")
        assert plain == f"lab @ http://{path}"
        assert wheel_at(plain, TARGET).name == "lab"


def test_refused_login_is_in_no_error():
    with package_index(wheel("lab", "1"), login="me:s3cret") as index, pytest.raises(ImageError) as caught:
        wheel_at(f"lab @ http://me:wr0ng@127.0.0.1:{index.port}/files/lab-1-py3-none-any.whl", TARGET)
    assert "wr0ng" not in str(caught.value)
    assert f"127.0.0.1:{index.port}/files/lab-1" in str(caught.value)


def test_password_of_a_repository_that_does_not_answer_is_in_no_error():
    with pytest.raises(ImageError) as caught:
        wheel_at("git+https://me:s3cret@127.0.0.1:9/o/n@v1", TARGET)
    assert "s3cret" not in str(caught.value)
    assert "127.0.0.1:9/o/n" in str(caught.value)
