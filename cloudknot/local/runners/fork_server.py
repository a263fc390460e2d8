"""The fork server of one image: a process that has imported the worker and forks one child per task.

`fork_server_client` launches it and talks to it. Run by path with the image's own Python,
``python fork_server.py <image directory> <control socket's descriptor>``.
It imports the standard library only, and of the image ``cloudknot_worker.__main__``, which gives ``warm()`` and
``main(argv)``. Both directions of the control socket carry one JSON object a line::

    {"start": id, "command": [...], "environment": {...}, "directory": path, "output": path}
    {"stop": id, "signal": number}
    {"started": id, "pid": number}
    {"exited": id, "exit_code": number}
    {"failed": id, "reason": text}

A child leads a process group of its own, and what it leaves behind in it is killed when it ends. What has left the
group is, on Linux, adopted by this process, and killed as well. When the control socket closes, every child is killed
and the parent ends.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn, TypedDict

WORKER = ("python", "-m", "cloudknot_worker")
SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT)
ATTEMPT = ("AWS_BATCH_JOB_ID", "AWS_BATCH_JOB_ATTEMPT")
"""The variables that tell whose a process is."""
PR_SET_CHILD_SUBREAPER = 36


class ForkRequest(TypedDict, total=False):
    """A line to the fork server: a task to ``start``, with all that follows, or to ``stop`` with a ``signal``."""

    start: str
    command: list[str]
    environment: dict[str, str]
    directory: str
    output: str
    stop: str
    signal: int


class Message(TypedDict, total=False):
    """A line from the fork server: a task that has ``started``, ``exited`` or ``failed``."""

    started: str
    pid: int
    exited: str
    exit_code: int
    failed: str
    reason: str


class ForkServer:
    """The loop: requests from the control socket, ends of children from SIGCHLD.

    Parameters
    ----------
    control : socket
        A connected stream socket.
    """

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._tasks: dict[int, str] = {}
        self._pids: dict[str, int] = {}
        self._attempts: dict[int, tuple[str, ...] | None] = {}
        self._received = b""
        self._wake, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._wake.setblocking(False)

    def run(self) -> None:
        """Serve until the control socket closes, then kill what is left."""
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            while self._serve_once():
                pass
        finally:
            for pid in self._tasks:
                _signal_group(pid, signal.SIGKILL)
            for pid in self._tasks:
                os.waitpid(pid, 0)
            # Those of a killed one are children then.
            while orphans := _children():
                for pid in orphans:
                    _kill(pid)
                    os.waitpid(pid, 0)

    def _serve_once(self) -> bool:
        ready, _, _ = select.select([self._control, self._woken], [], [])
        if self._woken in ready:
            with contextlib.suppress(BlockingIOError):
                self._woken.recv(4096)
            self._reap()
        return self._control not in ready or self._receive()

    def _receive(self) -> bool:
        try:
            data = self._control.recv(1 << 16)
        except ConnectionError:
            return False
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            self._handle(json.loads(line))
        return bool(data)

    def _handle(self, request: ForkRequest) -> None:
        if "start" in request:
            self._start(request)
        elif request["stop"] in self._pids:
            _signal_group(self._pids[request["stop"]], request["signal"])

    def _start(self, request: ForkRequest) -> None:
        task = request["start"]
        try:
            pid = os.fork()
        except OSError as error:
            self._send({"failed": task, "reason": str(error)})
            return
        if pid == 0:
            self._become(request)
        # The child does this as well; whoever comes first, the group exists before a stop can ask for it.
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        self._tasks[pid], self._pids[task] = task, pid
        self._attempts[pid] = _attempt(request["environment"])
        self._send({"started": task, "pid": pid})

    def _become(self, request: ForkRequest) -> NoReturn:
        """In the child: leave nothing of the parent's but its imports, and run the task."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            for end in (self._control, self._wake, self._woken):
                end.close()
            code = run_task(request)
        except BaseException:
            traceback.print_exc()
        finally:
            _leave(code)

    def _reap(self) -> None:
        ended = False
        for pid, status in _ended_children():
            ended = True
            task = self._tasks.pop(pid, None)
            if task is None:
                continue
            _signal_group(pid, signal.SIGKILL)
            del self._pids[task], self._attempts[pid]
            code = os.waitstatus_to_exitcode(status)
            self._send({"exited": task, "exit_code": code if code >= 0 else 128 - code})
        if ended:
            self._kill_orphans()

    def _kill_orphans(self) -> None:
        """Kill adopted processes of tasks that have ended; one that does not say whose it is, once none runs."""
        orphans = _children() - self._tasks.keys()
        running = set(self._attempts.values()) if orphans else set()
        for pid in orphans:
            attempt = _attempt(_environment(pid))
            if not running or (attempt is not None and attempt not in running):
                _kill(pid)

    def _send(self, message: Message) -> None:
        # The server that is gone shows as a closed socket on the next read.
        with contextlib.suppress(ConnectionError):
            self._control.sendall(json.dumps(message).encode() + b"\n")


