"""The fork server of one image and role: a process that has imported the worker and forks a child for each task.

`fork_server_client` launches it with the image's own Python:
``python fork_server.py <image directory> <file descriptor of the control socket> <imports as JSON>``. It makes these
imports before the first fork, if no job can notice the difference.

It may import the standard library only, and ``cloudknot_worker.__main__`` of the image, with its functions ``warm()``,
``warm_further()``, ``prepare(argv, environment)``, ``shared_requests()`` and ``main(argv)``. The control socket
carries one JSON object on each line. Requests to the fork server::

    {"start": id, "command": [...], "environment": {...}, "directory": path, "output": path}
    {"stop": id, "signal": number}

Messages from the fork server::

    {"started": id, "pid": number}
    {"exited": id, "exit_code": number}
    {"failed": id, "reason": text}

When the control socket closes, the fork server kills all its children and ends.
"""

# A fresh Python needs 0.3 to 0.4 s until it has a client of boto3. A fork of a process with these imports needs
# milliseconds. It still is a process: it can exit, crash or leak without harm to other tasks.

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import mmap
import os
import random
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, Protocol, TypedDict

WORKER = ("python", "-m", "cloudknot_worker")
SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT)
ATTEMPT = ("AWS_BATCH_JOB_ID", "AWS_BATCH_JOB_ATTEMPT")
"""The variables that identify the attempt of a process."""
imported_variables: dict[str, str] = {}
"""The variables that imports have set before the first fork."""
PR_SET_CHILD_SUBREAPER = 36
"""From Linux's ``sys/prctl.h``."""


class ForkRequest(TypedDict, total=False):
    """A request to the fork server: ``start`` a task with the next four keys, or ``stop`` one with a ``signal``."""

    start: str
    command: list[str]
    environment: dict[str, str]
    directory: str
    output: str
    stop: str
    signal: int


class Message(TypedDict, total=False):
    """A message from the fork server: a task ``started``, ``exited`` or ``failed`` to start."""

    started: str
    pid: int
    exited: str
    exit_code: int
    failed: str
    reason: str


class SharedRequests(Protocol):
    """Requests to S3 that lend their connections, one to each child."""

    def lend(self) -> Any: ...
    def adopt(self, connection: Any, /) -> None: ...
    def is_idle(self, connection: Any, /) -> bool: ...
    def take_back(self, connection: Any, /) -> None: ...


