"""The contract between Batch and a job's container: its command, environment variables and exit code."""

from __future__ import annotations

from collections.abc import Mapping

MANIFEST_VARIABLE = "CLOUDKNOT_MANIFEST"
CHILD_VARIABLE = "CLOUDKNOT_CHILD"
# No usual exit code of the user's program may start another attempt. So this code is not 75 (EX_TEMPFAIL), not from 1
# to 127, and not 128 plus a signal number.
TRY_AGAIN = 214
"""Exit code that the job definition's rules answer with another attempt."""
KILLED = 215
"""Exit code of the last of several attempts, if SIGKILL ended the function's process in it."""
COMMAND = ("python", "-m", "cloudknot_worker")


def attempt_number(environment: Mapping[str, str]) -> int:
    """Return the number of this attempt of its job, from 1. Returns 0 outside Batch."""
    return int(environment.get("AWS_BATCH_JOB_ATTEMPT") or 0)


def child_index(environment: Mapping[str, str]) -> int:
    """Return the index of this child in its run, from 0."""
    # Batch sets the first variable for children of an array job, the client the second one for independent jobs.
    return int(environment.get("AWS_BATCH_JOB_ARRAY_INDEX") or environment.get(CHILD_VARIABLE) or 0)
