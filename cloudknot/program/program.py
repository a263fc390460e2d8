"""Make a `Program`: the user's function, everything that it needs in a job, and its digest.

This module does no network I/O, and inspects the user's code without executing it.
"""

from __future__ import annotations

import functools
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from os import PathLike
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING

from cloudknot.errors import CloudknotInputError, refuse
from cloudknot.program.inputs.missing_modules import missing_in_job
from cloudknot.program.inputs.random_state import warn_of_generators

if TYPE_CHECKING:
    from cloudknot.program.checks.changed_modules import ModuleState
    from cloudknot.program.checks.log_settings import LogSetting
    from cloudknot.program.fingerprint import Fingerprint
    from cloudknot.program.local_modules import LocalModules
    from cloudknot.program.pickling import MissingModules
    from cloudknot.program.requirements import Requirements

_FUNCTION_TYPES = (FunctionType, MethodType, functools.partial)


@dataclass(frozen=True)
class Program:
    """A function that can travel, and everything that it needs in a job.

    Attributes
    ----------
    name : str
        The function's name for people. For a partial, the name of the function inside.
    pickled : bytes
        The callable, pickled by value. The bytes differ between sessions, the ``digest`` does not.
    source : str
        Dedented source code, for people and tracebacks. Empty if it cannot be found.
    filename, firstlineno : str, int
        Origin of the source code, so that tracebacks in a job can show it. Empty and 0 without a code object.
    modules : mapping of str to bytes
        Source files of the local modules that travel, by path: ``"helper.py"``, ``"pkg/util.py"``.
    requirements : tuple of str
        pip requirement lines, sorted.
    imports : tuple of str
        Imported top-level names that installed distributions provide.
    missing : tuple of str
        Imported top-level names that are not installed here, but are in pipreqs' table.
    local_packages : tuple of str
        Canonical names of the packages that did not come from an index. They travel as wheels.
    python : str
        The minor version of Python that the pickle needs, for example ``"3.11"``.
    digest : str
        SHA-256 in hexadecimal. It is the same for the same function in every session, and changes with anything above
        that affects the function's behaviour.
    by_value : tuple of str
        Local modules with functions and classes that travel by value. Inputs must be pickled with the same modules
        (`pickle_value`), so that a class is the same in the function and in its input.
    paths : tuple of str
        Those of the ``modules`` that the function names by path. They are in the job's working directory, too.
    names : mapping of str to tuple of str
        Names of functions that travel by value, by the module in which they have them: ``{"sim": ("area",)}``.
    script : str
        Path, among the ``modules``, of the script that is the program in place of a function. Empty for a function.
    found_here : bool
        Whether cloudknot found the requirements, in the versions installed here, because the user wrote none.
    signature : inspect.Signature or None
        The function's signature, where Python can find it. For a decorated function, that of the function inside.
    call_signature : inspect.Signature or None
        The signature of the calls: the decorator's own, which may take other arguments than the function inside.
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
    paths: tuple[str, ...] = ()
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    script: str = ""
    found_here: bool = False
    signature: inspect.Signature | None = None
    call_signature: inspect.Signature | None = None
    local_packages: tuple[str, ...] = ()
    state: ModuleState | None = None

    @functools.cached_property
    def missing_modules(self) -> MissingModules:
        """The user's own modules that a job of this program cannot import."""
        return missing_in_job(self.modules, self.by_value, self.local_packages)


def make_program(
    func: Callable[..., object],
    requirements: Iterable[str] | str | PathLike[str] | None = None,
    *,
    image_has_more: bool = False,
) -> Program:
    """Collect everything that a function needs to run in a job.

    Parameters
    ----------
    func : callable
        A function, method, partial, class, or object with ``__call__``.
    requirements : iterable of str, str, or path, optional
        pip requirement lines, or a file that contains them. Default: derived from the function's imports.
    image_has_more : bool
        Whether the image gets more than the requirements, for example from its own base image. An unknown import may
        then work, so it is a warning and not an error.

    Raises
    ------
    CloudknotInputError
        ``func`` is not callable, is asynchronous, or cannot be pickled. A line of ``requirements`` is not a
        requirement. Without ``requirements``: an import has no known package.
    """
    from cloudknot.program.fingerprint import combine
    from cloudknot.program.requirements import from_user, with_local

    _check(func)
    by_value = tuple(sorted(_own_modules(func)))
    pickled, fingerprint, local, state = _pack(func, by_value)
    warn_of_generators(func, _name(func))
    source = _source(func)
    chosen = _scan(func, source, local, by_value, image_has_more) if requirements is None else from_user(requirements)
    chosen = with_local(chosen, local.packages)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    files = dict(sorted(local.files.items()))
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
        # "|" separates files from requirements, so that neither can pass for the other.
        digest=combine([python, fingerprint.digest, *flat(files), "|", *chosen.lines, "|", *chosen.local]),
        by_value=by_value,
        paths=tuple(sorted(local.paths)),
        names={module: tuple(sorted(fingerprint.names.get(module, ()))) for module in ("__main__", *by_value)},
        found_here=requirements is None,
        signature=_signature(func, inside=True),
        call_signature=_signature(func, inside=False),
        local_packages=chosen.local,
        state=state,
    )


