"""The modules that a job cannot import, so that their classes and functions travel by value."""

from __future__ import annotations

import functools
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

    def is_absent(module: str) -> bool:
        if module == "__main__" or module in own:
            return True
        base = module.replace(".", "/")
        return f"{base}.py" not in files and f"{base}/__init__.py" not in files and is_local(module)

    return pickling.Absent(is_absent, lambda cls: Fingerprint(cls).digest)


@functools.lru_cache(maxsize=4096)
def is_local(name: str) -> bool:
    """Return whether a module is the caller's own: neither installed nor of the standard library."""
    from cloudknot.program import local_modules

    return local_modules.is_local(name)
