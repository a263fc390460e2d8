"""The function that the check maps. It travels by value, and imports the standard library only."""

import json
import os

TOKEN = "cloudknot-selftest"
"""A word in each line of output, for the step that reads the logs."""


def probe(element: "tuple[int, str]") -> int:
    """Return the square of a number, or fail on purpose.

    ``element`` is the number and the behaviour. ``""`` returns the square. ``"fail"`` raises until the element is
    retried. ``"fail once"`` raises in the first attempt of the Batch job.
    """
    number, behaviour = element
    print(f"{TOKEN}: element {number}")
    round_of_run = json.loads(os.environ["CLOUDKNOT_MANIFEST"]).get("round", 0)
    is_first_attempt = os.environ.get("AWS_BATCH_JOB_ATTEMPT") == "1"
    if (behaviour == "fail" and round_of_run == 0) or (behaviour == "fail once" and is_first_attempt):
        raise ValueError(f"element {number} fails on purpose")
    return number * number
