"""Processes that die by SIGKILL before each of their steps: calls that change files, and statements of SQLite."""

import os
import signal
import sqlite3
import sys
import traceback

STEPS = {"open", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate"}
"""Audit events of Python before the calls that change files."""


def dies_at(step, prepare, act):
    """Call ``act(prepare())`` in a fork that dies before that step of ``act``. Return False if it has fewer steps."""
    child = os.fork()
    if child == 0:
        try:
            countdown = Countdown()
            prepared = prepare()
            countdown.left = step
            act(prepared)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, -signal.SIGKILL)
    return code != 0


class Countdown:
    """Ends this process after ``left`` further steps. It has no other purpose than to die."""

    def __init__(self):
        self.left = 0
        self._connect = sqlite3.connect
        sqlite3.connect = self.connect
        sys.addaudithook(self.notice)

    def notice(self, event, arguments):
        # A file that is only read, such as an imported module, is no step.
        if event in STEPS and (event != "open" or arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            self.count()

    def connect(self, *arguments, **choices):
        connection = self._connect(*arguments, **choices)
        connection.set_trace_callback(self.count)
        return connection

    def count(self, *_):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
