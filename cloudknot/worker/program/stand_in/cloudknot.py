"""Stand in for cloudknot in a job: the functions for jobs work, and nothing else in it can be called."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import NoReturn

FOR_JOBS = ("element_index", "seed")
"""The names of cloudknot that a job can use."""

# Python imports submodules only of a package, which has a path.
__path__: list[str] = []


class Absent:
    """A name of cloudknot. It has every attribute, and calling it raises an error."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Absent:
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent(f"{self._name}.{name}")

    def __call__(self, *arguments: object, **keywords: object) -> NoReturn:
        raise RuntimeError(
            f"{self._name} is called inside a job, by a module that the job imports. Move the call of {self._name} "
            "below `if __name__ == '__main__':` in that module, or into a function that the job does not call"
        )


def _load_seeds() -> ModuleType:
    # By its path: a process that the function starts may be unable to import the worker.
    spec = spec_from_file_location("cloudknot_seeds", Path(__file__).parents[1] / "seeds.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def __getattr__(name: str) -> object:
    if name in FOR_JOBS:
        return globals().setdefault(name, getattr(_load_seeds(), name))
    if name.startswith("__"):
        raise AttributeError(name)
    return Absent(f"cloudknot.{name}")


class _Submodule(ModuleType):
    def __getattr__(self, name: str) -> Absent:
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent(f"{self.__name__}.{name}")


class _Submodules:
    """The finder and loader of ``cloudknot.aws`` and all other modules of cloudknot."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        is_mine = getattr(sys.modules.get("cloudknot"), "__path__", None) is __path__
        return ModuleSpec(name, self, is_package=True) if is_mine and name.startswith("cloudknot.") else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Submodule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: the module makes its names on demand."""


# Behind the others: the finder serves only this module, which has no files.
sys.meta_path.append(_Submodules())
