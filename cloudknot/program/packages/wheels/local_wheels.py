"""Make the wheels of local packages for the jobs, and find the package that a module belongs to."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from cloudknot.errors import ImageError
from cloudknot.program.packages.distributions import EDITABLE, INSTALLED, LocalDistribution, local_distributions
from cloudknot.program.packages.lock import LocalWheel
from cloudknot.program.packages.target import InstallTarget
from cloudknot.program.packages.wheels import build, pack
from cloudknot.program.packages.wheels.archive import modules_in, read_wheel
from cloudknot.program.packages.wheels.fit import check_fit


def wheels_of(names: Iterable[str], target: InstallTarget) -> tuple[LocalWheel, ...]:
    """Return the wheels of some local packages that are installed here.

    Parameters
    ----------
    names : iterable of str
        Canonical names.
    target : InstallTarget
        The machines and the Python of the jobs.

    Raises
    ------
    ImageError
        A package is not installed here, its wheel cannot be made, or it has compiled parts for other machines.
    """
    return tuple(_checked(name, target) for name in sorted(set(names)))


def _checked(name: str, target: InstallTarget) -> LocalWheel:
    local = local_distributions().get(name)
    if local is None:
        raise ImageError(
            f"The program needs the local package {name}, which is not installed here. Install {name} from where it "
            "came, for example with `pip install -e FOLDER`."
        )
    wheel = _wheel(local)
    check_fit(wheel, local.address, target)
    return wheel


def _wheel(local: LocalDistribution) -> LocalWheel:
    if local.origin == EDITABLE:
        if local.source is None:
            raise ImageError(
                f"The local package {local.name} cannot be sent to jobs. Its source code is at {local.address}, which "
                f"is no folder. Install {local.name} again."
            )
        return build.build_wheel(local.source, local.name, local.version, local.roots)
    return pack.pack(local.name, metadata.distribution(local.name))


def owner_of(module: str, file: Path) -> LocalDistribution | None:
    """Return the local package that a module belongs to; None for a module of none.

    Parameters
    ----------
    module : str
        ``"mylab.config"``
    file : Path
        Its file.
    """
    real = Path(os.path.realpath(file))
    # `flit install --symlink` puts a link to the source folder into site-packages.
    if INSTALLED & set(real.parts):
        installed = (local for local in local_distributions().values() if local.origin != EDITABLE)
        return next((local for local in installed if file in _installed_files(local)), None)
    candidates = [local for local in local_distributions().values() if _has_below(local, real)]
    # A project may be inside another one.
    candidates.sort(key=lambda local: len(str(local.source)), reverse=True)
    return next((local for local in candidates if _provides(local, module, real)), None)


@lru_cache(maxsize=256)
def _declared(local: LocalDistribution) -> list[str]:
    """Return the top-level names that setuptools wrote into the metadata; empty for other build backends."""
    return (metadata.distribution(local.name).read_text("top_level.txt") or "").split()


@lru_cache(maxsize=64)
def _installed_files(local: LocalDistribution) -> frozenset[Path]:
    files = metadata.distribution(local.name).files or ()
    return frozenset(Path(str(file.locate())) for file in files)


def _has_below(local: LocalDistribution, file: Path) -> bool:
    return local.origin == EDITABLE and any(file.is_relative_to(root) for root in _places(local.source, local.roots))


@lru_cache(maxsize=256)
def _places(source: Path | None, roots: tuple[Path, ...]) -> tuple[Path, ...]:
    return tuple(Path(os.path.realpath(path)) for path in (source, *roots) if path is not None)


def _provides(local: LocalDistribution, module: str, file: Path) -> bool:
    """Return whether a module below the folders of an editable package is part of the package."""
    top = module.partition(".")[0]
    if declared := _declared(local):
        return top in declared
    if top == local.name.replace("-", "_"):
        return True
    # Everything in a folder that Python searches for this package alone, such as src/, belongs to it.
    roots = _places(None, local.roots)
    if any(file.is_relative_to(root) for root in roots if root != _places(local.source, ())[0]):
        return True
    # A project's folder holds scripts and tests too. Only the wheel shows which modules it gets.
    try:
        return module in modules_in(read_wheel(_wheel(local).content))
    except ImageError:
        return False