class ForkServer:
    """The main loop. It reads requests from the control socket, and the ends of children from SIGCHLD.

    Parameters
    ----------
    control : socket
        A connected stream socket.
    prepare : callable
        Reads what several tasks need, before a task with some arguments and variables is forked.
    requests : SharedRequests, optional
        Lends each task of the worker a connection to S3.
    """

    def __init__(
        self,
        control: socket.socket,
        prepare: Callable[[Sequence[str], Mapping[str, str]], None],
        requests: SharedRequests | None = None,
    ) -> None:
        self._control, self._prepare, self._requests = control, prepare, requests
        self._lent: dict[int, Any] = {}
        # A byte for each lent connection, which a child sets if no answer can arrive on it any more.
        self._returned = mmap.mmap(-1, mmap.PAGESIZE)
        self._variables: dict[str, str] | None = None
        self._tasks: dict[int, str] = {}
        self._pids: dict[str, int] = {}
        self._attempts: dict[int, tuple[str, ...] | None] = {}
        self._received = b""
        self._wake, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._wake.setblocking(False)

    def run(self) -> None:
        """Serve until the control socket closes, then kill all remaining processes."""
        # SIGCHLD writes to a socket that the loop selects on, so no end of a child is missed between two calls.
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        # A signal without a handler does not write to the socket.
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
            # The children of a killed process become children of this one, so one pass is not enough.
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
        # The last piece is an incomplete request, or empty.
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
        task, connection = request["start"], None
        # Each child makes these preparations itself if they fail here, and its log has the reason.
        with contextlib.suppress(Exception):
            self._set_variables(request["environment"])
            if is_worker(request["command"]):
                self._prepare(request["command"][len(WORKER) :], request["environment"])
                connection = self._lend()
        try:
            pid = os.fork()
        except OSError as error:
            if connection is not None:
                connection.close()
            self._send({"failed": task, "reason": str(error)})
            return
        if pid == 0:
            self._run_in_child(request, connection)
        if connection is not None:
            self._lent[pid] = connection
        # The child does the same. Whichever comes first, the group exists before a request to stop arrives.
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        self._tasks[pid], self._pids[task] = task, pid
        self._attempts[pid] = _attempt(request["environment"])
        self._send({"started": task, "pid": pid})

    def _set_variables(self, variables: dict[str, str]) -> None:
        """Give this process, and so its next child, the environment variables of a task."""
        # A few of many variables change from task to task. A child would copy a shared page for each of them.
        variables = {**imported_variables, **variables}
        known, self._variables = self._variables, None
        if known is None:
            set_environment(variables)
        elif known != variables:
            for name in known.keys() - variables.keys():
                os.environ.pop(name, None)
            os.environ.update({name: value for name, value in variables.items() if known.get(name) != value})
            set_zone(known.get("TZ"))
        self._variables = variables

    def _lend(self) -> Any:
        """Return a connection for the next child, or None."""
        connection = self._requests.lend() if self._requests else None
        if connection is None:
            return None
        if connection.sock.fileno() >= len(self._returned):
            connection.close()
            return None
        self._returned[connection.sock.fileno()] = 0
        return connection

    def _take_back(self, connection: Any) -> None:
        """Keep the connection of an ended child for another one, unless the answer to a request may still arrive."""
        # An exit code does not show that: the function may have ended its process while a thread stored a result.
        if self._requests is not None and self._returned[connection.sock.fileno()]:
            self._requests.take_back(connection)
        else:
            connection.close()

    def _run_in_child(self, request: ForkRequest, connection: Any) -> NoReturn:
        """Run the task in the forked child, after the signal handlers and sockets of the fork server are gone."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            for end in (self._control, self._wake, self._woken):
                end.close()
            # Those of other children.
            for other in self._lent.values():
                other.close()
            has_environment = self._variables is not None
            if connection is None or self._requests is None:
                code = run_task(request, has_environment=has_environment)
            else:
                place = connection.sock.fileno()
                self._requests.adopt(connection)
                code = run_task(request, has_environment=has_environment)
                self._returned[place] = self._requests.is_idle(connection)
        except BaseException:
            traceback.print_exc()
        finally:
            _leave(code)

    def _reap(self) -> None:
        ended = False
        for pid, status in _ended_children():
            ended = True
            task = self._tasks.pop(pid, None)
            # An adopted process of a task, not the task itself.
            if task is None:
                continue
            # As a container does, a task takes all its processes with it when it ends.
            _signal_group(pid, signal.SIGKILL)
            del self._pids[task], self._attempts[pid]
            code = os.waitstatus_to_exitcode(status)
            if pid in self._lent:
                self._take_back(self._lent.pop(pid))
            # A negative code is a signal. Docker and ECS report it as 128 plus its number.
            self._send({"exited": task, "exit_code": code if code >= 0 else 128 - code})
        if ended:
            self._kill_orphans()

    def _kill_orphans(self) -> None:
        """Kill the adopted processes of ended tasks.

        A process without the variables of its attempt is killed when no task runs.
        """
        # A daemon leaves its process group, and so escapes the kill of the group. On Linux it then becomes a child of
        # the fork server, and is found here.
        orphans = _children() - self._tasks.keys()
        running = set(self._attempts.values()) if orphans else set()
        for pid in orphans:
            attempt = _attempt(_environment(pid))
            if not running or (attempt is not None and attempt not in running):
                _kill(pid)

    def _send(self, message: Message) -> None:
        # If the embedded cloud has ended, the next read finds a closed socket and ends the loop.
        with contextlib.suppress(ConnectionError):
            self._control.sendall(json.dumps(message).encode() + b"\n")


def is_worker(command: Sequence[str]) -> bool:
    """Return whether a command starts cloudknot's worker."""
    return tuple(command[: len(WORKER)]) == WORKER


