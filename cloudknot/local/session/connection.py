"""Connection: how a session finds the server of an embedded cloud, starts it, and starts it again after a crash."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from cloudknot.aws.sdk import forks
from cloudknot.aws.sdk.process_limits import CLOUD_TASKS, check_limits
from cloudknot.errors import CloudknotError
from cloudknot.local import admin
from cloudknot.local.directory.claim import check_owner, claim
from cloudknot.local.directory.files import log_file, server_lock, start_lock
from cloudknot.local.directory.full_disk import refuse_full
from cloudknot.local.directory.locks import is_locked, locked
from cloudknot.local.directory.refused_writes import usable
from cloudknot.local.directory.state import REGION, CloudState, read_state, write_state
from cloudknot.local.options import ServerOptions, check_running, local_command, remember, with_last
from cloudknot.local.runners.choice import DEFAULT, RUNNERS
from cloudknot.local.session.launch import ServerProcess, check_installed, check_registry, launch, log_end
from cloudknot.options import streams
from cloudknot.options.variables import check_variables

ANSWER_TIMEOUT = 30.0
"""Seconds for the first answer from a cloud that is starting, stopping or busy."""
POLL_INTERVAL = 0.02
"""Seconds between two checks of a cloud that is starting or stopping."""
MOST_RECOVERIES, RECOVERY_PERIOD = 3, 600.0
"""Times that a session starts a crashed cloud again within this many seconds."""
FIRST_SERVICES = ("cloudformation", "batch", "s3", "sts", "iam", "ec2")
"""The services that a first `Knot` calls. An existing one needs only the first ones."""


class Connection:
    """The connection of a session to the embedded cloud of a directory. Creating the object does no I/O.

    Parameters
    ----------
    directory : Path
        The directory of the cloud's files.
    options : ServerOptions
        The options that the session requested.
    module : str
        The module that runs the server.
    on_move : callable
        Called with the new state when the cloud was started again at another address.
    """

    def __init__(
        self, directory: Path, options: ServerOptions, module: str, on_move: Callable[[CloudState], None]
    ) -> None:
        self._directory, self._options, self._module, self._on_move = directory, options, module, on_move
        self.state: CloudState | None = None
        """The cloud that this session uses; None before its first use."""
        self.started_here = False
        """Whether this session started the cloud, and has not stopped it since."""
        self._recoveries: deque[float] = deque(maxlen=MOST_RECOVERIES)
        # The reason why the last recovery was not possible.
        self._failure = ""
        self._waiting: ServerProcess | None = None
        # Knot creates its image and its stacks in parallel, so two threads may use a new object at the same time.
        self._lock = forks.renewed(threading.Lock())

    @property
    def is_running(self) -> bool:
        """Whether a process of the cloud runs, even if it does not answer."""
        # The process holds this lock for its lifetime, and the kernel frees the lock when it dies.
        return is_locked(server_lock(self._directory))

    @contextlib.contextmanager
    def expected(self) -> Iterator[None]:
        """Have a server process make its imports during the block, unless the cloud runs. It creates nothing."""
        with self._lock, contextlib.suppress(OSError):
            if self.state is None and self._waiting is None and not self.is_running:
                self._waiting = ServerProcess(self._module)
        try:
            yield
        except BaseException:
            self._dismiss()
            raise

    def _dismiss(self) -> None:
        """End a server process that waits."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.dismiss()

    def running(self) -> CloudState:
        """Return the cloud of this session. At the first use, find it or start it."""
        with self._lock:
            if self.state is None:
                self.state = self._find_or_start()
            return self.state

    def renew(self) -> bool:
        """Find or start the cloud of the directory. Return whether it is another one than this session used before."""
        with self._lock:
            former, self.state = self.state, self._find_or_start()
            if former is None or former.is_same(self.state):
                self._notice_move(former)
                return False
            return True

    def find(self) -> CloudState | None:
        """Return the running cloud of the directory, or None. Wait for one that is starting or stopping."""
        state, deadline = None, time.monotonic() + ANSWER_TIMEOUT
        while self.is_running:
            state = read_state(self._directory)
            if time.monotonic() > deadline or (state is not None and admin.answers(state)):
                if state is not None:
                    check_running(self._directory, self._options, state)
                return state
            time.sleep(POLL_INTERVAL)
        return None

    def _find_or_start(self) -> CloudState:
        check_variables()
        try:
            with usable(self._directory):
                check_owner(self._directory)
                return self.find() or self._start()
        finally:
            # Another session was faster, or the start was refused.
            self._dismiss()

    def _start(self) -> CloudState:
        options = with_last(self._options, self._directory)
        # Checked before the start: of a server that fails to start, only the end of its log is known.
        check_installed()
        check_limits(CLOUD_TASKS)
        RUNNERS[options.runner or DEFAULT].check()
        if options.registry:
            check_registry(options.registry)
        # A server on a full disk could not even write its log.
        refuse_full(self._directory)
        claim(self._directory)
        # Two sessions may start a cloud at the same time. The second one finds the cloud of the first.
        with locked(start_lock(self._directory)):
            running = self.find()
            if running is not None:
                return running
            # This process has nothing else to do until the server answers.
            is_ready = threading.Event()
            threading.Thread(target=import_ahead, args=(is_ready,), name="cloudknot-imports", daemon=True).start()
            # A server keeps the variables of its start.
            if self._waiting is not None and not self._waiting.is_current:
                self._dismiss()
            waiting, self._waiting = self._waiting, None
            try:
                state = launch(self._directory, options, self._module, waiting)
            finally:
                is_ready.set()
            remember(options, self._directory)
        self.started_here = True
        return state

    def recover(self) -> bool:
        """Return whether a cloud that does not answer may answer later. Start it again if it has crashed."""
        with self._lock:
            if self.state is None or not self._directory.is_dir():
                return False
            # A server removes this file when it is stopped. A crash leaves it.
            left = read_state(self._directory)
            if self.is_running:
                # A cloud that is starting writes its state a moment later.
                return left is None or self._adopt(left)
            return left is not None and left.is_same(self.state) and self._restart(left)

    def _adopt(self, state: CloudState) -> bool:
        """Go on with a cloud that was started again. Return False if it is another cloud in the same directory."""
        assert self.state is not None
        if not state.is_same(self.state):
            return False
        former, self.state = self.state, state
        self._notice_move(former)
        return True

    def _notice_move(self, former: CloudState | None) -> None:
        # A restarted cloud has its former port, unless another program has taken it.
        if former and self.state and former.endpoint != self.state.endpoint:
            self._on_move(self.state)

    @property
    def may_recover(self) -> bool:
        """Whether `recover` could start the cloud again."""
        left = read_state(self._directory) if self.state else None
        return left is not None and self.state is not None and left.is_same(self.state) and self._has_tries

    @property
    def _has_tries(self) -> bool:
        return len(self._recoveries) < MOST_RECOVERIES or time.monotonic() - self._recoveries[0] > RECOVERY_PERIOD

    def _restart(self, left: CloudState) -> bool:
        was_started_here, state = self.started_here, None
        while state is None and self._has_tries:
            self._recoveries.append(time.monotonic())
            try:
                state = self._start()
            except (CloudknotError, OSError) as error:
                self._failure = str(error)
                # The start has deleted it. Without it, the cloud would look like one that was stopped.
                if not self.is_running:
                    write_state(self._directory, left)
        if state is None:
            return False
        # Other sessions may use a cloud that this one has only found.
        self.started_here, self._failure = was_started_here, ""
        streams.logger.warning(
            "The embedded cloud in %s ended unexpectedly. This session started it again. Its results are kept, and "
            "jobs that ran are retried.",
            self._directory,
        )
        return self._adopt(state)

    def explain_silence(self) -> str:
        """Return cause and fix for a cloud that does not answer."""
        state, left = self.state, read_state(self._directory)
        start = f"`{local_command('start', self._directory)}`"
        if state is None or not log_file(self._directory).exists() or (left and not left.is_same(state)):
            return (
                f"The directory {self._directory} was deleted while its embedded cloud ran, so its knots and results "
                "are gone. Create the Knot again. If its cloud is a LocalCloud object, call start() of that object "
                "first."
            )
        if self.is_running:
            return (
                f"The embedded cloud at {state.endpoint} does not answer, but its process {(left or state).pid} still "
                f"runs. Call again, or end the cloud with `{local_command('stop', self._directory)}`."
            )
        if left is None:
            return (
                f"The embedded cloud in {self._directory} has stopped. Its knots and results are kept. "
                f"Start it with {start}, then call again."
            )
        if self._failure:
            return f"The embedded cloud in {self._directory} ended unexpectedly, and does not start: {self._failure}"
        return (
            f"The embedded cloud in {self._directory} ended unexpectedly {MOST_RECOVERIES} times within "
            f"{RECOVERY_PERIOD / 60:.0f} minutes, so this session does not start it again. Its knots and results are "
            f"kept. Correct the problem that the end of its log shows, start it with {start}, then call again. "
            f"{log_end(self._directory)}"
        )


def import_ahead(is_ready: threading.Event) -> None:
    """Import what the first calls to a cloud need: botocore, and its descriptions of services. Call nothing.

    Ends early when ``is_ready`` is set, since the session then has work of its own.
    """
    from importlib import import_module

    from cloudknot.aws.door import Door

    import_module("cloudknot.local.runners.images.store")
    # A door of its own, since the server has no address yet. All doors share the descriptions.
    arguments = {"region_name": REGION, "aws_access_key_id": "none", "aws_secret_access_key": "none"}
    door = Door(arguments, "http://127.0.0.1", isolated=True)
    for service in FIRST_SERVICES:
        if not is_ready.is_set():
            door.client(service)
