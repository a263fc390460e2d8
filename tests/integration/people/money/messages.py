"""Messages about the costs of a knot."""

from __future__ import annotations

import cloudknot as ck
from tests.helpers.functions import square
from tests.integration.messages.catalogue import Area, World

AREA = Area("costs")


@AREA.case
def knot_with_memory_of_earlier_version(world: World) -> None:
    ck.Knot("earlier-memory", func=square, memory=7500, cloud=world.cloud)
    ck.Knot("earlier-memory", func=square, cloud=world.cloud)
