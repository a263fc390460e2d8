"""Jobs find the packages of their function imported, with random numbers of their own."""

import os
import sys

import numpy as np
import pytest

import cloudknot as ck


def draw(element):
    """Return random numbers, and whether the parent of this process had imported numpy."""
    with open(f"/proc/{os.getppid()}/maps") as maps:
        return float(np.random.random()), float(np.random.default_rng().random()), "_multiarray_umath" in maps.read()


@pytest.mark.skipif(sys.platform != "linux", reason="a fork server makes imports on Linux only")
def test_jobs_share_imports_but_no_random_numbers(cloud):
    knot = ck.Knot(name="draw", func=draw, cloud=cloud)
    legacy, modern, shared = zip(*knot.map(range(6), progress=False).result(120), strict=True)
    assert len(set(legacy)) == len(set(modern)) == 6
    assert all(shared)
