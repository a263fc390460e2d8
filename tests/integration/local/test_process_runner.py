"""The process runner starts tasks through fork servers and installs the environments of images.

A fake image runs a short program in place of the fork server.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cloudknot.errors import ImageError
from cloudknot.image.publish import publish
from cloudknot.local.batch.records import Exited, Started, Task
from cloudknot.local.runners.fork_server_client import ForkServerClient
from cloudknot.local.runners.full_disk import FullDisk
from cloudknot.local.runners.images import materialise
from cloudknot.local.runners.process import ProcessRunner
from cloudknot.local.state import is_locked
from tests.helpers.batch import Image
from tests.helpers.paths import ROOT
from tests.helpers.waiting import until


def fake_image(directory, program):
    """Create an image whose Python runs `program` in place of the fork server, and return its directory."""
    python = directory / "environment" / "bin" / "python"
    python.parent.mkdir(parents=True)
    prelude = "import json, socket, sys, time\ncontrol = socket.socket(fileno=int(sys.argv[-2]))\n"
    (directory / "program.py").write_text(f"{prelude}control.sendall(b'{{}}\\n')\n{program}")
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{directory / "program.py"}" "$@"\n')
    python.chmod(0o755)
    return directory


class TestForkServerClient:
    def test_fork_server_that_does_not_read_blocks_no_caller(self, tmp_path):
        image = fake_image(tmp_path / "deaf", "time.sleep(600)")
        server = ForkServerClient(image, tmp_path / "log", {}, {}, lambda *_: None)
        # Five megabytes, far more than the socket's buffer holds.
        sending = threading.Thread(target=lambda: [server.send({"x": "x" * 9999}) for _ in range(500)], daemon=True)
        sending.start()
        sending.join(30)
        waiting = sending.is_alive()
        os.killpg(server._process.pid, signal.SIGKILL)
        assert not waiting

    def test_fork_server_gets_all_messages_in_order(self, tmp_path):
        program = (
            "time.sleep(0.5)\n"
            "for line in control.makefile('rb'):\n"
            "    control.sendall(json.dumps({'seen': json.loads(line)['number']}).encode() + b'\\n')\n"
        )
        received = []
        image = fake_image(tmp_path / "slow", program)
        server = ForkServerClient(image, tmp_path / "log", {}, {}, lambda _, message: received.append(message["seen"]))
        for number in range(500):
            assert server.send({"number": number, "ballast": "x" * 5000})
        until(lambda: len(received) == 500)
        server.close()
        assert received == list(range(500))
        assert server.send({"number": 500}) is False

    def test_client_reads_further_messages_after_its_callback_raises(self, tmp_path):
        received = []

        def receive(_, message):
            received.append(message)
            raise RuntimeError("a surprise")

        image = fake_image(tmp_path / "talking", 'control.sendall(b\'{"a": 1}\\n{"b": 2}\\n\')')
        ForkServerClient(image, tmp_path / "log", {}, {}, receive)
        # The client passes None when the fork server ends.
        until(lambda: len(received) == 3)
        assert received == [{"a": 1}, {"b": 2}, None]


class TestRunner:
    STARTS = (
        "for line in control.makefile('rb'):\n"
        "    request = json.loads(line)\n"
        "    if 'start' in request:\n"
        "        control.sendall(json.dumps({'started': request['start'], 'pid': 2**30}).encode() + b'\\n')\n"
    )

    @pytest.fixture
    def runner(self, tmp_path):
        # The fake reports each start under a pid that no process has.
        fake_image(tmp_path / "images" / "t", self.STARTS)
        (tmp_path / "scratch").mkdir()
        folders, disk = (tmp_path / "images", tmp_path / "scratch"), FullDisk(tmp_path)
        runner = ProcessRunner(*folders, {}, lambda role: {}, lambda *_: None, disk)
        yield runner
        runner.close()

    def test_task_fails_when_report_of_its_start_raises(self, runner):
        events = []

        def report(event):
            events.append(event)
            if isinstance(event, Started):
                raise RuntimeError("a surprise")

        runner.start(Task("1", "r/i:t", (), {}, "s"), report)
        until(lambda: len(events) == 2)
        assert events[1] == Exited("1", None, "InternalError: a surprise")

    def test_task_without_directory_fails_and_next_task_starts(self, runner, tmp_path):
        events = []
        runner.start(Task("1", "r/i:t", (), {}, "s"), events.append)
        until(lambda: events == [Started("1")])
        (tmp_path / "scratch").rename(tmp_path / "away")
        runner.start(Task("2", "r/i:t", (), {}, "s"), events.append)
        until(lambda: len(events) == 2)
        assert (events[1].task_id, events[1].status_reason) == ("2", "Task failed to start")
        (tmp_path / "away").rename(tmp_path / "scratch")
        runner.start(Task("3", "r/i:t", (), {}, "s"), events.append)
        until(lambda: events[2:] == [Started("3")])


class TestImages:
    def test_installer_of_killed_session_holds_lock_until_it_ends(self, tmp_path):
        program = (
            "import sys; from pathlib import Path\n"
            "from cloudknot.local.runners.images import materialise; from tests.helpers.batch import Image\n"
            "materialise(Path(sys.argv[1]), Image('t', ('no-such-thing==1',), 'slow'))"
        )
        # The package index accepts pip's connection and never answers, so the installation hangs.
        with socket.create_server(("127.0.0.1", 0)) as index:
            index.settimeout(60)
            settings = {"PIP_INDEX_URL": f"http://127.0.0.1:{index.getsockname()[1]}/", "PIP_RETRIES": "0"}
            environment = {**os.environ, **settings, "PIP_TIMEOUT": "60"}
            command, root = [sys.executable, "-c", program, tmp_path / "d"], ROOT
            with subprocess.Popen(command, env=environment, cwd=root, stderr=subprocess.DEVNULL) as session:
                connection, _ = index.accept()
                session.kill()
            lock = tmp_path / "d" / "environments" / "slow.lock"
            assert is_locked(lock)
            connection.close()
        until(lambda: not is_locked(lock))

    def test_environment_holds_only_its_requirements_and_is_shared(self, client, tmp_path):
        six = Image("six-1", ("six==1.16.0",), "six")
        client.define("six", publish(client.cloud, six, client.cloud.repository("tests")))
        program = "import importlib.metadata as m; print(sorted(d.name + d.version for d in m.distributions()))"
        job = client.wait(client.submit("python", "-c", program, jobDefinition="six"))
        (line,) = until(lambda: client.lines(job["container"]["logStreamName"]))
        assert "six1.16.0" in line
        assert "boto3" not in line
        marker = client.cloud.directory / "environments" / "six" / ".complete"
        completed = marker.stat().st_mtime_ns
        second = materialise(client.cloud.directory, Image("six-2", ("six==1.16.0",), "six"))
        assert (second / "environment").resolve() == marker.parent.resolve()
        assert marker.stat().st_mtime_ns == completed

    def test_failed_installation_shows_pips_message_and_leaves_nothing(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        with pytest.raises(
            ImageError, match=r"(?s)no-such-thing==1.*pip reports:.*No matching distribution"
        ) as caught:
            materialise(tmp_path, Image("t", ("no-such-thing==1",), "failing"))
        assert len(str(caught.value).splitlines()) < 25
        assert not (tmp_path / "environments" / "failing").exists()
        assert not (tmp_path / "images" / "t").exists()

    def test_incomplete_and_broken_environments_are_rebuilt(self, tmp_path):
        half = tmp_path / "environments" / "none" / "bin"
        half.mkdir(parents=True)
        (half / "left-over").touch()
        python = materialise(tmp_path, Image("t")) / "environment" / "bin" / "python"
        assert not (half / "left-over").exists()
        python.unlink()
        python.symlink_to("/no/such/python")
        materialise(tmp_path, Image("t"))
        assert subprocess.run([python, "-c", ""], check=False, timeout=60).returncode == 0

    def test_simultaneous_callers_get_one_image_directory(self, tmp_path):
        with ThreadPoolExecutor(2) as pool:
            images = list(pool.map(lambda _: materialise(tmp_path, Image("t")), range(2)))
        assert images[0] == images[1]
        assert [path.name for path in (tmp_path / "images").iterdir()] == ["t"]

    def test_pip_ignores_users_python_settings(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PYTHONPATH", "/nonsense")
        monkeypatch.setenv("PIP_USER", "1")
        monkeypatch.setenv("PIP_TARGET", str(tmp_path / "elsewhere"))
        image = materialise(tmp_path, Image("t", ("six==1.16.0",), "six"))
        assert list((image / "environment").glob("lib/python*/site-packages/six.py"))
