"""Give this process the traits of Python on Windows: no POSIX modules, functions or signals, and its platform name.

Run with ``python -c "import tests.integration.sessions.platforms.as_windows; ..."``. Paths stay those of this machine.
"""

import contextlib
import importlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from importlib.abc import MetaPathFinder

MISSING = ("fcntl", "grp", "pwd", "readline", "resource", "termios", "tty", "pty", "syslog", "posix")
"""Modules that Windows does not have."""
OF_OS = (
    "chown chroot confstr ctermid fchown fdatasync fork forkpty fpathconf fstatvfs getegid geteuid getgid getgroups "
    "getloadavg getpgid getpgrp getpriority getresgid getresuid getsid getuid initgroups killpg lchown lockf mkfifo "
    "mknod nice openpty pathconf pipe2 posix_fadvise posix_fallocate posix_spawn posix_spawnp pread preadv pwrite "
    "pwritev readv register_at_fork sched_getaffinity sched_setaffinity sched_yield sendfile setegid seteuid setgid "
    "setgroups setpgid setpriority setregid setreuid setsid setuid statvfs sync sysconf tcgetpgrp tcsetpgrp ttyname "
    "uname wait wait3 wait4 waitid writev pidfd_open WNOHANG WUNTRACED WIFEXITED WEXITSTATUS O_NOFOLLOW O_DIRECTORY "
    "O_CLOEXEC O_NONBLOCK EX_OK"
)
OF_SIGNAL = (
    "SIGALRM SIGCHLD SIGCLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGUSR1 SIGUSR2 SIGWINCH alarm "
    "pause pthread_kill pthread_sigmask setitimer getitimer siginterrupt sigpending sigwait sigwaitinfo sigtimedwait"
)
LIBRARIES = (
    *("asyncio", "multiprocessing.reduction", "subprocess", "tempfile", "shutil", "getpass", "webbrowser", "pydoc"),
    *("concurrent.futures.thread", "concurrent.futures.process", "logging", "random", "http.client", "ssl", "zipfile"),
    *("boto3", "botocore.httpsession", "botocore.credentials", "s3transfer.manager", "docker", "docker.context"),
    *("click", "click._termui_impl", "tqdm", "tqdm.auto", "filelock", "cloudpickle", "yaml", "packaging.tags"),
    *("requests", "pipreqs.pipreqs", "tarfile", "importlib.resources", "IPython.display", "uv"),
)
"""Libraries that look at the platform when they are imported. They keep what they found here."""


class _Missing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


def become_windows():
    """Take away everything that Windows does not have."""
    for name in LIBRARIES:
        # Some of them are optional.
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)
    for name in MISSING:
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, _Missing())
    removed = {
        os: OF_OS,
        signal: OF_SIGNAL,
        socket: "AF_UNIX send_fds MSG_DONTWAIT",
        select: "poll epoll",
        time: "tzset",
    }
    for module, names in removed.items():
        for name in names.split():
            vars(module).pop(name, None)
    # This machine's own way to start a program must go on to work.
    subprocess._USE_POSIX_SPAWN = False
    sys.platform = "win32"


become_windows()
