"""What a job's container is started with: its command, its variables and its exit code for another attempt."""

from __future__ import annotations

from collections.abc import Mapping

MANIFEST_VARIABLE = "CLOUDKNOT_MANIFEST"
CHILD_VARIABLE = "CLOUDKNOT_CHILD"
TRY_AGAIN = 214
"""Exit code that asks Batch for another attempt; one that programs do not use, as they do 75, 1 to 127 or 128 and a
signal."""
COMMAND = ("python", "-m", "cloudknot_worker")


def attempt_number(environment: Mapping[str, str]) -> int:
    """Which attempt of its job a process is, from 1; 0 outside Batch."""
    return int(environment.get("AWS_BATCH_JOB_ATTEMPT") or 0)


def child_index(environment: Mapping[str, str]) -> int:
    """Which child of its run a process is, from the variables that Batch sets."""
    return int(environment.get("AWS_BATCH_JOB_ARRAY_INDEX") or environment.get(CHILD_VARIABLE) or 0)
