"""Check that an image has the packages that inputs need, as their pickles show. Asks no service."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from cloudknot.errors import refuse
from cloudknot.options import streams
from cloudknot.program.inputs.met_modules import MetModules

if TYPE_CHECKING:
    from cloudknot.aws.images.image_store import Image
    from cloudknot.program.program import Program

LONGEST = 4000
"""Characters of the longest list of packages. A parameter of a CloudFormation stack has at most 4,096."""
_MORE = "..."


@dataclass(frozen=True)
class ImagePackages:
    """The packages that jobs of a knot find installed.

    Attributes
    ----------
    names : frozenset of str
        Canonical names.
    complete : bool
        False if the image may have more: those of the user's base image, for example.
    """

    names: frozenset[str]
    complete: bool = True

    @classmethod
    def of(cls, image: Image) -> ImagePackages:
        """Return the packages of an image."""
        names = frozenset([*(item.name for item in image.lock.packages), *(item.name for item in image.wheels)])
        # The default base image has no packages, and without an engine nothing else adds any.
        is_plain = image.base_image == f"python:{image.python}-slim" and not image.needs_engine
        return cls(names, is_plain)

    def to_text(self) -> str:
        """Return the form that a job definition stores; empty if it would be too long."""
        text = ",".join([*sorted(self.names), *([] if self.complete else [_MORE])])
        return text if len(text) <= LONGEST else ""

    @classmethod
    def from_text(cls, text: str) -> ImagePackages | None:
        """Return the packages of a job definition; None if it does not name them."""
        names = frozenset(filter(None, text.split(",")))
        return cls(names - {_MORE}, _MORE not in names) if names else None


class LackingPackages(Exception):
    """A value needs packages that the image does not have."""

    def __init__(self, needs: InputNeeds, modules: dict[str, str]) -> None:
        super().__init__(", ".join(modules))
        self._needs, self._modules = needs, modules

    def refuse(self, subject: str) -> NoReturn:
        """Raise a `CloudknotInputError` about a ``subject``, such as ``"Element 3 of the input"``."""
        needs, packages = self._needs, " and ".join(self._modules)
        imports = "; ".join(f"import {module}" for module in self._modules.values())
        refuse(
            problem=f"{subject} needs {packages}, which the image of the knot {needs.knot!r} does not have. Nothing "
            "was submitted.",
            cause=f"A job imports {' and '.join(self._modules.values())} to load it.",
            fix=f"Create the knot again with `{imports}` inside its function{needs.or_with(self._modules)}.",
        )


class InputNeeds:
    """The check of all inputs of one map.

    Parameters
    ----------
    packages : ImagePackages or None
        None if they are not known. Then everything passes.
    knot : str
        The name of the knot, for messages.
    program : Program or None
        None if another session created the knot.
    """

    def __init__(self, packages: ImagePackages | None, knot: str, program: Program | None) -> None:
        self._packages, self._program, self.knot = packages, program, knot
        self.met = MetModules()
        self._checked: set[str] = set()

    @property
    def installed(self) -> frozenset[str] | None:
        """The canonical names of the packages in the image; None if they are not known."""
        return self._packages.names if self._packages else None

    @property
    def program(self) -> str:
        """The argument of `Knot` that names its function or script."""
        if self._program and self._program.script:
            return f"image_script_path={self._program.script!r}"
        # The name of a lambda is no expression.
        return f"func={self._program.name if self._program and self._program.name.isidentifier() else '...'}"

    def check(self) -> None:
        """Check the modules that have been met since the last check.

        Raises
        ------
        LackingPackages
            The image has none of the packages that provide one of them.
        """
        if len(self.met.importable) == len(self._checked) or self._packages is None:
            return
        new = self.met.importable - self._checked
        self._checked |= new
        lacking = {package: _imported(module) for module in sorted(new) if (package := self._lacking(module))}
        if lacking and self._packages.complete:
            raise LackingPackages(self, lacking)
        for package, module in lacking.items():
            streams.warn(
                f"An input of the map needs {package}, because a job imports {module} to load it. cloudknot did not "
                f"install {package} in the image of the knot {self.knot!r}. The element fails unless the base image "
                f"or your additions to it provide {package}. If they do not, add it to requirements=[...].",
            )

    def _lacking(self, module: str) -> str:
        """Return the package that provides a module, if the image has none that does; else an empty string."""
        from cloudknot.program.local_modules import is_local_cached

        assert self._packages is not None
        top = module.partition(".")[0]
        # Most packages have the name of their module, and need no look at the installed ones.
        if top in sys.stdlib_module_names or top.lower() in self._packages.names or is_local_cached(module):
            return ""
        owners = _owners(module)
        return owners[0] if owners and not self._packages.names.intersection(owners) else ""

    def or_with(self, packages: Iterable[str]) -> str:
        """Return the other way to add packages to the knot: the call with all requirement lines."""
        from cloudknot.program.packages.distributions import local_distributions
        from cloudknot.program.requirements import pin

        # An index may have a stranger's package of the name of a local one.
        if local_distributions().keys() & set(packages):
            return ""
        old = [repr(line) for line in self._program.requirements] if self._program else ["..."]
        lines = ", ".join([*old, *(repr(pin(package)) for package in packages)])
        return f", or with a list of all packages: Knot(name={self.knot!r}, {self.program}, requirements=[{lines}])"


def _imported(module: str) -> str:
    """Return the name to import for the package of a module: the top level, unless several packages share it."""
    top = module.partition(".")[0]
    return top if _owners(top) else module


@functools.lru_cache(maxsize=4096)
def _owners(module: str) -> tuple[str, ...]:
    """Return the canonical names of the installed distributions that provide a module."""
    from cloudknot.program.packages.solving.linux_names import linux_name
    from cloudknot.program.requirements import canonical, owners

    return tuple(linux_name(canonical(owner)) for owner in owners(module))
