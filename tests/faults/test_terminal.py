"""Ctrl-C in a pseudo-terminal leaves the job running, in a script and in an interactive session."""

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
    """A Python process on a pseudo-terminal."""

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
            except OSError:  # Linux raises it when the other end is closed.
                return False
        return True

    def until(self, text):
        """Wait for a text after the previous one, and return everything shown in between."""
        end = time.monotonic() + LONG
        while (position := self.shown.find(text, self._read)) < 0 and time.monotonic() < end:
            if not self._take(0.1):
                break
        assert position >= 0 or text in self.shown[self._read :], self.shown
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
    """Start Python with arguments on a new pseudo-terminal."""
    return lambda *arguments: Terminal(arguments, cloud, tmp_path)


def interrupt(terminal, name, cloud):
    """Press Ctrl-C while the job runs, wait for the note in the traceback, and return the job."""
    terminal.until("1 running")
    terminal.type("\x03")
    terminal.until("KeyboardInterrupt")
    terminal.until(
        f"The job keeps running. Find it in any session: cloudknot.Knot(name='{name}').jobs. End it: future.cancel()"
    )
    (job,) = ck.Knot(name=name, cloud=cloud).jobs
    assert job.status == "RUNNING"
    return job


def test_ctrl_c_ends_script_and_leaves_job_running(cloud, terminal, tmp_path):
    python = terminal("script.py", "terminal-script", str(tmp_path / "go"))
    job = interrupt(python, "terminal-script", cloud)
    assert python.close() == -signal.SIGINT
    # Hiding the cursor is undone, and the progress bar is not drawn after the traceback.
    assert python.shown.rfind("\x1b[?25h") > python.shown.rfind("\x1b[?25l")
    assert "1 running" not in python.shown[python.shown.rfind("The job keeps running") :]
    (tmp_path / "go").touch()
    assert job.result(LONG) == [42]


def test_ctrl_c_in_interactive_session_returns_to_prompt(cloud, terminal, tmp_path):
    python = terminal("-i", "script.py", "terminal-session", str(tmp_path / "go"))
    interrupt(python, "terminal-session", cloud)
    python.until(">>> ")
    # The collector still polls, but the progress bar is not drawn over the typed text.
    python.type("future.job.status\n")
    typed = python.until("'RUNNING'")
    assert re.sub(r"\s", "", typed) == "future.job.status'RUNNING'"
    python.until(">>> ")
    (tmp_path / "go").touch()
    python.type("print('got', future.result())\n")
    python.until("got [42]")
    python.until(">>> ")
    # A map draws no progress bar while nobody waits for its results.
    python.type("other = ck.Knot(name=sys.argv[1], cloud='local').map([sys.argv[2]])\n")
    python.until("[sys.argv[2]])")
    python.until(">>> ")
    until(lambda: [job.status for job in ck.Knot(name="terminal-session", cloud=cloud).jobs] == ["SUCCEEDED"] * 2)
    python.type("1 + 1\n")
    assert re.sub(r"\s", "", python.until("2\r\n")) == "1+12"
    assert "\x1b[?25l" not in python.shown[python.shown.rfind("got [42]") :]
    python.until(">>> ")
    python.type("exit()\n")
    assert python.close() == 0
    until(lambda: ck.Knot(name="terminal-session", cloud=cloud).jobs[-1].status == "SUCCEEDED")
