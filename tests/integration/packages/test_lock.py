"""The choice of versions, the stored locks and the sentences of errors, with uv and an index on this machine."""

import dataclasses
import re
import subprocess
import sys
import warnings
from importlib.metadata import version

import numpy as np
import pytest

from cloudknot.errors import ImageError
from cloudknot.program.packages.install import install
from cloudknot.program.packages.lock import LocalWheel
from cloudknot.program.packages.resolve import resolve
from cloudknot.program.packages.target import InstallTarget
from tests.integration.packages.index import package_index, source_archive, wheel

TARGET = InstallTarget("linux/arm64", "3.12")
ARM = "cp312-cp312-manylinux_2_28_aarch64"
AMD = "cp312-cp312-manylinux_2_28_x86_64"


def versions(lock):
    return {package.name: package.version for package in lock.packages}


def test_lock_names_all_packages_with_exact_files(tool, index):
    index.add(wheel("apple", "1.0", requires=["pear>=2"]), wheel("pear", "2.0"), wheel("pear", "1.0"))
    lock = resolve(["apple"], TARGET)
    assert versions(lock) == {"apple": "1.0", "pear": "2.0"}
    assert [package.filename for package in lock.packages] == [
        "apple-1.0-py3-none-any.whl",
        "pear-2.0-py3-none-any.whl",
    ]
    assert all(len(package.sha256) == 64 and package.url.startswith("http://127.0.0.1") for package in lock.packages)


def test_files_are_those_of_the_target(tool, index):
    index.add(
        wheel("apple", "1.0", tag=ARM),
        wheel("apple", "1.0", tag=AMD),
        wheel("apple", "1.0", tag="cp312-cp312-musllinux_1_1_aarch64"),
    )
    for target, tag in [
        (TARGET, ARM),
        (InstallTarget("linux/amd64", "3.12"), AMD),
        (InstallTarget("linux/arm64", "3.12", "musllinux_1_2"), "cp312-cp312-musllinux_1_1_aarch64"),
    ]:
        assert [package.filename for package in resolve(["apple"], target).packages] == [f"apple-1.0-{tag}.whl"]


def test_best_of_several_wheels_is_chosen(index):
    tags = ["py3-none-any", "cp39-abi3-manylinux_2_17_aarch64", "cp312-cp312-manylinux_2_17_aarch64", ARM]
    index.add(*(wheel("apple", "1.0", tag=tag) for tag in tags))
    assert resolve(["apple"], TARGET).packages[0].filename == f"apple-1.0-{ARM}.whl"
    old = InstallTarget("linux/arm64", "3.12", "manylinux_2_17")
    assert resolve(["apple"], old).packages[0].filename == "apple-1.0-cp312-cp312-manylinux_2_17_aarch64.whl"


def test_digest_depends_on_files_only_and_not_on_order_or_address(index):
    index.add(wheel("apple", "1.0"), wheel("pear", "1.0"))
    one, two = resolve(["apple", "pear"], TARGET), resolve(["pear>=1", "apple==1.0"], TARGET)
    assert one.digest == two.digest
    moved = [
        dataclasses.replace(package, url=f"https://elsewhere.example/{package.filename}") for package in one.packages
    ]
    assert dataclasses.replace(one, packages=tuple(moved)).digest == one.digest
    assert dataclasses.replace(one, target=InstallTarget("linux/amd64", "3.12")).digest != one.digest


