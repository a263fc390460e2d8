"""Identify the modules that a job cannot import. Their classes and functions travel by value."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cloudknot.program.pickling import MissingModules


def missing_in_job(
    files: Container[str], own: tuple[str, ...] = (), packages: Container[str] | None = None
) -> MissingModules:
    """Describe the modules that a job with these ``files`` cannot import.

    Parameters
    ----------
    files : container of str
        Paths of the module files that travel, such as ``"pkg/util.py"``.
    own : tuple of str
        Modules that travel by value, and so count as missing even if their files travel.
    packages : container of str, optional
        Canonical names of the local packages that travel as wheels. Default: unknown. Then the packages that are
        installed in ``site-packages`` count as travelling.
    """
    from cloudknot.program import pickling
    from cloudknot.program.fingerprint import Fingerprint
    from cloudknot.program.local_modules import is_editable, is_local_cached, package_of_cached

    # An input may be an instance of a class in a module that the function never names, so no file of it travels.
    def is_missing(module: str) -> bool:
        if module == "__main__" or module in own:
            return True
        package = package_of_cached(module)
        if package is not None:
            return is_editable(module) if packages is None else package.name not in packages
        base = module.replace(".", "/")
        return f"{base}.py" not in files and f"{base}/__init__.py" not in files and is_local_cached(module)

    return pickling.MissingModules(is_missing, lambda cls: Fingerprint(cls).digest)
