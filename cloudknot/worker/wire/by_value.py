"""Refuse pickles that hold code by value of another Python, before any of that code exists.

cloudpickle stores functions and classes of ``__main__`` with their bytecode, which differs between the minor versions
of Python. Another version may crash when it builds or calls such a function. Other pickles suit every version. The
client imports this module too.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, BinaryIO

from . import buffers
from .buffers import Buffer, ReceivedPickle
from .seal import UnusableError

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""The minor version of this Python."""
# The last words of the modules: other packages carry copies of cloudpickle and dill.
_MODULES = {"cloudpickle", "cloudpickle_fast", "_dill", "dill"}
_BUILDERS = {
    *("_make_function", "_make_skeleton_class", "_make_skeleton_enum", "_make_skel_func", "_make_typeddict_class"),
    *("_create_code", "_create_function", "_create_type", "_create_namedtuple", "_fill_function"),
}
"""Functions of these modules that build functions and classes."""
_CODE_TYPES = {("types", "CodeType"), ("types", "FunctionType"), ("builtins", "code"), ("builtins", "function")}
_CODE_TYPES |= {("marshal", "loads"), ("marshal", "load"), ("_imp", "create_dynamic")}
_NESTED = {("pickle", "loads"), ("_pickle", "loads"), ("pickle", "_loads")}
_BY_NAME = {"_builtin_type", "_load_type"}
"""Functions of these modules that return a type of the interpreter by its name."""


class OtherPythonError(UnusableError):
    """A pickle of another Python that holds code by value."""

    def __init__(self, python: str) -> None:
        super().__init__(
            f"holds a function or a class by value, pickled by Python {python}, which Python {PYTHON} cannot load"
        )
        self.python = python


class GuardedUnpickler(pickle.Unpickler):
    """An unpickler for data of another Python that raises `OtherPythonError` at the first code by value."""

    def __init__(self, file: Any, python: str, **keywords: Any) -> None:
        super().__init__(file, **keywords)
        self._python = python

    def find_class(self, module: str, name: str) -> Any:
        # Each function or class in a pickle passes here before anything is built with it.
        place, is_copy = (module, name), module.rpartition(".")[2] in _MODULES
        if place in _CODE_TYPES or (is_copy and name in _BUILDERS):
            raise OtherPythonError(self._python)
        if place in _NESTED or (is_copy and name == "loads"):
            return partial(_loads_nested, self._python)
        found = super().find_class(module, name)
        return partial(_type_by_name, found, self._python) if is_copy and name in _BY_NAME else found


def _loads_nested(python: str, data: Buffer, **keywords: Any) -> Any:
    return GuardedUnpickler(io.BytesIO(data), python, **keywords).load()


def _type_by_name(find: Callable[[str], Any], python: str, name: str) -> Any:
    if name in ("CodeType", "FunctionType", "LambdaType"):
        raise OtherPythonError(python)
    return find(name)


def is_other(python: str) -> bool:
    """Return whether ``python`` is another minor version than this one. Empty is an unknown version."""
    return bool(python) and python != PYTHON


def loads(data: Buffer | ReceivedPickle, python: str) -> Any:
    """Unpickle data of the Python version ``python`` as `buffers.loads` does.

    Raises
    ------
    OtherPythonError
        The data hold code by value, and this is another Python.
    """
    if not is_other(python):
        return buffers.loads(data)
    return buffers.loads(data, partial(_loads_nested, python))


def load(file: BinaryIO, python: str) -> Any:
    """Unpickle as `loads` does, from a buffered file."""
    if not is_other(python):
        return buffers.load(file)
    return buffers.load(file, partial(GuardedUnpickler, python=python))
