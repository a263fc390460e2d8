"""Program: the user's function, what it needs, and its digest.

Nothing here does network I/O, and nothing of the user's is executed to look at it.
"""

from __future__ import annotations

import functools
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING

from cloudknot.errors import CloudknotInputError
from cloudknot.program.missing_modules import absent

if TYPE_CHECKING:
    from cloudknot.program.local_modules import Travel
    from cloudknot.program.pickling import Absent
    from cloudknot.program.requirements import Requirements

_FUNCTIONS = (FunctionType, MethodType, functools.partial)


@dataclass(frozen=True)
class Program:
    """A function that can travel, and everything it needs where it arrives.

    Attributes
    ----------
    name : str
        The function's name for people; of a partial, that of the function inside.
    pickled : bytes
        The callable, pickled by value. Its bytes differ between sessions; its ``digest`` does not.
    source : str
        Its source, dedented, for the reader; empty when it cannot be found.
    filename, firstlineno : str, int
        Where the source is from, so that tracebacks in a job can show it; empty and 0 when there is no code object.
    modules : mapping of str to bytes
        Source files of local modules that travel, by path: ``"helper.py"``, ``"pkg/util.py"``.
    requirements : tuple of str
        pip requirement lines, sorted.
    imports : tuple of str
        Names imported that installed distributions provide.
    missing : tuple of str
        Names imported that no installed distribution provides, but that pipreqs' table knows the package of.
    python : str
        The minor version that the pickle needs, for example ``"3.11"``.
    digest : str
        SHA-256 in hexadecimal: the same for the same function in every session, different whenever anything above that
        bears on its behaviour differs.
    by_value : tuple of str
        Local modules whose functions and classes travel by value. Inputs must be pickled with them too
        (`pickle_value`), or a class would be one thing in the function and another in its input.
    script : str
        Path, among the ``modules``, of a command-line script that is the program in place of a function; else empty.
    signature : inspect.Signature or None
        What it can be called with, where that can be found out.
    """

    name: str
    pickled: bytes
    source: str
    filename: str
    firstlineno: int
    modules: Mapping[str, bytes]
    requirements: tuple[str, ...]
    imports: tuple[str, ...]
    missing: tuple[str, ...]
    python: str
    digest: str
    by_value: tuple[str, ...] = ()
    script: str = ""
    signature: inspect.Signature | None = None

    @functools.cached_property
    def absent(self) -> Absent:
        """What of the caller's own a job of this program cannot import."""
        return absent(self.modules, self.by_value)


def make_program(
    func: Callable[..., object], requirements: Iterable[str] | Path | None = None, *, elsewhere: bool = False
) -> Program:
    """Find out all that a function needs to run elsewhere.

    Parameters
    ----------
    func : callable
        A function of any kind, a method, a partial, a class, or an object with ``__call__``.
    requirements : iterable of str, or Path, optional
        pip requirement lines, or a file of them, instead of those found. Default: found from the function's imports.
    elsewhere : bool
        Whether the image has more than the requirements, so that an import which nothing is known of may be there.

    Raises
    ------
    CloudknotInputError
        ``func`` is not a callable, is asynchronous, or cannot be pickled (the message names the variable at fault), or
        a line of ``requirements`` is not a requirement. Or, where they are to be found: nothing tells which package
        an import is of.
    """
    from cloudknot.program import local_modules
    from cloudknot.program import requirements as needs
    from cloudknot.program.fingerprint import combine

    _check(func)
    by_value = tuple(sorted(_own_modules(func)))
    pickled, content, referred = _pickle(func, by_value)
    source = _source(func)
    travel = local_modules.collect(sorted(referred), by_value)
    chosen = (
        needs.given(requirements) if requirements is not None else _scan(func, source, travel, by_value, elsewhere)
    )
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    files = dict(sorted(travel.files.items()))
    code = _code(func)
    return Program(
        name=_name(func),
        pickled=pickled,
        source=source,
        filename=code.co_filename if code else "",
        firstlineno=code.co_firstlineno if code else 0,
        modules=files,
        requirements=chosen.lines,
        imports=chosen.imports,
        missing=chosen.missing,
        python=python,
        digest=combine([python, content, *(part for item in files.items() for part in item), "|", *chosen.lines]),
        by_value=by_value,
        signature=_signature(func),
    )


def _check(func: object) -> None:
    if not callable(func):
        raise CloudknotInputError(f"func must be a callable, not {func!r} (a {type(func).__name__}).")
    if any(
        inspect.iscoroutinefunction(part) or inspect.isasyncgenfunction(part) for part in (func, type(func).__call__)
    ):
        raise CloudknotInputError(
            f"{_name(func)} is an async function, and a job calls plain functions. Wrap it: "
            f"def run(*args): return asyncio.run({_name(func)}(*args))"
        )


