"""The modules that a job cannot import, so that their classes and functions travel by value."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cloudknot.program.pickling import Absent


def absent(files: Container[str], own: tuple[str, ...] = ()) -> Absent:
    """Describe the modules that a job with these ``files`` cannot import.

    Modules of its ``own`` travel by value.
    """
    from cloudknot.program import pickling
    from cloudknot.program.fingerprint import Fingerprint
    from cloudknot.program.local_modules import is_local_cached

    def is_absent(module: str) -> bool:
        if module == "__main__" or module in own:
            return True
        base = module.replace(".", "/")
        return f"{base}.py" not in files and f"{base}/__init__.py" not in files and is_local_cached(module)

    return pickling.Absent(is_absent, lambda cls: Fingerprint(cls).digest)
