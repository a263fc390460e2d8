"""Environments of images: built from a lock with uv, shared, checked, and rebuilt when they are damaged.

These tests download small packages from the package index.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import version

import jmespath
import pytest

from cloudknot.errors import ImageError
from cloudknot.image.publish import publish
from cloudknot.local.directory.locks import is_locked
from cloudknot.local.runners.images.contents import is_intact, site_packages
from cloudknot.local.runners.images.store import materialise
from cloudknot.program.packages import uv
from cloudknot.program.packages.lock import PYPI_FILES, Lock, LockedPackage
from cloudknot.program.packages.resolve import resolve
from cloudknot.program.packages.target import InstallTarget
from tests.helpers.batch import Image
from tests.helpers.paths import ROOT
from tests.helpers.waiting import until
from tests.integration.local.runners.source_archives import BROKEN, source_lock


def lock_of(index):
    """Return a lock of a package whose file an index at that address is to have."""
    filename = "no_such_thing-1-py3-none-any.whl"
    package = LockedPackage("no-such-thing", "1", filename, "0" * 64, f"{index}/{filename}")
    return Lock(InstallTarget.this_machine(), (package,))


@pytest.fixture(scope="module")
def six():
    """The lock of a version of six that is not installed here, so it comes from the index."""
    return resolve(("six==1.15.0",), InstallTarget.this_machine())


@pytest.fixture
def uv_cache(tmp_path, monkeypatch):
    """An empty cache of uv on the disk of the environments, whose files a test may damage."""
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    return tmp_path / "uv"


def environment(directory, image):
    return (materialise(directory, image) / "environment").resolve()


def run(python, code):
    """Run code in an environment's Python, and return its output."""
    command = [python / "bin" / "python", "-I", "-c", code]
    return subprocess.run(command, check=True, timeout=60, capture_output=True, text=True).stdout.strip()


def test_environment_holds_only_locked_packages_and_is_shared(client, six, tmp_path):
    image = Image("six-1", six, "six")
    client.define("six", publish(client.cloud, image, client.cloud.repository("tests")))
    program = "import importlib.metadata as m; print(sorted(d.name + d.version for d in m.distributions()))"
    job = client.wait(client.submit("python", "-c", program, jobDefinition="six"))
    (line,) = until(lambda: client.lines(job["container"]["logStreamName"]))
    assert line == "['six1.15.0']"
    marker = client.cloud.directory / "environments" / "six" / ".complete"
    completed = marker.stat().st_mtime_ns
    second = environment(client.cloud.directory, Image("six-2", six, "six"))
    assert second == marker.parent.resolve()
    assert marker.stat().st_mtime_ns == completed


