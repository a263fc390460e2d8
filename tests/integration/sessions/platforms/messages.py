"""Messages about the differences between Linux, Windows and macOS."""

from __future__ import annotations

from cloudknot.local.options import check_system
from cloudknot.program.program import make_program
from cloudknot.program.requirements import from_user
from tests.integration.messages.catalogue import Area, World

AREA = Area("platforms")


@AREA.case
def embedded_cloud_on_windows(world: World) -> None:
    check_system("win32")


@AREA.case
def requirement_that_linux_lacks(world: World) -> None:
    from_user(["pywin32==306"])


@AREA.case
def import_that_linux_lacks(world: World) -> None:
    def function() -> object:
        import winreg

        return winreg

    make_program(function)
