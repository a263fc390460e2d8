"""s3cmd and rclone, two programs that share no code with boto3, work with the embedded cloud's S3."""

import hashlib
import os
import shutil
import subprocess

import pytest

MB = 1024 * 1024
NAMES = ("plain", "with space", "deep/er/file", "é+&=?#", "empty", "large")


def needs(program):
    return pytest.mark.skipif(
        shutil.which(program) is None, reason=f"{program} is not installed. Debian: apt-get install {program}"
    )


def run(*command, **variables):
    """Run a program, and return its output."""
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **variables},
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def files(tmp_path):
    """Return a folder with files of several sizes and names."""
    folder = tmp_path / "files"
    for number, name in enumerate(NAMES):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        size = {"empty": 0, "large": 12 * MB}.get(name, 40_000 * number)
        path.write_bytes(os.urandom(size))
    return folder


def contents(folder):
    """Return the digests of the files in a folder by their paths."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@needs("s3cmd")
class TestS3cmd:
    @pytest.fixture
    def s3cmd(self, embedded, tmp_path):
        """Return a function that runs s3cmd."""
        key = embedded.door.session().get_credentials()
        host = embedded.endpoint_url.removeprefix("http://")
        settings = tmp_path / "s3cfg"
        settings.write_text(
            f"[default]\naccess_key = {key.access_key}\nsecret_key = {key.secret_key}\nhost_base = {host}\n"
            f"host_bucket = {host}\nuse_https = False\nmultipart_chunk_size_mb = 5\n",
            encoding="utf-8",
        )
        return lambda *command: run("s3cmd", "-c", settings, "--no-progress", *command, HOME=str(tmp_path))

    def test_files_are_put_listed_got_and_deleted(self, s3cmd, plain, files, tmp_path):
        s3cmd("mb", "s3://s3cmd-files")
        for name in NAMES:
            s3cmd("put", files / name, f"s3://s3cmd-files/{name}")
        listed = s3cmd("ls", "--recursive", "s3://s3cmd-files")
        assert sorted(line.partition("s3://s3cmd-files/")[2] for line in listed.splitlines()) == sorted(NAMES)
        # In parts of 5 MB.
        assert plain.head_object(Bucket="s3cmd-files", Key="large")["ETag"].endswith('-3"')
        for name in NAMES:
            s3cmd("get", "--force", f"s3://s3cmd-files/{name}", tmp_path / "got")
            assert (tmp_path / "got").read_bytes() == (files / name).read_bytes()
        assert f"{12 * MB}" in s3cmd("info", "s3://s3cmd-files/large")
        s3cmd("cp", "s3://s3cmd-files/plain", "s3://s3cmd-files/copy")
        s3cmd("del", "--recursive", "--force", "s3://s3cmd-files")
        assert s3cmd("ls", "s3://s3cmd-files") == ""
        s3cmd("rb", "s3://s3cmd-files")
        assert "s3cmd-files" not in s3cmd("ls")

    def test_folders_are_synchronised(self, s3cmd, files, tmp_path):
        s3cmd("mb", "s3://s3cmd-sync")
        s3cmd("sync", f"{files}/", "s3://s3cmd-sync/")
        # The second time, the entity tags show that nothing has changed.
        assert "upload:" not in s3cmd("sync", f"{files}/", "s3://s3cmd-sync/")
        (files / "plain").write_bytes(b"changed")
        (files / "empty").unlink()
        changed = s3cmd("sync", "--delete-removed", f"{files}/", "s3://s3cmd-sync/")
        assert changed.count("upload:") == changed.count("delete:") == 1
        (tmp_path / "back").mkdir()
        s3cmd("sync", "s3://s3cmd-sync/", f"{tmp_path / 'back'}/")
        assert contents(tmp_path / "back") == contents(files)


@needs("rclone")
class TestRclone:
    @pytest.fixture
    def rclone(self, embedded, tmp_path):
        """Return a function that runs rclone with the remote ``cloud:``."""
        key = embedded.door.session().get_credentials()
        remote = {
            "TYPE": "s3",
            "PROVIDER": "Other",
            "ACCESS_KEY_ID": key.access_key,
            "SECRET_ACCESS_KEY": key.secret_key,
            "ENDPOINT": embedded.endpoint_url,
            "REGION": "us-east-1",
            "FORCE_PATH_STYLE": "true",
            "UPLOAD_CUTOFF": "6M",
            "CHUNK_SIZE": "5M",
        }
        variables = {f"RCLONE_CONFIG_CLOUD_{name}": value for name, value in remote.items()}
        settings = tmp_path / "rclone.conf"
        settings.touch()
        return lambda *command: run(
            "rclone", "--config", settings, "--retries", "1", *command, HOME=str(tmp_path), **variables
        )

    def test_folders_are_synchronised_and_compared(self, rclone, plain, files, tmp_path):
        rclone("mkdir", "cloud:rclone-sync")
        rclone("sync", files, "cloud:rclone-sync/a")
        # Compares the MD5 of each file with the entity tag or, for an object in parts, with its metadata.
        rclone("check", files, "cloud:rclone-sync/a")
        assert plain.head_object(Bucket="rclone-sync", Key="a/large")["ETag"].endswith('-3"')
        (files / "plain").write_bytes(b"changed")
        (files / "with space").unlink()
        rclone("sync", files, "cloud:rclone-sync/a")
        rclone("check", files, "cloud:rclone-sync/a")
        # On the side of the server.
        rclone("copy", "cloud:rclone-sync/a", "cloud:rclone-sync/b")
        rclone("sync", "cloud:rclone-sync/b", tmp_path / "back")
        assert contents(tmp_path / "back") == contents(files)
        assert rclone("size", "cloud:rclone-sync/b").startswith(f"Total objects: {len(NAMES) - 1} ")
        rclone("purge", "cloud:rclone-sync")
        assert "rclone-sync" not in rclone("lsd", "cloud:")

    def test_modification_between_reads_is_seen(self, rclone, files):
        rclone("mkdir", "cloud:rclone-check")
        rclone("copy", files, "cloud:rclone-check")
        (files / "deep/er/file").write_bytes(b"other")
        with pytest.raises(AssertionError, match="1 differences found"):
            rclone("check", files, "cloud:rclone-check")
