"""A cloud's directory belongs to its user alone, whatever the umask, and other users' directories are never taken."""

import errno
import os
import stat
from dataclasses import replace

import pytest

import cloudknot as ck
from cloudknot.local import LocalCloud
from cloudknot.local.directory.claim import check_owner, claim, own_folder
from cloudknot.local.directory.deletion import delete_files
from cloudknot.local.directory.files import DATABASES, FORMAT, MARKER, OBJECTS, state_file
from cloudknot.local.directory.refused_writes import usable
from cloudknot.local.directory.state import CloudState, read_state, write_state
from cloudknot.local.options import default_directory
from cloudknot.options.config import data_folder
from tests.helpers.foreign import NOBODY, foreign_directory

STATE = CloudState("http://127.0.0.1:1", 1, "AKIA", "secret")
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o777], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
class TestModes:
    def test_new_directory_and_its_new_parents_are_private(self, tmp_path):
        claim(tmp_path / "a" / "b" / "cloud")
        assert [mode(tmp_path / name) for name in ("a", "a/b", "a/b/cloud")] == [0o700] * 3

    def test_data_folder_is_private(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
        claim(default_directory())
        assert (mode(data_folder()), mode(default_directory())) == (0o700, 0o700)

    def test_open_directories_are_closed(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
        default_directory().mkdir(parents=True)
        for path in (data_folder(), default_directory()):
            path.chmod(0o777)
        claim(default_directory())
        assert (mode(data_folder()), mode(default_directory())) == (0o700, 0o700)
        # Folders of other programs keep their modes.
        tmp_path.chmod(0o755)
        claim(default_directory())
        assert mode(tmp_path) == 0o755

    def test_folder_of_programs_is_private(self, tmp_path):
        # The directory may have been open to readers before, and a folder in it to writers.
        (tmp_path / "open").mkdir()
        (tmp_path / "open").chmod(0o777)
        assert [mode(own_folder(tmp_path / name)) for name in ("new", "open")] == [0o700, 0o755]


@pytest.mark.parametrize("name", ["link/cloudknot/local", "real/cloudknot/local", "real/cloudknot", "link/cloudknot"])
def test_data_folder_is_closed_by_whatever_path(tmp_path, monkeypatch, name):
    (tmp_path / "real" / "cloudknot").mkdir(parents=True)
    (tmp_path / "real" / "cloudknot").chmod(0o755)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "link"))
    claim(tmp_path / name)
    assert mode(tmp_path / "real" / "cloudknot") == 0o700


@pytest.mark.parametrize(("before", "after"), [(0o755, 0o755), (0o777, 0o755), (0o770, 0o750), (0o700, 0o700)])
def test_nobody_else_can_write_to_existing_directory(tmp_path, before, after):
    tmp_path.chmod(before)
    claim(tmp_path)
    assert mode(tmp_path) == after


