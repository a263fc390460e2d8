"""Find a map from another process, by the name of its knot alone, and print its results as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cloudknot.aws.cloud import Cloud, choose_cloud
from cloudknot.knot import Knot

MODULE = "cloudknot.cli.selftest.second_session"
SECONDS = 300
"""Longest duration of the other process."""


class CloudChoice(NamedTuple):
    """The options of the command that choose a cloud. None stands for the settings."""

    cloud: str | None = None
    region: str | None = None
    profile: str | None = None

    def chosen(self) -> Cloud:
        """Return the chosen cloud."""
        if self.region or self.profile:
            return Cloud(self.region, self.profile)
        return choose_cloud(self.cloud)


def results_elsewhere(choice: CloudChoice, knot: str, job_id: str) -> object:
    """Return the results that a new process finds for a job of a knot.

    Raises
    ------
    RuntimeError
        The process failed. The message has the end of its output.
    """
    package = str(Path(__file__).parents[3])
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", MODULE, json.dumps(choice), knot, job_id]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=SECONDS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"The second process ended with exit code {done.returncode}: {done.stderr.strip()}")
    # The last line, because the user's Python may print lines at its start.
    return json.loads(done.stdout.strip().splitlines()[-1])


def main(arguments: Sequence[str]) -> None:
    choice, name, job_id = arguments
    # Nothing but names and ids has come from the first session.
    knot = Knot(name, cloud=CloudChoice(*json.loads(choice)).chosen())
    (job,) = [job for job in knot.jobs if job.job_id == job_id]
    # ASCII, whatever the encoding of this process is.
    print(json.dumps(job.result(SECONDS)))


if __name__ == "__main__":
    main(sys.argv[1:])
