"""Hash a function so that the digest is the same in every session and changes whenever its behaviour could change.

The walk visits the objects as the pickler does, through the same reducers, and hashes them in a canonical form. So
everything that the pickle would hold counts. The walk also collects the modules that the pickle refers to by name, and
the classes that it holds by value.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from cloudknot.program import imports, named_modules, pickling

if TYPE_CHECKING:
    from cloudknot.worker.wire.objects.reducers import Reduced

# Without co_filename and co_firstlineno: they change with the place of a function in its file or notebook.
_CODE_FIELDS = (
    "co_argcount",
    "co_posonlyargcount",
    "co_kwonlyargcount",
    "co_flags",
    "co_code",
    "co_names",
    "co_varnames",
    "co_freevars",
    "co_cellvars",
    "co_name",
    "co_qualname",
    "co_linetable",
    "co_exceptiontable",
    "co_consts",
)


LARGE = 64 * 1024
"""Bytes of the smallest value that is hashed separately."""


class Fingerprint:
    """The canonical hash of an object's pickle.

    Attributes
    ----------
    modules : set of str
        Modules that the object refers to by name, or imports in one of its functions.
    classes : list of type
        Classes that travel by value, in the order in which the pickle refers to them.
    named : set of str
        Words in its functions that may be the names of modules; see `named_modules.in_function`.
    names : dict of str to set of str
        Names of the functions that travel by value and are values of a module, by that module.

    Raises
    ------
    pickle.PicklingError
        The object refers by name to an object in ``__main__``, which is another module in a job.
    """

    # The bytes of the pickle itself would not do. They contain random class identities, the order of sets and the
    # place of a notebook cell, and depend on whether equal strings are the same object.

    def __init__(self, root: object) -> None:
        self.modules: set[str] = set()
        self.classes: list[type] = []
        self.named: set[str] = set()
        self.names: dict[str, set[str]] = {}
        self._hash = hashlib.sha256()
        # Objects are known by their ids. The list keeps each of them alive, so that no id is used again.
        self._ordinals: dict[int, int] = {}
        self._atoms: dict[int, bytes | None] = {}
        self._visited: list[object] = []
        self._pickler = pickling.Pickler(io.BytesIO())
        self._walk(root)

    @property
    def digest(self) -> str:
        """SHA-256 in hexadecimal."""
        return self._hash.hexdigest()

    def _walk(self, root: object) -> None:
        # A stack instead of recursion, because chains of functions and lists may exceed Python's recursion limit.
        stack: list[Iterator[object]] = [iter((root,))]
        while stack:
            for obj in stack[-1]:
                stack.append(self._visit(obj))
                break
            else:
                stack.pop()

    def _emit(self, tag: str, *parts: bytes | str | int) -> None:
        self._hash.update(_join(tag, *parts))

    def _visit(self, obj: object) -> Iterator[object]:
        """Hash one object without its children, and return those in canonical order."""
        # Atoms are hashed again each time. Whether equal strings are one object differs between sessions.
        atom = self._atom(obj)
        if atom is not None:
            self._emit("atom", atom)
            return iter(())
        # A pickle refers back to an object that it already contains, and so does the hash.
        if id(obj) in self._ordinals:
            self._emit("seen", self._ordinals[id(obj)])
            return iter(())
        self._ordinals[id(obj)] = len(self._ordinals)
        self._visited.append(obj)
        return self._children(obj)

    def _children(self, obj: object) -> Iterator[object]:
        # Not isinstance, because subclasses are pickled in other ways.
        if type(obj) is dict:
            self._emit("dict", len(obj))
            return chain.from_iterable(list(obj.items()))
        if type(obj) is list or type(obj) is tuple:
            self._emit(type(obj).__name__, len(obj))
            return iter(obj)
        if type(obj) is set or type(obj) is frozenset:
            self._emit(type(obj).__name__, len(obj))
            return iter(sorted(obj, key=_digest_of))
        if type(obj) is bytearray or type(obj) is pickle.PickleBuffer:
            raw = obj.raw() if type(obj) is pickle.PickleBuffer else obj
            self._emit(type(obj).__name__, hashlib.sha256(raw).digest())
            return iter(())
        if isinstance(obj, ModuleType) and sys.modules.get(obj.__name__) is obj and obj.__spec__ is not None:
            self.modules.add(obj.__name__)
        return self._visit_reduced(obj, self._reduce(obj))

    def _reduce(self, obj: object) -> Reduced:
        """Return an object's reduction, as the pickler would make it."""
        reduced = self._pickler.reducer_override(obj)
        if isinstance(reduced, tuple):
            return reduced
        if isinstance(obj, (type, FunctionType)):
            return obj.__qualname__
        reducer = self._pickler.dispatch_table.get(type(obj))
        reduced = reducer(obj) if reducer else obj.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        return reduced if isinstance(reduced, str) else tuple(reduced)

    def _visit_reduced(self, obj: object, reduced: Reduced) -> Iterator[object]:
        if isinstance(reduced, str):
            self._add_reference(obj, reduced)
            return iter(())
        make, args, state, list_items, dict_items, setter = (*reduced, None, None, None, None)[:6]
        if isinstance(obj, FunctionType) and isinstance(args[0], CodeType):
            self.modules |= imports.names_in_code(obj.__code__, obj.__globals__.get("__package__") or "")
            self.named |= named_modules.in_function(obj)
            self._add_name(obj)
            args, state = _canonical_function(args, state)
        elif isinstance(obj, (type, TypeVar)) and (class_id := pickling.identity(obj)):
            # The identity is random, or is derived from this very digest.
            args = tuple(None if arg is class_id else arg for arg in args)
            state = _canonical_class(obj, state)
            if isinstance(obj, type):
                self.classes.append(obj)
        items: list[object] = list(list_items or ())
        pairs: list[tuple[object, object]] = list(dict_items or ())
        self._emit("reduced", len(items), len(pairs))
        return chain((make, args, state, setter), items, chain.from_iterable(pairs))

    def _add_name(self, function: FunctionType) -> None:
        module = sys.modules.get(function.__module__)
        if vars(module or object).get(function.__qualname__) is function:
            self.names.setdefault(function.__module__, set()).add(function.__qualname__)

    def _add_reference(self, obj: object, name: str) -> None:
        module = pickle.whichmodule(obj, name)  # type: ignore[attr-defined,unused-ignore]
        if module == "__main__":
            raise pickle.PicklingError(f"{name!r} refers to the module __main__, which is another module in a job")
        # cloudpickle's own helpers are in every pickle, and are no import of the user's.
        if not module.startswith("cloudpickle."):
            self.modules.add(module)
        self._emit("named", module, name)

    def _atom(self, obj: object) -> bytes | None:
        """Return the canonical form of a value without an identity, such as a string; None for other objects."""
        if type(obj) not in _COMPOSITES:
            return _scalar(obj)
        if id(obj) not in self._atoms:
            self._visited.append(obj)
            self._atoms[id(obj)] = self._composite(obj)
        return self._atoms[id(obj)]

    def _composite(self, obj: object) -> bytes | None:
        kind = type(obj)
        parts = [self._atom(part) for part in _COMPOSITES[kind](obj)]
        atoms = [part for part in parts if part is not None]
        if len(atoms) < len(parts):
            return None
        if kind is frozenset:
            # The order of iteration differs between sessions.
            atoms.sort()
        return hashlib.sha256(_join(kind.__name__, *atoms)).digest()


