"""A knot can be created, used, listed and deleted while the answers of every service are spoiled."""

import pytest

import cloudknot as ck
from tests.faults.matrix.trials import EVERYTHING
from tests.faulty_cloud.plan import Faults
from tests.helpers.waiting import LONG

SPOILS = ("truncated", "dropped", "reset", "missing", "misplaced", "pages", "errors")


@pytest.mark.parametrize("spoil", SPOILS)
def test_knot_lives_under_spoiled_answers_of_every_service(cloud, switches, spoil):
    name = f"lives-{spoil}"
    with switches.on(Faults(**{spoil: 0.3}, services=EVERYTHING, seed=5)):
        knot = ck.Knot(name=name, func=abs, cloud=cloud, retries=3)
        assert knot.map([-1, 2, -3]).result(LONG) == [1, 2, 3]
        assert name in [info.name for info in ck.list_knots(cloud=cloud)]
        knot.clobber()
        assert name not in [info.name for info in ck.list_knots(cloud=cloud)]
        assert sum(switches.injected().values()) > 10