class TestOwners:
    def test_directory_of_another_user_is_refused(self, tmp_path):
        foreign = foreign_directory(tmp_path)
        before = foreign.stat()
        for call in (claim, check_owner, lambda path: LocalCloud(path).start()):
            with pytest.raises(ck.CloudknotInputError, match="belongs to another user"):
                call(foreign)
        assert (foreign.stat().st_mode, foreign.stat().st_mtime_ns) == (before.st_mode, before.st_mtime_ns)

    def test_programs_of_another_user_are_refused(self, tmp_path, monkeypatch):
        monkeypatch.setenv("CLOUDKNOT_LOCAL_ENVIRONMENTS", str(foreign_directory(tmp_path)))
        with (
            LocalCloud(tmp_path / "cloud") as cloud,
            pytest.raises(ck.CloudknotInputError, match="belongs to another user"),
        ):
            ck.Knot(name="foreign", func=abs, cloud=cloud)

    def test_link_to_directory_of_another_user_is_refused(self, tmp_path):
        link = tmp_path / "link"
        link.symlink_to(foreign_directory(tmp_path))
        with pytest.raises(ck.CloudknotInputError, match="belongs to another user"):
            claim(link)

    def test_own_link_to_own_directory_is_followed(self, tmp_path):
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere").chmod(0o777)
        (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
        claim(tmp_path / "link")
        assert mode(tmp_path / "elsewhere") == 0o755

    @only_root
    def test_link_of_another_user_is_refused(self, tmp_path):
        (tmp_path / "own").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "own")
        os.lchown(tmp_path / "link", NOBODY, NOBODY)
        with pytest.raises(ck.CloudknotInputError, match="belongs to another user"):
            claim(tmp_path / "link")

    @only_root
    @pytest.mark.parametrize("name", ["environments", "cloud.json", "other"])
    def test_own_directory_with_planted_file_is_refused(self, tmp_path, name):
        claim(tmp_path)
        (tmp_path / name).touch()
        os.chown(tmp_path / name, NOBODY, NOBODY)
        with pytest.raises(ck.CloudknotInputError, match="belongs to another user"):
            claim(tmp_path)

    @only_root
    def test_address_in_file_of_another_user_is_not_used(self, tmp_path):
        write_state(tmp_path, STATE)
        assert read_state(tmp_path) == STATE
        os.chown(state_file(tmp_path), NOBODY, NOBODY)
        assert read_state(tmp_path) is None

    @only_root
    def test_data_folder_of_another_user_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
        data_folder().mkdir()
        os.chown(data_folder(), NOBODY, NOBODY)
        with pytest.raises(ck.CloudknotInputError, match="belongs to another user"):
            claim(default_directory())


def test_state_of_another_version_is_not_used(tmp_path):
    write_state(tmp_path, replace(STATE, version=-1))
    assert read_state(tmp_path) is None


class TestFormat:
    def test_new_directory_has_the_present_format(self, tmp_path):
        claim(tmp_path / "cloud")
        assert (tmp_path / "cloud" / MARKER).read_text() == f"{FORMAT}\n"

    def test_directory_of_earlier_version_gets_it(self, tmp_path):
        (tmp_path / MARKER).touch()
        (tmp_path / "images").mkdir()
        claim(tmp_path)
        assert (tmp_path / MARKER).read_text() == f"{FORMAT}\n"
        assert (tmp_path / "images").is_dir()

    @pytest.mark.parametrize("text", [str(FORMAT + 1), "2.0", "next"])
    def test_newer_format_is_refused_and_kept(self, tmp_path, text):
        (tmp_path / MARKER).write_text(text)
        with pytest.raises(ck.CloudknotConfigurationError, match="A newer cloudknot wrote"):
            claim(tmp_path)
        assert (tmp_path / MARKER).read_text() == text


class TestDeletion:
    def test_files_of_the_cloud_go_and_those_of_the_user_stay(self, tmp_path):
        claim(tmp_path)
        for name in DATABASES:
            for ending in ("", "-wal", "-shm"):
                (tmp_path / f"{name}{ending}").touch()
        (tmp_path / OBJECTS).mkdir()
        (tmp_path / OBJECTS / "data").touch()
        (tmp_path / "notes").mkdir()
        write_state(tmp_path, STATE)
        delete_files(tmp_path)
        assert os.listdir(tmp_path) == ["notes"]

    def test_directory_without_other_files_goes_and_target_of_link_stays(self, tmp_path):
        claim(tmp_path / "cloud")
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "data").touch()
        (tmp_path / "cloud" / OBJECTS).symlink_to(tmp_path / "elsewhere")
        delete_files(tmp_path / "cloud")
        assert [path.name for path in tmp_path.rglob("*")] == ["elsewhere", "data"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_asks_for_space_and_not_for_rights(tmp_path, number):
    """The file that met the end of the disk may be one of a package, with a path that helps nobody."""
    with pytest.raises(ck.CloudknotConfigurationError) as caught, usable(tmp_path):
        raise OSError(number, os.strerror(number), "site-packages/inner/file.json")
    assert f"{tmp_path}: {os.strerror(number)}. Free space" in str(caught.value)
    assert "inner" not in str(caught.value)


def test_directory_without_rights_is_named_with_its_file(tmp_path):
    with (
        pytest.raises(ck.CloudknotConfigurationError, match=r"denied: 'cloud/file'. Choose a directory"),
        usable(tmp_path),
    ):
        raise PermissionError(errno.EACCES, "Permission denied", "cloud/file")
