"""Sessions find, start and stop the embedded cloud, whether it is idle, busy or killed, and keep to its directory."""

import contextlib
import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cloudknot.errors import CloudError, CloudknotInputError
from cloudknot.local import LocalCloud, admin
from cloudknot.local.directory.files import server_lock, state_file
from cloudknot.local.directory.locks import is_locked, locked
from cloudknot.local.directory.state import CloudState, read_state, write_state
from cloudknot.local.runners.images.store import materialise
from tests.helpers.batch import WORKER, Client, Image, alive, until_written
from tests.helpers.paths import ROOT
from tests.helpers.waiting import LONG, until


@contextlib.contextmanager
def in_use(cloud):
    """Send requests in the background. The test's own may be too far apart to keep the cloud from ending."""
    ended = threading.Event()

    def use():
        # Not with botocore, whose first call may take longer on a busy machine than an idle cloud lives.
        while not ended.wait(0.2):
            admin.ask(read_state(cloud.directory), "GET", admin.LOG_PATH)

    user = threading.Thread(target=use)
    user.start()
    try:
        yield cloud
    finally:
        ended.set()
        user.join()


class TestLife:
    def test_another_process_finds_running_cloud(self, embedded, directory):
        program = "import sys; from cloudknot.local import LocalCloud; print(LocalCloud(sys.argv[1]).start().pid)"
        root = str(ROOT)
        result = subprocess.run(
            [sys.executable, "-c", program, directory],
            capture_output=True,
            text=True,
            check=True,
            cwd=root,
            timeout=LONG,
        )
        assert int(result.stdout) == embedded.status().pid

    def test_simultaneous_sessions_share_one_cloud(self, tmp_path):
        clouds = [LocalCloud(tmp_path / "shared") for _ in range(4)]
        with ThreadPoolExecutor(4) as pool:
            pids = list(pool.map(lambda cloud: cloud.start().pid, clouds))
        assert len(set(pids)) == 1
        with clouds[0], clouds[1], clouds[2], clouds[3]:
            pass
        assert clouds[0].status() is None

    def test_with_block_leaves_cloud_running_that_it_did_not_start(self, embedded, directory):
        with LocalCloud(directory) as cloud:
            assert cloud.status().pid == embedded.status().pid
        assert embedded.status() is not None

    def test_local_cloud_object_starts_no_process(self, tmp_path):
        cloud = LocalCloud(tmp_path / "untouched")
        assert cloud.region == "us-east-1"
        assert cloud.status() is None
        assert not (tmp_path / "untouched").exists()

    def test_stop_ends_jobs_and_deletes_state(self, own_cloud, tmp_path):
        Client(own_cloud).submit(*WORKER, "family", str(tmp_path / "pids"))
        pids = until_written(tmp_path / "pids")
        pid = own_cloud.status().pid
        assert own_cloud.stop() is True
        until(lambda: not any(map(alive, [pid, *pids])))
        assert read_state(own_cloud.directory) is None
        assert own_cloud.status() is None
        assert own_cloud.stop() is False

    def test_jobs_of_killed_cloud_end_and_new_cloud_starts(self, own_cloud, tmp_path):
        client = Client(own_cloud)
        client.submit(*WORKER, "family", str(tmp_path / "pids"))
        pids = until_written(tmp_path / "pids")
        os.kill(own_cloud.status().pid, signal.SIGKILL)
        until(lambda: not any(map(alive, pids)))
        with LocalCloud(own_cloud.directory):
            assert client.run("leave", "0")["status"] == "SUCCEEDED"

    def test_idle_cloud_ends_by_itself_after_its_last_job(self, tmp_path):
        directory = tmp_path / "idle"
        directory.mkdir()
        command = [sys.executable, "-m", "cloudknot.local.server", "--directory", directory, "--idle", "8"]
        server = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=ROOT)
        try:
            until(lambda: read_state(directory))
            with in_use(LocalCloud(directory)) as cloud:
                client = Client(cloud)
                job_id = client.submit(*WORKER, "talk", str(tmp_path / "go"))
            # An idle cloud would end after 8 seconds.
            threading.Event().wait(10)
            assert server.poll() is None
            (tmp_path / "go").touch()
            client.wait(job_id)
            assert server.wait(LONG) == 0
        finally:
            server.kill()
            server.wait()
        # An open session starts the cloud again by itself.
        assert cloud.call("sts", "get_caller_identity")
        assert cloud.stop()
        assert not state_file(directory).exists()

    def test_start_error_names_cause(self, tmp_path, embedded):
        port = int(embedded.endpoint_url.rpartition(":")[2])
        with pytest.raises(CloudError, match="Address already in use"):
            LocalCloud(tmp_path / "taken", port=port).start()