def run_task(request: ForkRequest, *, has_environment: bool = False) -> int:
    """Run one task in this process and return its exit code. Its environment may be set already."""
    os.setpgid(0, 0)
    _redirect(request["output"])
    os.chdir(request["directory"])
    if not has_environment:
        set_environment({**imported_variables, **request["environment"]})
    command = request["command"]
    if is_worker(command):
        return run_worker(command[len(WORKER) :])
    try:
        os.execvp(command[0], command)
    except (OSError, IndexError, ValueError) as error:
        # The codes of a shell: 127 for a missing command, 126 for one that cannot be executed.
        print(f"{command[:1]}: {error}", file=sys.stderr)
        return 127 if isinstance(error, FileNotFoundError) else 126


def run_worker(arguments: Sequence[str]) -> int:
    """Run ``python -m cloudknot_worker`` in this process, and return the exit code that a new interpreter would have.

    Exceptions pass through: the caller prints the same traceback.
    """
    from cloudknot_worker.__main__ import main

    _reseed()
    sys.argv = ["cloudknot_worker", *arguments]
    try:
        code: object = main(list(arguments))
    except SystemExit as end:
        code = end.code
    # The interpreter's rules for sys.exit: None is 0, and any other object is printed and becomes 1.
    if code is None or isinstance(code, int):
        return int(code or 0)
    print(code, file=sys.stderr)
    return 1


def set_environment(variables: Mapping[str, str]) -> None:
    """Give this process exactly these environment variables."""
    zone = os.environ.get("TZ")
    # Nothing of the server's environment may leak into a job. Most variables are the same, and setting one copies
    # memory that the child shares with the fork server.
    for name in os.environ.keys() - variables.keys():
        del os.environ[name]
    for name, value in variables.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
    set_zone(zone)


def set_zone(former: str | None) -> None:
    """Make the C library read the time zone, which it reads only once by itself, if the variable has changed."""
    if os.environ.get("TZ") != former:
        time.tzset()


def _reseed() -> None:
    """Give this process random numbers of its own, as a new interpreter has."""
    # Python does so for its module random. Without this line, all jobs would draw the same numbers from numpy.
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()


def preload(imports: Mapping[str, Sequence[str]], modules: str) -> str:
    """Import packages for all children. Return the reason why a job could notice that, empty without one.

    Parameters
    ----------
    imports : mapping
        Names that are imported from modules, by the module.
    modules : str
        The directory of the user's own modules, which jobs find before installed ones.
    """
    # Linux shows threads and open files in /proc. The forks of other systems are not safe with numpy's libraries.
    if not imports or sys.platform != "linux":
        return ""
    try:
        with contextlib.suppress(ModuleNotFoundError):
            __import__("numpy.random")
        before, variables = _visible_state(), set(os.environ)
        for module, names in imports.items():
            __import__(module, fromlist=list(names))
    except BaseException as error:
        # The job raises this error again, and its log has the traceback.
        return f"an import failed: {error!r}"
    imported_variables.update((name, value) for name, value in os.environ.items() if name not in variables)
    for name in imported_variables:
        del os.environ[name]
    after = _visible_state()
    changes = [name for name in before if before[name] != after[name]]
    if changes:
        return f"an import changed the {changes[0]}"
    if _threads_of_children():
        return "an import started a thread"
    if _has_random_state():
        return "an import made a generator of random numbers"
    own = {name.partition(".")[0] for name in os.listdir(modules)} if os.path.isdir(modules) else set()
    shadowed = own & {name.partition(".")[0] for name in sys.modules}
    return f"a module of the user has the name {shadowed.pop()}" if shadowed else ""


