"""Messages about the differences between Linux, Windows and macOS."""

from __future__ import annotations

from cloudknot.local.options import check_system
from tests.integration.messages.catalogue import Area, World

AREA = Area("platforms")


@AREA.case
def embedded_cloud_on_windows(world: World) -> None:
    check_system("win32")
