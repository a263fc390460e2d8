"""The report of a check: its data, without anything that identifies an account or a person, and its two formats."""

from __future__ import annotations

import getpass
import json
import platform
import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cloudknot.cli.selftest.inventory import Row

PASSED, FAILED, SKIPPED, INTERRUPTED = "passed", "FAILED", "skipped", "INTERRUPTED"
PACKAGES = ("boto3", "botocore", "cloudpickle", "click")
# IAM user guide, "IAM identifiers": the first letters of ids of keys, users, roles, ...
_IDENTIFIERS = (
    (re.compile(r"\b(A3T[A-Z0-9]|AKIA|ASIA|AIDA|AROA|AGPA|AIPA|ANPA|ABIA|ACCA)[A-Z0-9]{12,}"), "<id>"),
    (re.compile(r"(?i)(X-Amz-(Signature|Security-Token|Credential)=)[^&\s'\"]+"), r"\1<hidden>"),
    (re.compile(r"(:(?:user|assumed-role|federated-user)/)[^\s'\"]+"), r"\1<name>"),
    (re.compile(r"(?<!\d)\d{12}(?!\d)"), "<account>"),
)


@dataclass(frozen=True)
class StepResult:
    """One step of a check."""

    title: str
    result: str
    seconds: float
    detail: str = ""


@dataclass
class Report:
    """The result of a check."""

    cloud: str
    """``AWS`` or another kind of cloud."""
    region: str
    started: str
    versions: Mapping[str, str]
    cost: str
    steps: list[StepResult] = field(default_factory=list)
    inventory: list[Row] = field(default_factory=list)
    first_error: str = ""
    """The traceback of the first step that failed."""
    interrupted: bool = False
    """Whether a signal ended the check early, in a step or between two."""
    left: list[str] = field(default_factory=list)
    """Resources of the check that still exist."""

    @property
    def ok(self) -> bool:
        return (
            not self.left
            and not self.interrupted
            and bool(self.steps)
            and all(step.result == PASSED for step in self.steps)
        )

    def text(self, hide: Hide, as_json: bool) -> str:
        """Return the report as JSON or Markdown, with all identifiers hidden."""
        return hide(json.dumps({"ok": self.ok, **asdict(self)}, indent=1) if as_json else self._markdown()) + "\n"

    def _markdown(self) -> str:
        facts = [f"cloud: {self.cloud}", f"region: {self.region}", f"started: {self.started}"]
        facts += [f"{name}: {number}" for name, number in self.versions.items()]
        steps = [(step.title, step.result, f"{step.seconds:.1f}", step.detail) for step in self.steps]
        rows = [
            (row.kind, _number(row.before), _number(row.after), ", ".join(row.left) or "none", str(row.others_gone))
            for row in self.inventory
        ]
        parts = [
            f"# cloudknot selftest: {'passed' if self.ok else 'NOT passed'}",
            "\n".join(f"- {fact}" for fact in [*facts, f"cost: {self.cost}"]),
            "## Steps",
            _table(("step", "result", "seconds", "detail"), steps),
            "## Resources in the region before and after",
            _table(("kind", "before", "after", "left by the check", "others gone"), rows) if rows else "Not compared.",
        ]
        if self.interrupted:
            parts.insert(1, "A signal (Ctrl-C, for example) ended the check early.")
        if self.left:
            parts.append("Left by the check:\n\n" + "\n".join(f"- {name}" for name in self.left))
        if self.first_error:
            parts += ["## First error", f"```text\n{self.first_error.rstrip()}\n```"]
        return "\n\n".join(parts)


def _number(count: int) -> str:
    return "not readable" if count < 0 else str(count)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines
    )


def versions(cloudknot: str) -> dict[str, str]:
    """Return the versions of cloudknot, of Python, of the operating system and of the packages that matter."""
    found = {
        "cloudknot": cloudknot,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    for name in PACKAGES:
        # A source tree on the path has no metadata.
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


class Hide:
    """Replace account numbers, keys, names of people and of this machine in a text.

    Parameters
    ----------
    names : mapping of str to str
        Further texts, with their replacements: the profile and the bucket of the settings.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        words = {socket.gethostname(): "<host>", **names}
        # getpass finds no name in a container whose user id has no entry in /etc/passwd.
        with suppress(KeyError, OSError, ImportError):
            words[getpass.getuser()] = "<user>"
        # "root" and "default" name nobody, and occur in messages.
        self._words = {word: shown for word, shown in words.items() if len(word) > 2 and word not in _COMMON}

    def __call__(self, text: str) -> str:
        with suppress(RuntimeError):
            text = text.replace(str(Path.home()), "~")
        for pattern, shown in _IDENTIFIERS:
            text = pattern.sub(shown, text)
        for word, shown in self._words.items():
            text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])", shown, text)
        return text


_COMMON = {"root", "default", "localhost", "cloudknot"}
