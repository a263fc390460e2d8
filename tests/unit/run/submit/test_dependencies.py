"""Dependencies of a map over another map's results, with a source made without a cloud."""

from types import SimpleNamespace

from cloudknot.run.submit.dependencies import Source, dependencies_of


def independent_jobs():
    """Return a map of four independent jobs: the second was never submitted, the third has ended."""
    newest = SimpleNamespace(job_ids=["a", None, "c", "d"])
    manifest = SimpleNamespace(job_type="independent")
    run = SimpleNamespace(manifest=manifest, retried=False, rounds=SimpleNamespace(newest=newest))
    return Source(run, lambda: ["a", "d"])


def test_independent_job_waits_for_live_job_of_its_element():
    waits = dependencies_of(["other"], independent_jobs(), SimpleNamespace(job_type="independent"))
    common = {"jobId": "other"}
    assert [waits.of(child) for child in range(4)] == [
        [common, {"jobId": "a"}],
        [common],
        [common],
        [common, {"jobId": "d"}],
    ]
