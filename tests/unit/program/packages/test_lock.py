"""A lock is a valid pylock.toml, the same on every machine."""

import hashlib
import sysconfig
import tomllib
from dataclasses import replace

from packaging.pylock import Pylock

from cloudknot.program.packages.lock import Lock, LockedPackage
from cloudknot.program.packages.target import InstallTarget

TARGET = InstallTarget("linux/amd64", "3.12")
DIGEST = hashlib.sha256(b"x").hexdigest()


def package(filename, url, size=0):
    name, version = filename.split("-")[:2]
    return LockedPackage(name, version.removesuffix(".tar.gz"), filename, DIGEST, url, size)


LOCK = Lock(
    TARGET,
    (
        package("apple-1.0-py3-none-any.whl", "https://files.pythonhosted.org/a/apple-1.0-py3-none-any.whl", 5),
        package("fig-2.0.tar.gz", "https://host.example/fig-2.0.tar.gz"),
        package("pear-1.0-py3-none-any.whl", "file:///home/me/files/pear-1.0-py3-none-any.whl"),
        LockedPackage("plum", "3.0", "", "", ""),
    ),
)


def test_text_is_a_valid_lock_file():
    lock = Pylock.from_dict(tomllib.loads(LOCK.text()))
    assert [(item.name, str(item.version)) for item in lock.packages] == [
        ("apple", "1.0"),
        ("fig", "2.0"),
        ("pear", "1.0"),
    ]
    assert lock.packages[0].wheels[0].hashes == {"sha256": DIGEST}
    assert lock.packages[0].wheels[0].size == 5
    assert lock.packages[1].sdist.url == "https://host.example/fig-2.0.tar.gz"


def test_text_names_no_folder_of_this_machine():
    assert "/home/me" not in LOCK.text()
    assert "/home/me/files/pear" in LOCK.text(with_folders=True)


def test_sources_are_archives_only():
    assert [item.name for item in LOCK.sources()] == ["fig"]
    assert [item.name for item in LOCK.packages if item.is_copy] == ["plum"]


def test_target_names_platform_for_uv_and_tags_for_wheels():
    assert TARGET.tag == "x86_64-manylinux_2_36"
    assert InstallTarget("linux/arm64", "3.12", "musllinux_1_2").tag == "aarch64-unknown-linux-musl"
    assert InstallTarget("linux/amd64", "3.12", "manylinux_2_24").tag == "x86_64-manylinux_2_17"
    assert InstallTarget("linux/amd64", "3.12", "manylinux_2_41").tag == "x86_64-manylinux_2_40"
    assert InstallTarget("", "3.12", "").tag == ""
    tags = TARGET.wheel_tags()
    assert tags[0] == "cp312-cp312-manylinux_2_36_x86_64"
    assert tags.index("cp312-cp312-manylinux2014_x86_64") < tags.index("cp38-abi3-manylinux_2_17_x86_64")
    assert "cp312-cp312-manylinux_2_37_x86_64" not in tags
    assert tags.index("py3-none-any") > tags.index("cp312-none-any")


def test_wheels_for_an_image_are_those_of_the_usual_build(monkeypatch):
    own = sysconfig.get_config_var
    monkeypatch.setattr(sysconfig, "get_config_var", lambda name: 1 if name == "Py_GIL_DISABLED" else own(name))
    target = InstallTarget("linux/amd64", "3.14")
    assert "cp314-cp314-manylinux_2_28_x86_64" in target.wheel_tags()
    assert not [tag for tag in target.wheel_tags() if "cp314t" in tag]
    # Processes of this machine have the session's own build.
    assert "cp314-cp314t-manylinux_2_28_x86_64" in replace(target, here=True).wheel_tags()
