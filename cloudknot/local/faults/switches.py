"""The faults of a running embedded cloud, from the session that owns it: for tests of what must survive them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cloudknot.errors import CloudError
from cloudknot.local.admin import FAULTS_PATH, ask
from cloudknot.local.faults.plan import Faults, Kill
from cloudknot.local.state import read_state

if TYPE_CHECKING:
    from cloudknot.local.cloud import LocalCloud


class FaultSwitches:
    """Switches of the faults of a running cloud, all off until set.

    Parameters
    ----------
    cloud : LocalCloud

    Every method raises `CloudError` when the cloud does not answer, or refuses.
    """

    def __init__(self, cloud: LocalCloud) -> None:
        self._cloud = cloud

    def set(self, faults: Faults) -> None:
        """Have these faults, and no others, from now on; the counts begin at zero."""
        self._ask({"set": faults.to_dict()})

    def off(self) -> None:
        """Have no faults."""
        self.set(Faults())

    @contextmanager
    def on(self, faults: Faults) -> Iterator[FaultSwitches]:
        """Have these faults for a while."""
        self.set(faults)
        try:
            yield self
        finally:
            self.off()

    def injected(self) -> dict[str, int]:
        """How often each fault was injected since they were set last."""
        return dict(self._ask({})["injected"])

    def kill(self, job_id: str, how: str = "host") -> None:
        """Kill the attempt of a job, or of an array's child, that runs now; ``how`` is that of `Kill`."""
        self._ask({"kill": {"job": job_id, "how": Kill(how).how}})

    def forget(self, job_id: str) -> None:
        """Have Batch know a job, and its children, no more. What runs of it goes on."""
        self._ask({"forget": job_id})

    def _ask(self, request: Mapping[str, object]) -> Mapping[str, Mapping[str, int]]:
        state = read_state(self._cloud.directory)
        answer = state and ask(state, "POST", FAULTS_PATH, json.dumps(request).encode())
        if not answer:
            raise CloudError(f"The embedded cloud in {self._cloud.directory} is not there, or refuses {request}.")
        return answer
