"""Ctrl-C as a person presses it: in a pseudo-terminal, in a script and in an interactive session."""

import os
import pty
import re
import select
import signal
import sys
import time

import pytest

import cloudknot as ck
from tests.helpers.waiting import LONG, until

SCRIPT = """
import sys
import cloudknot as ck

def slow(path):
    import os, time
    while not os.path.exists(path):
        time.sleep(0.05)
    return 42

future = ck.Knot(name=sys.argv[1], func=slow, cloud="local").map([sys.argv[2]])
future.result()
"""


class Terminal:
    """A Python on a pseudo-terminal."""

    def __init__(self, arguments, cloud, folder):
        (folder / "script.py").write_text(SCRIPT)
        variables = {"CLOUDKNOT_LOCAL_DIR": str(cloud.directory), "PYTHONPATH": os.getcwd(), "TERM": "xterm"}
        self.shown, self._read = "", 0
        self._pid, self._fd = pty.fork()
        if not self._pid:
            os.chdir(folder)
            os.execve(sys.executable, [sys.executable, *arguments], {**os.environ, **variables})

    def _take(self, seconds):
        if select.select([self._fd], [], [], seconds)[0]:
            try:
                self.shown += os.read(self._fd, 4096).decode(errors="replace")
            except OSError:  # what Linux says when the other end is closed
                return False
        return True

    def until(self, text):
        """Wait for a text after the one before, and return what was shown since then."""
        end = time.monotonic() + LONG
        while (found := self.shown.find(text, self._read)) < 0 and time.monotonic() < end:
            if not self._take(0.1):
                break
        assert found >= 0 or text in self.shown[self._read :], self.shown
        since = self.shown[self._read : self.shown.find(text, self._read) + len(text)]
        self._read += len(since)
        return since

    def type(self, text):
        os.write(self._fd, text.encode())

    def close(self):
        """Wait for the end, and return the exit code."""
        while self._take(0.5):
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])


@pytest.fixture
def terminal(cloud, tmp_path):
    return lambda *arguments: Terminal(arguments, cloud, tmp_path)


def interrupt(shown, name, cloud):
    """Press Ctrl-C while the job runs; what is shown from then on until the note has been."""
    shown.until("1 running")
    shown.type("\x03")
    shown.until("KeyboardInterrupt")
    shown.until(
        f"The job keeps running. Find it in any session: cloudknot.Knot(name='{name}').jobs. End it: future.cancel()"
    )
    (job,) = ck.Knot(name=name, cloud=cloud).jobs
    assert job.status == "RUNNING"
    return job


def test_ctrl_c_in_a_script(cloud, terminal, tmp_path):
    shown = terminal("script.py", "terminal-script", str(tmp_path / "go"))
    job = interrupt(shown, "terminal-script", cloud)
    assert shown.close() == -signal.SIGINT
    # The cursor is there again, and nothing is drawn after the traceback.
    assert shown.shown.rfind("\x1b[?25h") > shown.shown.rfind("\x1b[?25l")
    assert "1 running" not in shown.shown[shown.shown.rfind("The job keeps running") :]
    (tmp_path / "go").touch()
    assert job.result(LONG) == [42]


def test_ctrl_c_in_an_interactive_session_gives_the_prompt_back(cloud, terminal, tmp_path):
    shown = terminal("-i", "script.py", "terminal-session", str(tmp_path / "go"))
    interrupt(shown, "terminal-session", cloud)
    shown.until(">>> ")
    # Nothing is drawn over what is typed, however often the collector looks.
    shown.type("future.job.status\n")
    typed = shown.until("'RUNNING'")
    assert re.sub(r"\s", "", typed) == "future.job.status'RUNNING'"
    shown.until(">>> ")
    (tmp_path / "go").touch()
    shown.type("print('got', future.result())\n")
    shown.until("got [42]")
    shown.until(">>> ")
    # A map that nobody waits for draws nothing either.
    shown.type("other = ck.Knot(name=sys.argv[1], cloud='local').map([sys.argv[2]])\n")
    shown.until("[sys.argv[2]])")
    until(lambda: [job.status for job in ck.Knot(name="terminal-session", cloud=cloud).jobs] == ["SUCCEEDED"] * 2)
    shown.type("1 + 1\n")
    assert re.sub(r"\s", "", shown.until("2\r\n")).endswith(">>>1+12")
    assert "\x1b[?25l" not in shown.shown[shown.shown.rfind("got [42]") :]
    shown.until(">>> ")
    shown.type("exit()\n")
    assert shown.close() == 0
    until(lambda: ck.Knot(name="terminal-session", cloud=cloud).jobs[-1].status == "SUCCEEDED")
