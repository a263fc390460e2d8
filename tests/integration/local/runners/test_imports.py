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


def read_variable(element):
    """Return a variable of this process and of its parent, and whether the parent had imported numpy."""
    name = "OMP_NUM_THREADS"
    with open(f"/proc/{os.getppid()}/maps") as maps, open(f"/proc/{os.getppid()}/environ") as environ:
        of_parent = dict(line.split("=", 1) for line in environ.read().split("\0") if line).get(name)
        return os.environ.get(name), of_parent, np.__name__ == "numpy" and "_multiarray_umath" in maps.read()


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="a fork server makes imports on Linux only")


@on_linux
def test_jobs_share_imports_but_no_random_numbers(cloud):
    knot = ck.Knot(name="draw", func=draw, cloud=cloud)
    legacy, modern, shared = zip(*knot.map(range(6), progress=False).result(120), strict=True)
    assert len(set(legacy)) == len(set(modern)) == 6
    assert all(shared)


@on_linux
def test_variables_of_map_are_set_before_its_jobs_share_imports(cloud):
    knot = ck.Knot(name="read-variable", func=read_variable, cloud=cloud)
    maps = [knot.map([0, 1], env_vars={"OMP_NUM_THREADS": number}, progress=False) for number in ("1", "3")]
    assert [future.result(120) for future in maps] == [[("1", "1", True)] * 2, [("3", "3", True)] * 2]
    assert knot.map([0], progress=False).result(120) == [(None, None, True)]
