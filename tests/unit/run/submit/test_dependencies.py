"""What the jobs of a map of another map's results wait for."""

from dataclasses import dataclass, field
from types import SimpleNamespace

from cloudknot.run.submit.dependencies import Source, waits_of


@dataclass
class IndependentJob:
    """A map of independent jobs, of which the second was never submitted and the third has ended."""

    job_ids: list = field(default_factory=lambda: ["a", "c", "d"])
    retried: bool = False
    manifest: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(job_type="independent"))
    rounds: SimpleNamespace = field(
        default_factory=lambda: SimpleNamespace(newest=SimpleNamespace(job_ids=["a", None, "c", "d"]))
    )

    def live_job_ids(self):
        return ["a", "d"]


def test_each_independent_job_waits_for_its_own():
    waits = waits_of(["other"], Source(IndependentJob()), SimpleNamespace(job_type="independent"))
    common = {"jobId": "other"}
    assert [waits.of(child) for child in range(4)] == [
        [common, {"jobId": "a"}],
        [common],
        [common],
        [common, {"jobId": "d"}],
    ]
