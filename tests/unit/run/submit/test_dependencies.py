"""What the jobs of a map of another map's results wait for."""

from types import SimpleNamespace

from cloudknot.run.submit.dependencies import Source, dependencies_of


def independent_jobs():
    """A map of independent jobs, of which the second was never submitted and the third has ended."""
    newest = SimpleNamespace(job_ids=["a", None, "c", "d"])
    manifest = SimpleNamespace(job_type="independent")
    run = SimpleNamespace(manifest=manifest, retried=False, rounds=SimpleNamespace(newest=newest))
    return Source(run, lambda: ["a", "d"])


def test_each_independent_job_waits_for_its_own():
    waits = dependencies_of(["other"], independent_jobs(), SimpleNamespace(job_type="independent"))
    common = {"jobId": "other"}
    assert [waits.of(child) for child in range(4)] == [
        [common, {"jobId": "a"}],
        [common],
        [common],
        [common, {"jobId": "d"}],
    ]
