"""The chunksize of a retry, from rounds made without a cloud."""

import pytest

from cloudknot.run.jobs.retries.retry import chunk_after_death, chunk_of_retry
from cloudknot.run.submit.rounds import Round, Rounds, round_manifest
from cloudknot.run.submit.submit_job import CHUNKSIZE_WAS_DEFAULT, Submission
from cloudknot.worker.wire.keys import RunKeys
from cloudknot.worker.wire.manifest import Manifest


def rounds(chunksize, was_default=None, retried=None):
    """Return the round of a map of 100,000 elements and, for ``retried``, a retry of 10 with that chunksize."""
    manifest = Manifest(100_000, chunksize, knot="k", run_id="r", created="", image="", function="f")
    about = {} if was_default is None else {CHUNKSIZE_WAS_DEFAULT: was_default}
    first = Round(Submission(RunKeys("b", "p/k/r"), manifest), range(100_000), 0, {}, about)
    if retried is None:
        return Rounds([first])
    later = Submission(RunKeys("b", "p/k/r"), round_manifest(manifest, 1, 10, retried, None), 1)
    return Rounds([first, Round(later, range(10), first.children, {}, {})])


@pytest.mark.parametrize(
    ("earlier", "count", "wanted", "expected"),
    [
        (rounds(100, True), 7, None, 1),
        (rounds(100, True), 1000, None, 1),
        (rounds(100, True), 1001, None, 2),
        (rounds(100, True), 100_000, None, 100),
        (rounds(100, True), 7, 50, 50),
        (rounds(100, False), 7, None, 100),
        (rounds(100), 7, None, 100),
        (rounds(100, False), 7, 300, 100),
        (rounds(10), 100_000, 1, 10),
        (rounds(100, False, retried=1), 7, None, 1),
        (rounds(100, False, retried=1), 7, 20, 20),
    ],
)
def test_retry_keeps_chosen_chunksize_and_reduces_default(earlier, count, wanted, expected):
    assert chunk_of_retry(earlier, count, wanted) == expected


@pytest.mark.parametrize(("count", "expected"), [(7, 1), (1000, 1), (1001, 2), (100_000, 100)])
def test_retry_after_worker_death_reduces_any_chunksize(count, expected):
    assert chunk_after_death(rounds(100, False), count) == expected
    assert chunk_after_death(rounds(1, False), count) == 1
