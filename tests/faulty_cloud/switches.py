"""Control of a running embedded cloud's faults, from a session of its owner. It serves tests of fault handling."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cloudknot.errors import CloudError
from cloudknot.local.admin import answers, ask
from cloudknot.local.directory.state import read_state
from tests.faulty_cloud.plan import Faults, Kill
from tests.faulty_cloud.route import FAULTS_PATH

if TYPE_CHECKING:
    from cloudknot.local.session.cloud import LocalCloud

_FIXES = {
    "set": "Correct the attributes of Faults.",
    "kill": "Pass the id of a running job or child job to kill().",
    "forget": "Pass the id of an existing job to forget().",
}
"""The fix for a refused request, by its key."""


class FaultSwitches:
    """The faults of a running embedded cloud, all off until set.

    Every method raises `CloudError` if the cloud does not answer or refuses the request.

    Parameters
    ----------
    cloud : LocalCloud
        The running cloud.
    """

    def __init__(self, cloud: LocalCloud) -> None:
        self._cloud = cloud

    def set(self, faults: Faults) -> None:
        """Replace the current faults, and set all counts to zero."""
        self._ask({"set": faults.to_dict()})

    def off(self) -> None:
        """Switch all faults off."""
        self.set(Faults())

    @contextmanager
    def on(self, faults: Faults) -> Iterator[FaultSwitches]:
        """Set these faults for the duration of the block, then switch all faults off."""
        self.set(faults)
        try:
            yield self
        finally:
            self.off()

    def injected(self) -> dict[str, int]:
        """Return the number of injections of each fault since the last change of faults."""
        return dict(self._ask({})["injected"])

    def ownerless(self) -> dict[str, int]:
        """Return the numbers of requests to S3 that did not name the expected owner of the bucket, by operation."""
        return dict(self._ask({})["ownerless"])

    def is_idle(self) -> bool:
        """Return whether no job is left, and no process of an attempt, even if Batch believes it gone."""
        return not any(self._ask({})["work"].values())

    def kill(self, job_id: str, how: str = "host") -> None:
        """Kill the running attempt of a job or child job. ``how`` is that of `Kill`."""
        self._ask({"kill": {"job": job_id, "how": Kill(how).how}})

    def forget(self, job_id: str) -> None:
        """Remove a job and its child jobs from Batch. Running attempts go on."""
        self._ask({"forget": job_id})

    def _ask(self, request: Mapping[str, object]) -> Mapping[str, Mapping[str, int]]:
        state = read_state(self._cloud.directory)
        answer = state and ask(state, "POST", FAULTS_PATH, json.dumps(request).encode())
        if answer:
            return answer
        if state is None or not answers(state):
            raise CloudError(
                f"The embedded cloud in {self._cloud.directory} does not run. Start it with start() of its LocalCloud."
            )
        fixes = [fix for name, fix in _FIXES.items() if name in request]
        raise CloudError(
            f"The embedded cloud in {self._cloud.directory} refuses the request for faults. "
            f"{fixes[0] if fixes else 'Try again.'}"
        )