class TestDirectory:
    def test_foreign_directory_is_refused_and_left_unchanged(self, tmp_path):
        tmp_path.chmod(0o755)
        (tmp_path / "scratch").mkdir()
        (tmp_path / "scratch" / "thesis.tex").touch()
        for use in (LocalCloud(tmp_path).start, lambda: materialise(tmp_path, Image("t"))):
            with pytest.raises(CloudknotInputError, match="is not empty"):
                use()
        assert LocalCloud(tmp_path).stop() is False
        assert [path.name for path in tmp_path.rglob("*")] == ["scratch", "thesis.tex"]
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755

    def test_existing_directory_keeps_its_mode_and_its_scratch_folder(self, tmp_path):
        tmp_path.chmod(0o755)
        with LocalCloud(tmp_path):
            (tmp_path / "scratch").mkdir()
            (tmp_path / "scratch" / "thesis.tex").touch()
        with LocalCloud(tmp_path):
            assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
        assert (tmp_path / "scratch" / "thesis.tex").exists()


class TestBusyCloud:
    """A cloud with a process that holds the lock but does not answer yet, or not at all."""

    # Nothing listens on port 9.
    SILENT = CloudState("http://127.0.0.1:9", 0, "AKIASILENT", "secret")

    def test_session_waits_for_busy_cloud_and_starts_no_second_one(self, embedded, directory, tmp_path):
        with locked(server_lock(tmp_path)), ThreadPoolExecutor(1) as pool:
            write_state(tmp_path, self.SILENT)
            starting = pool.submit(LocalCloud(tmp_path).start)
            # The session still waits after half a second, although the state names a cloud.
            with pytest.raises(TimeoutError):
                starting.result(0.5)
            write_state(tmp_path, read_state(directory))
            assert starting.result(LONG).pid == embedded.status().pid

    def test_stop_ends_cloud_that_does_not_answer(self, tmp_path):
        program = (
            "import fcntl, sys, time; f = open(sys.argv[1], 'a'); fcntl.flock(f, 2); print(flush=True); time.sleep(60)"
        )
        command = [sys.executable, "-c", program, server_lock(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            write_state(tmp_path, CloudState("http://127.0.0.1:9", process.pid, "AKIASILENT", "secret"))
            assert LocalCloud(tmp_path).stop() is True
            assert process.wait(LONG) == -signal.SIGTERM

    def test_error_distinguishes_ended_cloud_from_silent_one(self, own_cloud):
        own_cloud.client("sts")
        state = read_state(own_cloud.directory)
        own_cloud.stop()
        with pytest.raises(CloudError, match=r"has stopped\. Its knots and results are kept"):
            own_cloud.call("sts", "get_caller_identity")
        with locked(server_lock(own_cloud.directory)):
            write_state(own_cloud.directory, state)
            with pytest.raises(
                CloudError, match=rf"does not answer, but its process {state.pid} still runs.*cloudknot local stop"
            ):
                own_cloud.call("sts", "get_caller_identity")

    def test_shared_lock_does_not_count_as_locked(self, tmp_path):
        with (tmp_path / "lock").open("w") as file:
            # `is_locked` itself takes a shared lock for a moment.
            fcntl.flock(file, fcntl.LOCK_SH)
            assert not is_locked(tmp_path / "lock")
        with locked(tmp_path / "lock"):
            assert is_locked(tmp_path / "lock")

    def test_server_gets_its_lock_after_shared_lock_is_released(self, tmp_path):
        with (tmp_path / "lock").open("w") as file, ThreadPoolExecutor(1) as pool:
            fcntl.flock(file, fcntl.LOCK_SH)
            taking = pool.submit(lambda: locked(tmp_path / "lock", 30).__enter__())
            fcntl.flock(file, fcntl.LOCK_UN)
            assert taking.result(LONG)

    def test_server_kills_itself_after_its_time_limit(self):
        program = (
            "import threading; from cloudknot.local.server.process.ending import kill_self_after; "
            "kill_self_after(1); threading.Event().wait()"
        )
        command, root = [sys.executable, "-c", program], ROOT
        assert subprocess.run(command, cwd=root, timeout=LONG, check=False).returncode == -signal.SIGALRM
