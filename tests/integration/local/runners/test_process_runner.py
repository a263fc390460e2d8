"""The process runner starts tasks through fork servers and installs the environments of images.

A fake image runs a short program in place of the fork server.
"""

import os
import signal
import sys
import threading
import time

import pytest

from cloudknot.local.batch.records import Exited, Started, Task
from cloudknot.local.directory.full_disk import FullDisk
from cloudknot.local.runners.fork_server_client import PROGRAM, ForkServerClient
from cloudknot.local.runners.images.usage import removable
from cloudknot.local.runners.process import ProcessRunner
from tests.helpers.waiting import LONG, until


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
        sending.join(LONG)
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

    def test_environment_is_free_once_its_fork_server_is_closed(self, tmp_path):
        is_called = threading.Event()

        def receive(*_):
            is_called.set()
            time.sleep(0.5)

        image = fake_image(tmp_path / "busy", "control.sendall(b'{\"a\": 1}\\n')\ncontrol.recv(1)")
        server = ForkServerClient(image, tmp_path / "log", {}, {}, receive)
        assert is_called.wait(LONG)
        with removable(image / "environment") as is_free:
            assert not is_free
        # The process ends at once. The thread that reads its messages is still busy with the last one.
        server.close()
        with removable(image / "environment") as is_free:
            assert is_free


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

    def test_upgrade_of_cloudknot_does_not_reach_running_cloud(self, runner, tmp_path):
        copy = tmp_path / "scratch" / PROGRAM.name
        assert copy.read_bytes() == PROGRAM.read_bytes()
        events = []
        runner.start(Task("1", "r/i:t", (), {}, "s"), events.append)
        until(lambda: events == [Started("1")])
        (arguments,) = (server._process.args for server in runner._fork_servers.values())
        assert copy in arguments
        assert PROGRAM not in arguments

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
