"""A fake job in memory and its future, without a cloud and without processes."""

import pytest

from tests.helpers.functions import square
from tests.unit.run.collect.fake_job import FakeJob, future_of


@pytest.fixture
def submit():
    """Return a function that makes a fake job and its future. Afterwards, open futures are cancelled."""
    futures = []

    def make(function=square, inputs=(1, 2, 3), chunksize=1):
        job = FakeJob(function, list(inputs), chunksize)
        futures.append(future_of(job, max_threads=4, how_to_return="look at knot.jobs"))
        return job, futures[-1]

    yield make
    for future in futures:
        future.cancel()