def _pickle(func: object, by_value: tuple[str, ...]) -> tuple[bytes, str, set[str]]:
    """The pickle, the digest of what is in it, and the modules that it refers to."""
    from cloudknot.program import pickle_errors, pickling
    from cloudknot.program.fingerprint import Fingerprint

    try:
        with pickling.by_value(by_value):
            fingerprint = Fingerprint(func)
            for known_as, cls in _identities(fingerprint.classes):
                pickling.set_identity(cls, known_as)
            pickled = pickling.dumps(func)
    except Exception as error:
        raise CloudknotInputError(
            f"{_name(func)} cannot be sent to a job: {pickle_errors.explain(func, by_value)} cannot be pickled "
            f"({error}). "
            "Make it inside the function, or pass in what is needed to make it."
        ) from error
    return pickled, fingerprint.digest, fingerprint.modules


def _identities(classes: Iterable[type]) -> Iterator[tuple[str, type]]:
    """An identity for each class that is the same in every session: its content, and its number among equals."""
    from cloudknot.program import pickling
    from cloudknot.program.fingerprint import Fingerprint

    counts: dict[str, int] = {}
    for cls in classes:
        content = Fingerprint(cls).digest
        counts[content] = counts.get(content, 0) + 1
        yield pickling.numbered_identity(content, counts[content]), cls


def _scan(func: object, source: str, travel: Travel, by_value: tuple[str, ...], elsewhere: bool) -> Requirements:
    from cloudknot.program import imports
    from cloudknot.program import requirements as needs
    from cloudknot.program.local_modules import is_local_cached

    _, optional = imports.names_in_tree(imports.parse(source))
    scanned = {name for name in needs.scan([source, *travel.needed.values()]) if not is_local_cached(name)}
    found = needs.found(travel.outside | scanned, travel.optional | optional)
    if found.missing or found.unknown:
        found = needs.found(travel.outside | scanned, travel.optional | optional | _guarded(func, by_value))
    needs.refuse_unknown(found, _name(func), elsewhere)
    needs.warn_of_missing(found)
    return found


def _guarded(func: object, by_value: tuple[str, ...]) -> set[str]:
    """Names that the functions in a pickle import only where an ``ImportError`` is caught."""
    from cloudknot.program import imports, pickling

    needed: set[str] = set()
    optional: set[str] = set()
    for each in pickling.functions_in(func, by_value):
        names, guarded = imports.names_in_tree(imports.parse(_source(each)))
        optional |= guarded
        needed |= names - guarded
    return optional - needed


def _roots(func: object) -> Iterator[object]:
    """The callable, and the callables that it is made of: what its decorators, partials and methods wrap."""
    waiting, seen = [func], set()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += filter(callable, _inner(each))


def _inner(func: object) -> list[object]:
    if isinstance(func, functools.partial):
        return [func.func]
    if isinstance(func, MethodType):
        owner = func.__self__
        return [func.__func__, owner if isinstance(owner, type) else type(owner)]
    wrapped = [func.__wrapped__] if hasattr(func, "__wrapped__") else []
    if isinstance(func, FunctionType):
        return wrapped + [value for value in _closure(func) if isinstance(value, _FUNCTIONS)]
    return wrapped if isinstance(func, type) else [*wrapped, type(func)]


def _closure(func: FunctionType) -> Iterator[object]:
    for cell in func.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:
            continue


def _own_modules(func: object) -> set[str]:
    from cloudknot.program.local_modules import is_local_cached

    names = {getattr(each, "__module__", None) for each in _roots(func)}
    return {name for name in names if name in sys.modules and name != "__main__" and is_local_cached(name)}


def _innermost(func: object) -> object:
    """What a reader would call the function: inside partials, methods and decorators."""
    while True:
        if isinstance(func, functools.partial):
            func = func.func
        elif isinstance(func, MethodType):
            func = func.__func__
        elif hasattr(func, "__wrapped__"):
            func = func.__wrapped__
        else:
            return func


def _signature(func: Callable[..., object]) -> inspect.Signature | None:
    try:
        return inspect.signature(func)
    except (TypeError, ValueError):
        return None


def _name(func: object) -> str:
    inner = _innermost(func)
    return str(getattr(inner, "__name__", type(inner).__name__))


def _code(func: object) -> CodeType | None:
    inner = _innermost(func)
    if not isinstance(inner, (FunctionType, type)):
        inner = _innermost(type(inner).__call__)
    code = getattr(inner, "__code__", None)
    return code if isinstance(code, CodeType) else None


def _source(func: object) -> str:
    inner = _innermost(func)
    if not isinstance(inner, (FunctionType, type)):
        inner = type(inner)
    try:
        return textwrap.dedent(inspect.getsource(inner))
    except (OSError, TypeError, IndexError, SyntaxError):
        return ""