def test_installed_version_is_first_choice_also_for_requirements_of_requirements(tool, index):
    here = np.__version__
    index.add(
        wheel("apple", "1.0", requires=["numpy"]), wheel("numpy", here, tag=ARM), wheel("numpy", "99.0", tag=ARM)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert versions(resolve(["apple"], TARGET)) == {"apple": "1.0", "numpy": here}
        assert versions(resolve(["apple", "numpy>=99"], TARGET))["numpy"] == "99.0"


def test_nearest_version_with_a_wheel_replaces_the_installed_one(tool, index):
    here = np.__version__
    major, minor, patch = map(int, here.split("."))
    near = f"{major}.{minor}.{patch + 1}"
    index.add(
        wheel("numpy", here, tag=AMD),
        wheel("numpy", near, tag=ARM),
        wheel("numpy", "99.0", tag=ARM),
        wheel("numpy", "0.1", tag=ARM),
    )
    for requirements, preferred in [([f"numpy=={here}"], ["numpy"]), (["numpy"], [])]:
        with pytest.warns(UserWarning, match=f"Jobs get numpy {near}, and {here} is installed here") as caught:
            lock = resolve(requirements, TARGET, preferred=preferred)
        assert versions(lock) == {"numpy": near}
        assert [warning.filename for warning in caught] == [__file__]


def test_installed_version_may_come_from_any_index_and_nothing_else_does(index, monkeypatch):
    here = np.__version__
    index.add(wheel("numpy", here), wheel("numpy", "99.0"), wheel("apple", "2.0"), wheel("pear", "1.0"))
    with package_index(wheel("numpy", "1.0"), wheel("apple", "1.0")) as first:
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", first.url)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            lock = resolve(["numpy", "apple", "pear"], TARGET)
    assert versions(lock) == {"numpy": here, "apple": "1.0", "pear": "1.0"}


def test_version_of_user_is_never_replaced(index):
    here = np.__version__
    index.add(wheel("numpy", here, tag=AMD), wheel("numpy", "99.0", tag=ARM))
    with pytest.raises(ImageError, match=f"numpy=={here} has no file for Python 3.12 on linux/arm64"):
        resolve([f"numpy=={here}"], TARGET)


def test_constraint_limits_a_package_without_requiring_it_and_without_a_warning(index):
    index.add(wheel("numpy", np.__version__), wheel("numpy", "1.0"), wheel("pear", "1.0"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert versions(resolve(["numpy", "--constraint numpy<2", "--constraint pear<1"], TARGET)) == {"numpy": "1.0"}


def test_source_archive_is_locked_only_where_no_version_has_a_wheel(index):
    index.add(source_archive("plum", "1.0"), wheel("fig", "1.0", tag=ARM), source_archive("fig", "2.0"))
    lock = resolve(["plum", "fig"], TARGET)
    assert versions(lock) == {"plum": "1.0", "fig": "1.0"}
    assert [package.name for package in lock.sources()] == ["plum"]


def test_local_wheel_is_never_asked_of_the_index_and_its_requirements_are(tool, index):
    filename, content = wheel("mylab", "0.1", requires=["pear"])
    index.add(wheel("mylab", "2.0"), wheel("pear", "1.0"), wheel("apple", "1.0", requires=["mylab"]))
    lock = resolve(["apple"], TARGET, [LocalWheel("mylab", "0.1", filename, content)])
    assert versions(lock) == {"apple": "1.0", "pear": "1.0"}
    assert not any("mylab" in request for request in index.requests)


def test_stored_lock_needs_no_index_until_refreshed(index):
    index.add(wheel("apple", "1.0"))
    first = resolve(["apple"], TARGET)
    index.add(wheel("apple", "2.0"))
    index.requests.clear()
    assert resolve(["apple"], TARGET) == first
    assert index.requests == []
    assert versions(resolve(["apple"], TARGET, refresh=True)) == {"apple": "2.0"}
    assert versions(resolve(["apple"], TARGET)) == {"apple": "2.0"}


def test_lock_of_nothing_is_empty(tool, index):
    assert resolve([], TARGET).packages == ()


def test_damaged_stored_lock_is_resolved_again(index, tmp_path):
    index.add(wheel("apple", "1.0"))
    lock = resolve(["apple"], TARGET)
    (file,) = (tmp_path / "cache" / "cloudknot" / "locks").iterdir()
    for text in ["", "{", "[]", '{"packages": [[1]], "here": {}, "notes": []}', '{"packages": 3}']:
        file.write_text(text)
        assert resolve(["apple"], TARGET) == lock


def test_hash_is_computed_where_the_index_reports_none(tool, index):
    index.hashes = False
    index.add(wheel("apple", "1.0"))
    assert len(resolve(["apple"], TARGET).packages[0].sha256) == 64


@pytest.mark.parametrize(
    ("requirements", "message"),
    [
        (["aple"], "The package index has no aple. Correct its name or version"),
        (["apple==9"], "The package index has no apple==9|apple==9 has no file for Python 3.12 on linux/arm64"),
        (["apple", "pear<2"], "apple and pear<2 cannot be installed together. Change one of these lines"),
        (["old"], "old does not support Python 3.12 on linux/arm64. Change its version"),
    ],
)
def test_error_is_a_sentence_with_the_text_of_the_tool(tool, index, requirements, message):
    index.add(wheel("apple", "1.0", requires=["pear>=2"]), wheel("pear", "2.0"), wheel("pear", "1.0"))
    index.add(wheel("old", "1.0", python=">=3.13"))
    with pytest.raises(ImageError) as caught:
        resolve(requirements, TARGET)
    assert re.search(message, str(caught.value))
    assert f"{tool} reports: " in str(caught.value)


def test_without_an_index_jobs_of_this_machine_get_copies_of_installed_packages(monkeypatch):
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    filename, content = wheel("mylab", "0.1", requires=["python-dateutil", "absent ; extra == 'all'"])
    here = InstallTarget.this_machine()
    lock = resolve(["numpy"], here, [LocalWheel("mylab", "0.1", filename, content)])
    assert versions(lock) == {name: version(name) for name in ("numpy", "python-dateutil", "six")}
    assert all(package.is_copy for package in lock.packages)
    assert not list(lock.sources())
    for requirement in ["numpy<1", "absent"]:
        with pytest.raises(ImageError, match=r"127.0.0.1:9 cannot be reached"):
            resolve([requirement, "numpy"], here)


def test_without_an_index_uv_resolves_from_its_cache(index, monkeypatch, tmp_path):
    index.add(wheel("apple", "1.0"))
    lock = resolve(["apple"], TARGET)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    index.answers = False
    assert resolve(["apple"], TARGET) == lock


def test_unreachable_index_is_named(monkeypatch):
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    with pytest.raises(ImageError, match=r"The package index 127.0.0.1:9 cannot be reached.*try again"):
        resolve(["apple"], TARGET)


def test_locked_packages_and_local_wheels_are_installed_as_from_an_index(tool, index, tmp_path):
    index.add(wheel("apple", "1.0", requires=["pear"]), wheel("pear", "1.0"))
    here = InstallTarget.this_machine()
    filename, content = wheel("mylab", "0.1")
    install(
        resolve(["apple"], here).packages,
        [LocalWheel("mylab", "0.1", filename, content)],
        here,
        ["--prefix", str(tmp_path / "env")],
    )
    installed = {path.name for path in tmp_path.glob("env/lib/*/site-packages/*.py")}
    assert installed == {"apple.py", "pear.py", "mylab.py"}
    assert not [*tmp_path.glob("env/lib/*/site-packages/[ap]*/direct_url.json")]


def test_two_processes_at_once_store_the_same_lock(index, tmp_path):
    index.add(wheel("apple", "1.0"))
    code = (
        "from cloudknot.program.packages.resolve import resolve;"
        "from cloudknot.program.packages.target import InstallTarget;"
        "print([resolve(['apple'], InstallTarget('linux/arm64', '3.12'), refresh=True).digest for _ in range(3)])"
    )
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in running]
    assert outputs == [f"{[resolve(['apple'], TARGET).digest] * 3}\n"] * 2
    assert len(list((tmp_path / "cache" / "cloudknot" / "locks").iterdir())) == 1