def run_task(request: ForkRequest) -> int:
    """Run one task in this process and return its exit code."""
    os.setpgid(0, 0)
    _redirect(request["output"])
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    command = request["command"]
    if tuple(command[: len(WORKER)]) == WORKER:
        return run_worker(command[len(WORKER) :])
    try:
        os.execvp(command[0], command)
    except (OSError, IndexError, ValueError) as error:
        # A shell's codes: 127 when there is no such command, 126 when it cannot be run.
        print(f"{command[:1]}: {error}", file=sys.stderr)
        return 127 if isinstance(error, FileNotFoundError) else 126


def run_worker(arguments: Sequence[str]) -> int:
    """``python -m cloudknot_worker`` without a new interpreter: the same exit codes, the same traceback."""
    from cloudknot_worker.__main__ import main

    sys.argv = ["cloudknot_worker", *arguments]
    try:
        code: object = main(list(arguments))
    except SystemExit as end:
        code = end.code
    if code is None or isinstance(code, int):
        return int(code or 0)
    print(code, file=sys.stderr)
    return 1


def _redirect(path: str) -> None:
    output = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(output)
    os.close(nothing)


def _leave(code: int) -> NoReturn:
    """End as the interpreter does, with threads, atexit functions and buffers, but not freeing what is shared."""
    ends = (threading._shutdown, atexit._run_exitfuncs, sys.stdout.flush, sys.stderr.flush)  # type: ignore[attr-defined]
    for end in ends:
        with contextlib.suppress(BaseException):
            end()
    os._exit(code & 0xFF)


def _adopt_orphans() -> None:
    """Have descendants whose parent has ended become children of this process. Only Linux can."""
    with contextlib.suppress(Exception):
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _children() -> set[int]:
    """The children of this process, adopted ones too; none where the kernel does not list them."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as stream:
            return set(map(int, stream.read().split()))
    except OSError:
        return set()


def _environment(pid: int) -> dict[str, str]:
    """The variables that a process's program was started with; none when it has ended."""
    try:
        with open(f"/proc/{pid}/environ", errors="replace") as stream:
            return dict(entry.split("=", 1) for entry in stream.read().split("\0") if "=" in entry)
    except OSError:
        return {}


def _attempt(environment: Mapping[str, str]) -> tuple[str, ...] | None:
    """The job and attempt that an environment is of, if any."""
    return tuple(environment[name] for name in ATTEMPT) if environment.keys() >= set(ATTEMPT) else None


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def _ended_children() -> Iterator[tuple[int, int]]:
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            yield pid, status


def main(argv: Sequence[str]) -> int:
    directory, descriptor = argv
    control = socket.socket(fileno=int(descriptor))
    # What a job prints is shown while it runs, so a line must not wait for a full buffer.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.path.insert(0, directory)
    from cloudknot_worker.__main__ import warm

    warm()
    _adopt_orphans()
    # The garbage collector must not touch, and so copy, the pages that all children share.
    gc.collect()
    gc.freeze()
    control.sendall(b'{"ready": true}\n')
    ForkServer(control).run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