def flat(files: Mapping[str, bytes]) -> Iterator[str | bytes]:
    """Yield each path and its content, for a digest."""
    for path, content in files.items():
        yield path
        yield content


def _check(func: object) -> None:
    if not callable(func):
        refuse(
            problem=f"func={func!r} is not callable. Its type is {type(func).__name__}.",
            fix="Pass a function, without calling it: func=simulate.",
        )
    # An object with `async def __call__` is not itself a coroutine function, so its type's __call__ is checked too.
    parts = (func, type(func).__call__)
    if any(map(inspect.iscoroutinefunction, parts)):
        refuse(
            problem=f"{_name(func)!r} is an async function, but a job can only call plain functions.",
            fix=f"Wrap it: def run(*args): return asyncio.run({_name(func)}(*args))",
        )
    if any(map(inspect.isasyncgenfunction, parts)):
        refuse(
            problem=f"{_name(func)!r} is an async generator function, but a job can only call plain functions.",
            fix="Make it a plain function that returns a list.",
        )
    if any(map(inspect.isgeneratorfunction, parts)):
        # The call returns a generator before its first line runs, and no generator can be pickled.
        refuse(
            problem=f"{_name(func)!r} is a generator function (it has a yield), and a generator cannot leave a job.",
            fix=f"Return a list: def run(*args): return list({_name(func)}(*args))",
        )


def _pack(func: object, by_value: tuple[str, ...]) -> tuple[bytes, Fingerprint, LocalModules, ModuleState]:
    """Return the pickle of a function, its fingerprint, the local modules that it needs, and their state.

    The pickle also sets the names that have changed in these modules since their import.
    """
    from cloudknot.program import local_modules
    from cloudknot.program.checks.changed_modules import Changes, ModuleState, WithChanges, changes_in, warn_of_lost
    from cloudknot.program.checks.log_settings import log_settings

    changes, imported = Changes(), None
    settings: tuple[LogSetting, ...] = ()
    while True:
        root = WithChanges(func, settings, changes) if settings or changes.travelling else func
        pickled, fingerprint = _pickle(root, by_value)
        local = local_modules.collect(sorted(fingerprint.modules), by_value, fingerprint.named)
        if imported == local.needed.keys():
            break
        # A changed value may need further modules, which may have changed as well.
        changes, imported = changes_in(local.needed, local.packages, by_value), local.needed.keys()
        settings = log_settings(fingerprint.modules, local.needed.values(), local.names)
        if not settings and not changes.travelling:
            break
    warn_of_lost(changes)
    return pickled, fingerprint, local, ModuleState.of(local.needed, local.packages, by_value, changes)


def _pickle(func: object, by_value: tuple[str, ...]) -> tuple[bytes, Fingerprint]:
    """Return the pickle of a function, and its fingerprint."""
    from cloudknot.program import pickling
    from cloudknot.program.checks import pickle_errors, shell_magics
    from cloudknot.program.fingerprint import Fingerprint

    try:
        with pickling.by_value(by_value):
            fingerprint = Fingerprint(func)
            # Identities are set before pickling, because the pickle contains them.
            for class_id, cls in _class_ids(fingerprint.classes):
                pickling.set_identity(cls, class_id)
            pickled = pickling.dumps(func)
    except Exception as error:
        name, line = shell_magics.shell_line(func)
        if line:
            refuse(
                problem=f"The function {name!r} uses the shell of your notebook: `{line}`. A job has no such shell.",
                fix=shell_magics.without_shell(line),
            )
        culprit = pickle_errors.culprit(func, by_value)
        raise CloudknotInputError(
            f"{_name(func)} cannot be sent to a job: {culprit} cannot be pickled ({error}). Create that object inside "
            "the function, from arguments such as a file name or a number."
        ) from error
    return pickled, fingerprint


def _class_ids(classes: Iterable[type]) -> Iterator[tuple[str, type]]:
    """Yield each class with an identity that is the same in every session."""
    from cloudknot.program import pickling
    from cloudknot.program.fingerprint import Fingerprint

    counts: dict[str, int] = {}
    for cls in classes:
        content = Fingerprint(cls).digest
        # Classes of equal content are still different classes, so their number is part of the identity.
        counts[content] = counts.get(content, 0) + 1
        yield pickling.numbered_identity(content, counts[content]), cls