_COMPOSITES: dict[type, Callable[..., Iterable[object]]] = {
    tuple: iter,
    frozenset: iter,
    slice: lambda part: (part.start, part.stop, part.step),
    CodeType: lambda code: [getattr(code, field) for field in _CODE_FIELDS],
}


def _scalar(obj: object) -> bytes | None:
    kind = type(obj)
    if obj is None or obj is Ellipsis or obj is NotImplemented or kind in (bool, float, complex):
        return _join(kind.__name__, repr(obj))
    if type(obj) is int:
        return _join("int", hex(obj))
    if type(obj) is str:
        return _join("str", obj)
    if type(obj) is bytes:
        # Joining would copy the value, and that may be hundreds of megabytes.
        return _join("bytes", obj) if len(obj) < LARGE else _join("large", hashlib.sha256(obj).digest())
    return None


def _join(tag: str, *parts: bytes | str | int) -> bytes:
    """Join parts so that no two different lists of parts give the same bytes."""
    raw = [part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass") for part in (tag, *parts)]
    return struct.pack("<Q", len(raw)) + b"".join(struct.pack("<Q", len(part)) + part for part in raw)


def _digest_of(obj: object) -> str:
    return Fingerprint(obj).digest


def _canonical_function(args: tuple[Any, ...], state: Any) -> tuple[object, object]:
    """Drop the location of a function's file, and the order of submodule imports in this session."""
    code, base, *rest = args
    attributes, slots = state
    submodules = sorted(slots["_cloudpickle_submodules"], key=lambda module: str(module.__name__))
    base = {key: base[key] for key in ("__package__", "__name__") if key in base}
    return (code, base, *rest), (attributes, {**slots, "_cloudpickle_submodules": submodules})


def _canonical_class(cls: type | TypeVar, state: Any) -> object:
    """Drop the position of a class in its file, and sort attributes that Python keeps in sets."""
    if state is None:
        return None
    attributes = {key: value for key, value in state[0].items() if key != "__firstlineno__"}
    if "__dataclass_fields__" in attributes and str(attributes.get("__doc__")).startswith(f"{cls.__name__}("):
        # The docstring that dataclass generates shows defaults, and a set's elements in any order. The fields count.
        del attributes["__doc__"]
    for key in ("_abc_impl", "__static_attributes__"):
        if key in attributes:
            attributes[key] = frozenset(attributes[key])
    return attributes, state[1]


def combine(parts: Iterable[bytes | str]) -> str:
    """Return one SHA-256 in hexadecimal over several parts. The boundaries between the parts count."""
    return hashlib.sha256(_join("parts", *parts)).hexdigest()