def test_second_environment_needs_no_network_and_shares_files_by_hard_links(six, tmp_path, uv_cache, monkeypatch):
    first = environment(tmp_path, Image("t1", six, "one"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    second = environment(tmp_path, Image("t2", six, "two"))
    paths = [site_packages(place) / "six.py" for place in (first, second)]
    assert paths[0].samefile(paths[1])


def test_first_environment_copies_installed_packages_without_network(tmp_path, monkeypatch):
    # jmespath has a script, and pip installed it here as a need of boto3.
    lock = resolve((f"jmespath=={version('jmespath')}",), InstallTarget.this_machine())
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "empty"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    place = environment(tmp_path / "cloud", Image("t", lock, "one"))
    assert run(place, "import jmespath; print(jmespath.search('a', {'a': 1}))") == "1"
    assert not (site_packages(place) / "jmespath" / "__init__.py").samefile(jmespath.__file__)
    script = subprocess.run(
        [place / "bin" / "jp.py", "a"], input='{"a": 2}', capture_output=True, text=True, timeout=60
    )
    assert script.stdout == "2\n"


def test_without_uv_pip_installs_what_cannot_be_copied(six, tmp_path, monkeypatch):
    packages = resolve((f"jmespath=={version('jmespath')}",), InstallTarget.this_machine()).packages
    monkeypatch.setattr(uv, "find", lambda: None)
    image = Image("t", Lock(six.target, (*packages, *six.packages)), "one")
    place = environment(tmp_path / "cloud", image)
    assert run(place, "import jmespath, six; print(six.__version__)") == "1.15.0"
    # A damaged copy is downloaded by pip.
    copied = next((tmp_path / "cloud" / "environments" / ".packages").glob("jmespath-*/lib/*/site-packages/jmespath"))
    (copied / "lexer.py").write_text("damaged")
    environment(tmp_path / "cloud", image)
    assert run(place, "import jmespath; print(jmespath.search('a', {'a': 3}))") == "3"


def test_files_of_users_own_installations_are_linked_from_cache(six, tmp_path, uv_cache, monkeypatch):
    if not six.packages[0].url.startswith(PYPI_FILES):
        pytest.skip("the tests use another index than PyPI")
    own = tmp_path / "own"
    for arguments in (["venv", str(own)], ["pip", "install", "--python", str(own / "bin" / "python"), "six==1.15.0"]):
        assert uv.run(arguments).returncode == 0
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    place = environment(tmp_path / "cloud", Image("t", six, "one"))
    assert (site_packages(place) / "six.py").samefile(site_packages(own) / "six.py")


def test_missing_file_of_cache_on_other_disk_is_copied(six, tmp_path, monkeypatch):
    if not os.path.ismount("/dev/shm"):
        pytest.skip("/dev/shm is not a file system of its own")
    cache = f"/dev/shm/cloudknot-{tmp_path.parent.name}-{os.getpid()}"
    monkeypatch.setenv("UV_CACHE_DIR", cache)
    try:
        place = environment(tmp_path, Image("t", six, "one"))
    finally:
        subprocess.run(["rm", "-rf", cache], check=True, timeout=60)
    assert run(place, "import six; print(six.__version__)") == "1.15.0"


def test_failed_installation_shows_reason_and_leaves_nothing(tmp_path, monkeypatch):
    image = Image("t", lock_of("http://127.0.0.1:1"), "failing")
    with pytest.raises(ImageError, match="no-such-thing"):
        materialise(tmp_path, image)
    assert [path.name for path in (tmp_path / "environments").iterdir()] == ["failing.lock"]
    assert not (tmp_path / "images" / "t").exists()


def test_package_with_other_hash_is_refused(six, tmp_path):
    (package,) = six.packages
    other = Lock(six.target, (replace(package, sha256="0" * 64),))
    with pytest.raises(ImageError, match=r"(?i)hash"):
        materialise(tmp_path, Image("t", other, "other"))


def test_source_archive_is_built_here(tmp_path):
    place = environment(tmp_path / "cloud", Image("t", source_lock(tmp_path), "one"))
    assert run(place, "import built; print(built.VALUE)") == "7"


def test_failed_build_of_source_archive_names_package_and_shows_its_output(tmp_path):
    image = Image("t", source_lock(tmp_path, BROKEN), "one")
    with pytest.raises(ImageError, match=r"(?s)built==1\.0 has no wheel.*compilers and libraries.*netcdf\.h"):
        materialise(tmp_path / "cloud", image)


class TestBroken:
    def test_incomplete_environment_is_rebuilt(self, tmp_path):
        half = tmp_path / "environments" / "none" / "bin"
        half.mkdir(parents=True)
        (half / "left-over").touch()
        materialise(tmp_path, Image("t"))
        assert not (half / "left-over").exists()

    def test_environment_of_removed_or_other_python_is_rebuilt(self, tmp_path):
        python = environment(tmp_path, Image("t")) / "bin" / "python"
        for target in ("/no/such/python", "/bin/sh"):
            python.unlink()
            python.symlink_to(target)
            materialise(tmp_path, Image("t"))
            assert run(python.parents[1], "print(1)") == "1"

    def test_missing_file_is_replaced(self, six, tmp_path):
        place = environment(tmp_path, Image("t", six, "six"))
        (site_packages(place) / "six.py").unlink()
        assert environment(tmp_path, Image("t", six, "six")) == place
        assert run(place, "import six; print(six.__version__)") == "1.15.0"

    def test_damage_of_linked_file_is_repaired_in_all_environments(self, six, tmp_path, uv_cache):
        images = [Image("t1", six, "one"), Image("t2", six, "two")]
        places = [environment(tmp_path, image) for image in images]
        # The same file in both environments and in uv's cache.
        with (site_packages(places[0]) / "six.py").open("a") as stream:
            stream.write("__version__ = 'damaged'\n")
        assert run(places[1], "import six; print(six.__version__)") == "damaged"
        for image, place in zip(images, places, strict=True):
            environment(tmp_path, image)
            assert run(place, "import six; print(six.__version__)") == "1.15.0"
        assert environment(tmp_path, Image("t3", six, "three")).is_dir()

    @pytest.mark.parametrize("content", ["", "[]", "{}", '{"python": 1, "files": {"a": 1}}'])
    def test_unreadable_record_counts_as_incomplete(self, tmp_path, content):
        place = environment(tmp_path, Image("t"))
        assert is_intact(place)
        (place / ".complete").write_text(content)
        assert not is_intact(place)


class TestTwoSessions:
    def test_simultaneous_callers_get_one_image_and_one_installation(self, six, tmp_path):
        with ThreadPoolExecutor(4) as pool:
            images = set(pool.map(lambda number: materialise(tmp_path, Image("t", six, "six")), range(4)))
        assert [path.name for path in images] == ["t"]
        assert [path.name for path in (tmp_path / "images").iterdir()] == ["t"]
        assert is_intact(tmp_path / "environments" / "six")

    def test_uv_of_killed_session_holds_lock_until_it_ends(self, installing):
        session, connection, lock = installing
        session.kill()
        session.wait(60)
        assert is_locked(lock)
        connection.close()
        until(lambda: not is_locked(lock), 120)

    def test_ctrl_c_ends_uv_and_removes_half_environment(self, installing):
        session, _, lock = installing
        session.send_signal(signal.SIGINT)
        session.wait(60)
        assert not is_locked(lock)
        assert [path.name for path in lock.parent.iterdir()] == ["slow.lock"]


INSTALLATION = """
import sys
from pathlib import Path
from cloudknot.local.runners.images.store import materialise
from tests.helpers.batch import Image
from tests.integration.local.runners.test_environments import lock_of
materialise(Path(sys.argv[1]), Image("t", lock_of(sys.argv[2]), "slow"))
"""


@pytest.fixture
def installing(tmp_path):
    """A session whose uv waits for an index that does not answer, the connection, and the lock of the environment."""
    with socket.create_server(("127.0.0.1", 0)) as index:
        index.settimeout(60)
        url = f"http://127.0.0.1:{index.getsockname()[1]}"
        command = [sys.executable, "-c", INSTALLATION, tmp_path / "d", url]
        variables = {**os.environ, "UV_HTTP_TIMEOUT": "60", "UV_HTTP_RETRIES": "0"}
        with subprocess.Popen(command, env=variables, cwd=ROOT, stderr=subprocess.DEVNULL) as session:
            connection, _ = index.accept()
            # Further connections are refused.
            index.close()
            try:
                yield session, connection, tmp_path / "d" / "environments" / "slow.lock"
            finally:
                connection.close()
                session.kill()


def test_settings_for_other_pythons_have_no_effect(six, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/nonsense")
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("UV_PYTHON", "/nonsense/python")
    monkeypatch.setenv("UV_SYSTEM_PYTHON", "1")
    monkeypatch.setenv("UV_TARGET", str(tmp_path / "elsewhere"))
    place = environment(tmp_path, Image("t", six, "six"))
    assert (site_packages(place) / "six.py").exists()


def test_record_of_environment_names_its_lock(six, tmp_path):
    place = environment(tmp_path, Image("t", six, "six"))
    assert six.packages[0].sha256 in (place / "pylock.toml").read_text()
    assert json.loads((place / ".complete").read_text())["python"] == os.path.realpath(sys.executable)