def _scan(
    func: object, source: str, local: LocalModules, by_value: tuple[str, ...], image_has_more: bool
) -> Requirements:
    """Derive the requirements from the imports of a function and of its local modules."""
    from cloudknot.program import imports
    from cloudknot.program import requirements as pip_requirements
    from cloudknot.program.local_modules import is_local_cached

    _, optional = imports.names_in_tree(imports.parse(source))
    scanned = {name for name in pip_requirements.scan([source, *local.needed.values()]) if not is_local_cached(name)}
    names = local.external | scanned
    requirements = pip_requirements.from_imports(names, local.optional | optional)
    if requirements.missing or requirements.unknown or requirements.elsewhere:
        # Helper functions may guard these imports. Finding them pickles the function again, so only when needed.
        requirements = pip_requirements.from_imports(names, local.optional | optional | _guarded(func, by_value))
    pip_requirements.refuse_elsewhere(requirements, f"The function {_name(func)!r}")
    pip_requirements.refuse_unknown(requirements, _name(func), image_has_more)
    pip_requirements.warn_missing(requirements)
    return requirements


def _guarded(func: object, by_value: tuple[str, ...]) -> set[str]:
    """Return the names that the pickled functions import only where they catch an ``ImportError``."""
    from cloudknot.program import imports, pickling

    needed: set[str] = set()
    optional: set[str] = set()
    for function in pickling.functions_in(func, by_value):
        names, guarded = imports.names_in_tree(imports.parse(_source(function)))
        optional |= guarded
        needed |= names - guarded
    return optional - needed


def _roots(func: object) -> Iterator[object]:
    """Yield the callable, and the callables inside its decorators, partials and methods."""
    waiting, seen = [func], set()
    while waiting:
        root = waiting.pop()
        if id(root) in seen:
            continue
        seen.add(id(root))
        yield root
        waiting += filter(callable, _inner(root))


def _inner(func: object) -> list[object]:
    if isinstance(func, functools.partial):
        return [func.func]
    if isinstance(func, MethodType):
        owner = func.__self__
        return [func.__func__, owner if isinstance(owner, type) else type(owner)]
    wrapped = [func.__wrapped__] if hasattr(func, "__wrapped__") else []
    if isinstance(func, FunctionType):
        # A decorator without functools.wraps holds the decorated function in its closure only.
        return wrapped + [value for value in _closure(func) if isinstance(value, _FUNCTION_TYPES)]
    return wrapped if isinstance(func, type) else [*wrapped, type(func)]


def _closure(func: FunctionType) -> Iterator[object]:
    for cell in func.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:
            # The cell is empty: its variable has no value yet.
            continue


def _own_modules(func: object) -> set[str]:
    """Return the user's modules in which the callable and the callables inside it are defined."""
    from cloudknot.program.local_modules import is_editable, is_local_cached

    # They travel by value, because importing such a module in the job would run its top-level code, and that may make
    # a Knot. A module of an editable package is imported in the job from its wheel, if it cannot make one.
    names = {getattr(root, "__module__", None) for root in _roots(func)}
    loaded = {name for name in names if name in sys.modules and name != "__main__"}
    return {name for name in loaded if is_local_cached(name) or (is_editable(name) and _uses_cloudknot(name))}


def _uses_cloudknot(name: str) -> bool:
    """Return whether a module is being imported still, or has a name for something of cloudknot."""
    module = sys.modules[name]
    package = __name__.partition(".")[0]
    homes = (
        value.__name__ if isinstance(value, ModuleType) else getattr(type(value), "__module__", "")
        for value in list(vars(module).values())
    )
    return getattr(module.__spec__, "_initializing", False) or any(
        isinstance(home, str) and home.partition(".")[0] == package for home in homes
    )


def _innermost(func: object) -> object:
    """Return the function inside partials, methods and decorators, the one that people would name."""
    while True:
        if isinstance(func, functools.partial):
            func = func.func
        elif isinstance(func, MethodType):
            func = func.__func__
        elif hasattr(func, "__wrapped__"):
            func = func.__wrapped__
        else:
            return func


def _signature(func: Callable[..., object], *, inside: bool) -> inspect.Signature | None:
    """Return a signature; None if Python finds none. ``inside``: of the function inside decorators."""
    while isinstance(func, functools._lru_cache_wrapper):
        # It passes its arguments on.
        func = func.__wrapped__
    try:
        return inspect.signature(func, follow_wrapped=inside)
    except Exception:
        # From Python 3.14 on this evaluates annotations, and a `__signature__` is the user's code.
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