def _visible_state() -> dict[str, object]:
    """Return the state of this process that an import can change, and that children inherit or lose."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    numpy_random = sys.modules.get("numpy.random")
    handles = [number for number in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{number}")]
    return {
        "open files": handles,
        "environment variables": dict(os.environ),
        "working directory": os.getcwd(),
        "signal handlers": [signal.getsignal(number) for number in signal.valid_signals()],
        "output": os.fstat(1).st_size + os.fstat(2).st_size,
        "random numbers": random.getstate(),
        "random numbers of numpy": numpy_random and repr(numpy_random.get_state(legacy=False)),
    }


def _threads_of_children() -> bool:
    """Return whether this process has threads besides the main one, which its children would lack."""
    # A library that is made for a fork, such as OpenBLAS, ends its threads before it, and starts them when needed.
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return len(os.listdir("/proc/self/task")) > 1


def _has_random_state() -> bool:
    """Return whether an object generates random numbers, and children would share its state."""
    objects = gc.get_objects()
    kinds: tuple[type, ...] = (random.Random,)
    # Python itself renews these after a fork: the generators of the modules random and tempfile.
    renewed: list[object] = [random._inst]
    renewed += [getattr(value, "_rng", None) for value in objects if type(value).__name__ == "_RandomNameSequence"]
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        kinds += (numpy_random.Generator, numpy_random.RandomState, numpy_random.BitGenerator)
        # `_reseed` renews these.
        renewed += [numpy_random.mtrand._rand, numpy_random.mtrand._rand._bit_generator]
    safe = {id(value) for value in renewed}
    # The type itself, because some objects pretend to have another class. A SystemRandom has no state.
    types = ((id(value), type(value)) for value in objects)
    generators = (key for key, kind in types if issubclass(kind, kinds) and not issubclass(kind, random.SystemRandom))
    return any(key not in safe for key in generators)


def _redirect(path: str) -> None:
    output = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(output)
    os.close(nothing)


def _leave(code: int) -> NoReturn:
    """Wait for threads, run atexit functions, flush the buffers, and end the process."""
    steps = [atexit._run_exitfuncs, sys.stdout.flush, sys.stderr.flush]
    # Without another thread there is nothing to wait for, and the wait would copy many shared pages.
    if threading.active_count() > 1:
        steps.insert(0, threading._shutdown)  # type: ignore[attr-defined]
    for step in steps:
        with contextlib.suppress(BaseException):
            step()
    # sys.exit would also free all objects, and so copy every page that the child shares with the fork server.
    os._exit(code & 0xFF)


def _adopt_orphans() -> None:
    """Become the parent of all descendants whose own parent has ended. Works on Linux only."""
    with contextlib.suppress(Exception):
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _children() -> set[int]:
    """Return the children of this process, adopted ones included. Empty if the kernel does not list them."""
    try:
        # Without the layers of a file object, since this is read after each task.
        descriptor = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY)
    except OSError:
        return set()
    try:
        return set(map(int, b"".join(iter(lambda: os.read(descriptor, 1 << 16), b"")).split()))
    except OSError:
        return set()
    finally:
        os.close(descriptor)


def _environment(pid: int) -> dict[str, str]:
    """Return the initial environment of a process. Empty for an ended process."""
    try:
        with open(f"/proc/{pid}/environ", errors="replace", encoding="utf-8") as stream:
            return dict(entry.split("=", 1) for entry in stream.read().split("\0") if "=" in entry)
    except OSError:
        return {}


def _attempt(environment: Mapping[str, str]) -> tuple[str, ...] | None:
    """Return the job and attempt in an environment, or None."""
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
    """Import the worker, report readiness, and serve until the control socket closes."""
    directory, descriptor, imports = argv
    control = socket.socket(fileno=int(descriptor))
    # The output of a job is visible while it runs, so a line must not wait for a full buffer.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.path.insert(0, directory)
    from cloudknot_worker import __main__ as worker

    worker.warm()
    reason = preload(json.loads(imports), os.path.join(directory, "program", "modules"))
    if reason:
        print(f"Every job makes its own imports, because {reason}.", flush=True)
        # An import cannot be undone, so this program starts again without them.
        os.execv(sys.executable, [sys.executable, "-I", "-X", "utf8", __file__, directory, descriptor, "{}"])
    if sys.platform == "linux":
        # The worker of an image that an earlier cloudknot made has no such step.
        getattr(worker, "warm_further", lambda: None)()
    _adopt_orphans()
    # A garbage collection in a child would write to the shared pages, and so copy them. Frozen objects are left out.
    gc.collect()
    gc.freeze()
    control.sendall(b'{"ready": true}\n')
    # The worker of an image that an earlier cloudknot made prepares nothing.
    prepare = getattr(worker, "prepare", lambda arguments, environment: None)
    # The worker of an earlier cloudknot lends no connections.
    ForkServer(control, prepare, getattr(worker, "shared_requests", lambda: None)()).run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
