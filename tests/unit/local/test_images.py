"""Images and environments on disk: packages copied from this Python, the space of linked files, and their removal."""

import hashlib
import os
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from cloudknot.errors import CloudknotInputError
from cloudknot.local.directory.disk_use import DiskUse
from cloudknot.local.runners.images.contents import damaged_packages, hash_of, is_intact, mark_complete, site_packages
from cloudknot.local.runners.images.environments import _create_virtual_environment
from cloudknot.local.runners.images.installed import COPIES, copy_installed
from cloudknot.local.runners.images.prune import keep_within_limit, limit, prune
from cloudknot.local.runners.images.usage import Hold, mark_used, removable
from cloudknot.program.packages.lock import LockedPackage

HOUR = 3600


@pytest.fixture(autouse=True)
def own_environments(monkeypatch):
    monkeypatch.delenv("CLOUDKNOT_LOCAL_ENVIRONMENTS", raising=False)


@pytest.fixture
def environment(tmp_path):
    """An empty virtual environment in the folder of environments."""
    path = tmp_path / "environments" / "one"
    path.parent.mkdir()
    _create_virtual_environment(path)
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of installed packages, with one package that pip installed from an index."""
    folder = tmp_path / "here" / "lib" / "python" / "site-packages"
    folder.mkdir(parents=True)
    monkeypatch.syspath_prepend(str(folder))
    return Installed(folder)


class Installed:
    """A package ``spam`` 1.0 with a module, data outside site-packages, and a script."""

    tag = "py3-none-any"

    def __init__(self, folder):
        self.folder, self.info = folder, folder / "spam-1.0.dist-info"
        self.info.mkdir()
        self.lines = []
        self.add("spam.py", "VALUE = 1\n")
        self.add("../../../share/spam/data.txt", "data")
        self.add("../../../bin/spam", f"#!{sys.executable}\nimport spam; print(spam.VALUE)\n", 0o755)
        self.add("spam-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: spam\nVersion: 1.0\n")
        self.add("spam-1.0.dist-info/WHEEL", f"Wheel-Version: 1.0\nTag: {self.tag}\n")
        self.add("spam-1.0.dist-info/INSTALLER", "pip\n")
        self.lines += ["__pycache__/spam.cpython-311.pyc,,", "spam-1.0.dist-info/RECORD,,"]
        self.write_record()

    def add(self, path, text, mode=0o644):
        target = Path(os.path.normpath(self.folder / path))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)
        self.lines = [line for line in self.lines if not line.startswith(f"{path},")]
        self.lines.append(f"{path},sha256={hash_of(text.encode())},{len(text)}")

    def write_record(self):
        (self.info / "RECORD").write_text("".join(f"{line}\n" for line in self.lines))


def locked(name="spam", number="1.0", tag="py3-none-any"):
    return LockedPackage(name, number, f"{name}-{number}-{tag}.whl", "0" * 64, "https://files.example/x.whl")


class TestCopies:
    def test_installed_package_is_copied_with_data_and_script(self, here, environment):
        assert copy_installed([locked()], environment) == [locked()]
        script = subprocess.run([environment / "bin" / "spam"], capture_output=True, text=True, check=True, timeout=60)
        assert script.stdout == "1\n"
        assert (environment / "share" / "spam" / "data.txt").read_text() == "data"
        assert damaged_packages(environment, ["spam"]) == []
        found = "import importlib.metadata as m; print(m.version('spam'), [f.name for f in m.files('spam')])"
        command = [environment / "bin" / "python", "-I", "-c", found]
        output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        assert output.startswith("1.0 ['spam.py'") or "'spam.py'" in output
        assert ".pyc" not in output

    def test_later_change_of_installed_package_does_not_reach_environment(self, here, environment):
        copy_installed([locked()], environment)
        # As an editor or pip does that writes in place.
        with (here.folder / "spam.py").open("w") as stream:
            stream.write("VALUE = 2\n")
        assert (site_packages(environment) / "spam.py").read_text() == "VALUE = 1\n"
        assert not (site_packages(environment) / "spam.py").samefile(here.folder / "spam.py")

    def test_environments_share_the_files_of_a_copy(self, here, environment):
        second = environment.with_name("two")
        _create_virtual_environment(second)
        copy_installed([locked()], environment)
        copy_installed([locked()], second)
        assert (site_packages(environment) / "spam.py").samefile(site_packages(second) / "spam.py")
        assert len(list((environment.parent / COPIES).iterdir())) == 1

    def test_script_in_a_long_path_finds_its_python(self, here, tmp_path):
        environment = tmp_path / "environments with a space" / ("x" * 120)
        environment.parent.mkdir()
        _create_virtual_environment(environment)
        copy_installed([locked()], environment)
        script = subprocess.run([environment / "bin" / "spam"], capture_output=True, text=True, check=True, timeout=60)
        assert script.stdout == "1\n"
        # And again from that form, as pip writes it for a long path.
        here.add("../../../bin/spam", (environment / "bin" / "spam").read_text(), 0o755)
        here.write_record()
        other = tmp_path / "environments" / "short"
        other.parent.mkdir()
        _create_virtual_environment(other)
        copy_installed([locked()], other)
        assert (other / "bin" / "spam").read_text().startswith(f"#!{other}/bin/python\nimport spam")

    @pytest.mark.parametrize(
        "package",
        [
            locked(number="1.1"),
            locked(name="no-such-thing"),
            locked(tag="cp311-cp311-manylinux_2_28_x86_64"),
        ],
        ids=["other version", "not installed", "other build"],
    )
    def test_other_package_is_not_copied(self, here, environment, package):
        assert copy_installed([package], environment) == []

    @pytest.mark.parametrize(
        ("path", "text"),
        [
            ("spam-1.0.dist-info/INSTALLER", "conda\n"),
            ("spam-1.0.dist-info/direct_url.json", '{"url": "file:///home/me/spam", "dir_info": {"editable": true}}'),
            ("spam.pth", "/home/me/spam\n"),
            ("../../../../spam.conf", "outside of the environment"),
        ],
        ids=["conda", "editable", "pth", "outside"],
    )
    def test_package_that_needs_more_than_its_files_is_not_copied(self, here, environment, path, text):
        here.add(path, text)
        here.write_record()
        assert copy_installed([locked()], environment) == []

    def test_package_without_hashes_is_not_copied(self, here, environment):
        here.lines = [line.partition(",")[0] + ",," for line in here.lines]
        here.write_record()
        assert copy_installed([locked()], environment) == []

    def test_package_with_missing_file_is_not_copied_and_changed_file_is_noticed(self, here, environment):
        (here.folder / "spam.py").write_text("VALUE = 3\n")
        copy_installed([locked()], environment)
        assert damaged_packages(environment, ["spam"]) == ["spam"]
        second = environment.with_name("two")
        _create_virtual_environment(second)
        (here.folder / "spam.py").unlink()
        here.lines.append("")
        here.write_record()
        assert copy_installed([locked()], second) == []

    def test_path_of_two_packages_is_replaced_and_no_damage(self, here, environment):
        copy_installed([locked()], environment)
        place = site_packages(environment)
        (place / "spam.py").unlink()
        (place / "spam.py").write_text("VALUE = 'of eggs'\n")
        (place / "eggs-1.0.dist-info").mkdir()
        record = f"spam.py,sha256={hash_of((place / 'spam.py').read_bytes())},18\n"
        (place / "eggs-1.0.dist-info" / "RECORD").write_text(record)
        assert damaged_packages(environment, ["spam", "eggs"]) == []
        copy_installed([locked()], environment)
        assert (place / "spam.py").read_text() == "VALUE = 1\n"

    def test_numpy_is_copied_from_this_python(self, environment):
        installed = version("numpy")
        import numpy

        wheel = next(Path(numpy.__file__).parents[1].glob("numpy-*.dist-info/WHEEL")).read_text()
        tags = [line.partition(": ")[2] for line in wheel.splitlines() if line.startswith("Tag: ")]
        python, abi, _ = tags[0].split("-")
        package = locked("numpy", installed, f"{python}-{abi}-{'.'.join(tag.split('-')[2] for tag in tags)}")
        if not copy_installed([package], environment):
            pytest.skip("numpy was installed here by another tool")
        assert damaged_packages(environment, ["numpy"]) == []
        command = [environment / "bin" / "python", "-I", "-c", "import numpy; print(numpy.arange(3).sum())"]
        assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout == "3\n"


class TestIntact:
    def test_change_of_any_file_is_noticed(self, environment):
        mark_complete(environment)
        assert is_intact(environment)
        (environment / "pyvenv.cfg").write_text("home = /nowhere\n")
        assert not is_intact(environment)

    def test_bytecode_may_change(self, environment):
        mark_complete(environment)
        (site_packages(environment) / "__pycache__").mkdir()
        (site_packages(environment) / "__pycache__" / "x.pyc").touch()
        assert is_intact(environment)


class TestDiskUse:
    def test_links_count_once_and_free_space_with_the_last_one(self, tmp_path):
        folders = [tmp_path / name for name in ("a", "b", "cache")]
        for folder in folders:
            folder.mkdir()
        (folders[0] / "own").write_bytes(os.urandom(100_000))
        (folders[0] / "shared").write_bytes(os.urandom(1_000_000))
        (folders[1] / "shared").hardlink_to(folders[0] / "shared")
        (folders[0] / "cached").write_bytes(os.urandom(500_000))
        (folders[2] / "cached").hardlink_to(folders[0] / "cached")
        use = DiskUse(folders[:2])
        assert use.bytes == pytest.approx(1_600_000, rel=0.05)
        assert use.remove(folders[0]) == pytest.approx(100_000, rel=0.05)
        assert use.bytes == pytest.approx(1_000_000, rel=0.05)


class Cloud:
    """A directory of a cloud with environments of some kilobytes, and images of them."""

    def __init__(self, directory):
        self.directory = directory

    def environment(self, name, *images, hours=0, size=100_000):
        path = self.directory / "environments" / name
        (path / "bin").mkdir(parents=True)
        (path / "bin" / "python").symlink_to(sys.executable)
        (path / "data").write_bytes(os.urandom(size))
        mark_complete(path)
        mark_used(path)
        then = time.time() - hours * HOUR
        os.utime(path / ".used", (then, then))
        for tag in images:
            image = self.directory / "images" / tag
            image.mkdir(parents=True)
            (image / "environment").symlink_to(f"../../environments/{name}")
            os.utime(image, (then, then))
        return path

    def names(self, folder):
        return sorted(path.name for path in (self.directory / folder).iterdir() if path.is_dir())

    @property
    def content(self):
        return self.names("environments"), self.names("images")


@pytest.fixture
def cloud(tmp_path):
    return Cloud(tmp_path / "cloud")


class TestPrune:
    def test_images_of_knots_stay_with_their_environments(self, cloud):
        cloud.environment("one", "a", "b")
        cloud.environment("two", "c")
        pruned = prune(cloud.directory, {"a"})
        assert cloud.content == (["one"], ["a"])
        assert (pruned.images, pruned.environments, pruned.kept) == (2, 1, 1)
        assert 100_000 <= pruned.freed < 150_000

    def test_environment_that_a_job_holds_stays_until_it_ends(self, cloud):
        hold = Hold(cloud.environment("one", "a"))
        assert prune(cloud.directory, ()).environments == 0
        assert cloud.content == (["one"], ["a"])
        hold.release()
        hold.release()
        assert prune(cloud.directory, ()).environments == 1
        assert cloud.content == ([], [])

    def test_environment_that_is_being_built_stays(self, cloud):
        from cloudknot.local.directory.locks import locked as lock

        path = cloud.environment("one")
        with lock(path.with_name("one.lock")):
            assert prune(cloud.directory, ()).environments == 0
        assert prune(cloud.directory, ()).environments == 1

    def test_what_was_used_lately_stays(self, cloud):
        cloud.environment("old", "a", hours=50)
        cloud.environment("new", "b", hours=10)
        prune(cloud.directory, (), 24 * HOUR)
        assert cloud.content == (["new"], ["b"])

    def test_shared_environments_stay_for_a_day(self, cloud, monkeypatch):
        monkeypatch.setenv("CLOUDKNOT_LOCAL_ENVIRONMENTS", str(cloud.directory / "environments"))
        cloud.environment("old", hours=25)
        cloud.environment("new", hours=23)
        prune(cloud.directory, ())
        assert cloud.names("environments") == ["new"]

    def test_leftovers_of_killed_processes_are_removed_after_an_hour(self, cloud):
        cloud.environment("one", "a")
        names = ("environments/.two.0123", "images/.b.4567", "environments/.packages/.six.89ab")
        for name in names:
            (cloud.directory / name).mkdir(parents=True)
        prune(cloud.directory, {"a"})
        assert all((cloud.directory / name).exists() for name in names)
        for name in names:
            os.utime(cloud.directory / name, (0, 0))
        prune(cloud.directory, {"a"})
        assert not any((cloud.directory / name).exists() for name in names)

    def test_copies_of_packages_go_with_their_last_environment(self, tmp_path, here, environment):
        copy_installed([locked()], environment)
        mark_complete(environment)
        mark_used(environment)
        copies = environment.parent / COPIES
        with removable(environment) as is_free:
            assert is_free
        Hold(environment).release()
        prune(tmp_path, ())
        assert list(copies.iterdir()) == []

    def test_empty_directory_is_no_error(self, tmp_path):
        pruned = prune(tmp_path / "nothing", ())
        assert (pruned.images, pruned.environments, pruned.freed, pruned.size) == (0, 0, 0, 0)


class TestLimit:
    def test_least_recently_used_are_removed_until_the_rest_fits(self, cloud, monkeypatch):
        for number in range(5):
            cloud.environment(f"e{number}", f"i{number}", hours=10 + number)
        cloud.environment("young", "j", hours=0)
        monkeypatch.setenv("CLOUDKNOT_LOCAL_GB", "0.0004")
        pruned = keep_within_limit(cloud.directory, lambda: {"i4"})
        # The oldest is in use.
        assert cloud.content == (["e0", "e4", "young"], ["i0", "i4", "j"])
        assert pruned.environments == 3
        assert pruned.size <= 400_000

    def test_knots_are_not_asked_for_below_the_limit(self, cloud):
        cloud.environment("one", "a", hours=100)
        assert keep_within_limit(cloud.directory, lambda: pytest.fail("not needed")) is None
        assert cloud.content == (["one"], ["a"])

    def test_everything_in_use_stays_above_the_limit(self, cloud, monkeypatch):
        monkeypatch.setenv("CLOUDKNOT_LOCAL_GB", "0.000001")
        cloud.environment("one", "a", hours=100)
        cloud.environment("two", "b")
        assert keep_within_limit(cloud.directory, lambda: {"a"}).environments == 0

    @pytest.mark.parametrize("text", ["many", "0", "-1", "nan"])
    def test_invalid_limit_is_refused(self, monkeypatch, text):
        monkeypatch.setenv("CLOUDKNOT_LOCAL_GB", text)
        with pytest.raises(CloudknotInputError, match="CLOUDKNOT_LOCAL_GB"):
            limit()


def test_hold_of_removed_environment_fails(tmp_path):
    with pytest.raises(FileNotFoundError):
        Hold(tmp_path / "gone")


def test_hash_has_the_form_of_record():
    assert hash_of(b"x") + "=" == __import__("base64").urlsafe_b64encode(hashlib.sha256(b"x").digest()).decode()
