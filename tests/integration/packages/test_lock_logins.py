"""Logins of private indexes reach the index, and nothing else: no lock, image, message, cache or process list."""

import os
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from cloudknot.errors import ImageError
from cloudknot.image.docker_image import DockerImage, image_in
from cloudknot.program.packages import indexes
from cloudknot.program.packages.download import download
from cloudknot.program.packages.install import install
from cloudknot.program.packages.resolve import resolve
from cloudknot.program.packages.target import InstallTarget
from tests.helpers.functions import square
from tests.integration.packages.index import package_index, wheel

TARGET = InstallTarget("linux/amd64", "3.12")
SECRET = "pa55-w0rd-of-the-index"
LOGIN = f"me:{SECRET}"


@pytest.fixture
def private(monkeypatch):
    """Yield an index that answers only with its login."""
    monkeypatch.setattr(indexes, "_logins", {})
    with package_index(wheel("apple", "1.0", requires=["pear"]), wheel("pear", "1.0"), login=LOGIN) as index:
        yield index


def by_pip_variable(index, folder, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", index.url_with_login)


def by_pip_file(index, folder, monkeypatch):
    (folder / "pip.conf").write_text(f"[global]\nindex-url = {index.url_with_login}\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(folder / "pip.conf"))


def by_uv_variable(index, folder, monkeypatch):
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.url_with_login)


def by_uv_file(index, folder, monkeypatch):
    (folder / "uv.toml").write_text(f'[[index]]\nurl = "{index.url_with_login}"\ndefault = true\n')
    monkeypatch.setenv("UV_CONFIG_FILE", str(folder / "uv.toml"))


def by_netrc(index, folder, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    (folder / "netrc").write_text(f"machine 127.0.0.1 login me password {SECRET}\n")
    monkeypatch.setenv("NETRC", str(folder / "netrc"))


def by_name_of_index(index, folder, monkeypatch):
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"my-lab={index.url}")
    monkeypatch.setenv("UV_INDEX_MY_LAB_USERNAME", "me")
    monkeypatch.setenv("UV_INDEX_MY_LAB_PASSWORD", SECRET)


def by_keyring(index, folder, monkeypatch):
    command = folder / "keyring"
    command.write_text(f'#!/bin/sh\n[ "$3" = me ] && echo {SECRET}\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("PIP_INDEX_URL", index.url.replace("//", "//me@"))


WAYS = [by_keyring, by_name_of_index, by_pip_variable, by_pip_file, by_uv_variable, by_uv_file, by_netrc]


@pytest.mark.parametrize("way", WAYS)
def test_login_of_settings_resolves_downloads_and_installs(private, tmp_path, monkeypatch, way):
    way(private, tmp_path, monkeypatch)
    lock = resolve(["apple"], TARGET)
    assert [package.name for package in lock.packages] == ["apple", "pear"]
    assert SECRET not in lock.text()
    assert "me:" not in lock.text()
    place = tmp_path / "place"
    place.mkdir()
    assert download(lock.packages[0], place).is_file()
    install(lock.packages, [], InstallTarget("linux/amd64", "3.11"), ["--prefix", str(place)])
    assert [path for path in place.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()] == []


def test_login_of_requirement_lines_is_in_no_file_of_image_cache_and_log(private, tmp_path, monkeypatch, caplog):
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"--index-url {private.url_with_login}\napple\nboto3\ncloudpickle\n")
    for name in ("boto3", "cloudpickle"):
        private.add(wheel(name, version(name)))
    described = DockerImage("private", square, dir_name=tmp_path / "context", requirements=requirements)
    image = image_in(described)
    assert {package.name for package in image.lock.packages} == {"apple", "pear", "boto3", "cloudpickle"}
    assert SECRET not in repr(image)
    place = tmp_path / "place"
    private_packages = [package for package in image.lock.packages if package.name in ("apple", "pear")]
    install(private_packages, [], InstallTarget.this_machine(), ["--prefix", str(place)])
    assert [*place.rglob("apple.py")]
    files = [path for name in ("context", "cache") for path in (tmp_path / name).rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
    assert SECRET not in caplog.text


def test_login_reaches_either_tool_and_no_lock(tool, private, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", private.url_with_login)
    lock = resolve(["apple"], TARGET)
    assert [package.name for package in lock.packages] == ["apple", "pear"]
    assert SECRET not in repr(lock)
    with pytest.raises(ImageError) as caught:
        resolve(["no-such-package"], TARGET)
    assert SECRET not in f"{caught.value} {caught.value.log}"


def test_refused_login_is_a_sentence_without_the_password(private, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", private.url_with_login.replace(SECRET, f"{SECRET}-wrong"))
    with pytest.raises(
        ImageError, match=r"The package index 127.0.0.1:\d+ refuses the login. Check the user"
    ) as caught:
        resolve(["apple"], TARGET)
    assert SECRET not in f"{caught.value} {caught.value.log}"


def test_process_list_shows_no_login(private, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", private.url_with_login)
    started = []
    popen = subprocess.Popen.__init__

    def note(self, command, *arguments, **options):
        started.append(" ".join(map(str, command)))
        popen(self, command, *arguments, **options)

    monkeypatch.setattr(subprocess.Popen, "__init__", note)
    resolve(["apple"], TARGET)
    assert started
    assert not any(SECRET in command for command in started)


def test_login_is_not_sent_to_another_host_after_a_redirect(private, monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_INDEX_URL", private.url_with_login)
    package = resolve(["pear"], TARGET).packages[0]
    with package_index(*private.files.items()) as elsewhere:
        private.redirects_to = elsewhere
        assert download(package, tmp_path).read_bytes() == private.files[package.filename]
        assert elsewhere.requests == [f"/files/{package.filename}"]
        assert elsewhere.authorizations == [None]
    assert Path(tmp_path, package.filename).exists()
