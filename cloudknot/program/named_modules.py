"""Find the modules that code names as text: ``import_module("core.hello")``, ``python -m tool``, ``tool.py``.

The name of a local package's script stands for the module of its entry point.
Only code that can use such a name is searched: code that mentions `importlib`, `runpy`, `subprocess` or the like. The
texts are its constants, and the global variables that it reads. Executes and imports nothing.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterable, Iterator
from types import FunctionType, ModuleType

from cloudknot.program import imports
from cloudknot.program.packages.distributions import modules_of_scripts

USERS = frozenset(
    {
        *("__import__", "import_module", "find_spec", "resolve_name", "run_module", "run_path"),
        *(
            "subprocess",
            "executable",
            "Popen",
            "check_call",
            "check_output",
            "popen",
            "getoutput",
            "getstatusoutput",
            "system",
        ),
        *("create_subprocess_exec", "create_subprocess_shell", "iter_modules", "walk_packages"),
    }
)
"""Names of functions and values whose users may name modules as text."""
LISTERS = frozenset({"iter_modules", "walk_packages"})
"""Those of them that list the modules of a package."""
LONGEST = 1000
"""Characters of the longest text that is searched."""

_MODULE = re.compile(r"(\.*[^\W\d]\w*(?:\.[^\W\d]\w*)*\.?|\.+)(?::[\w.]*)?")
_WORD = re.compile(r"[^\s;,()='\"]+")
_FILE = re.compile(r"(?:\./)?([\w-]+(?:/[\w-]+)*\.py)")


def in_function(function: FunctionType) -> set[str]:
    """Return the words of a function and of those inside it that may name modules.

    A package has a dot at its end if all of its modules may be meant. A file is a path such as ``"tool.py"``.
    """
    codes = list(imports.nested_codes(function.__code__))
    used = {name for code in codes for name in code.co_names}
    values = [function.__globals__.get(name) for name in used]
    # After `from subprocess import run` or `import subprocess as sp`, the code names only `run` or `sp`.
    used |= {value.__module__ for value in values if isinstance(value, FunctionType)}
    used |= {value.__name__ for value in values if isinstance(value, ModuleType)}
    if not used & USERS:
        return set()
    texts = [text for code in codes for text in _texts(code.co_consts)]
    package = function.__globals__.get("__package__") or ""
    package = package if isinstance(package, str) else ""
    listed: set[str] = set()
    if used & LISTERS:
        modules = (value.__name__ for value in values if isinstance(value, ModuleType))
        listed = {f"{name}." for name in (*modules, *imports.names_in_code(function.__code__, package))}
    return listed | _names([*texts, *_texts(values)], package)


def in_tree(tree: ast.AST, package: str = "") -> set[str]:
    """Return what a parsed source may name; see `in_function`."""
    nodes = list(ast.walk(tree))
    used = {getattr(node, "attr", getattr(node, "id", "")) for node in nodes}
    imported = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    used |= {getattr(node, "module", None) or "" for node in imported} | {
        alias.name for node in imported for alias in node.names
    }
    if not used & USERS:
        return set()
    listed = {f"{name}." for name in imports.names_in_tree(tree, package)[0]} if used & LISTERS else set()
    return listed | _names(_texts(node.value for node in nodes if isinstance(node, ast.Constant)), package)


def _texts(values: Iterable[object]) -> Iterator[str]:
    """Yield the texts among some values, and inside the usual containers among them."""
    for value in values:
        if type(value) is str and len(value) <= LONGEST:
            yield value
        elif type(value) in (list, tuple, set, frozenset) and len(value) <= LONGEST:  # type: ignore[arg-type]
            yield from (item for item in value if type(item) is str)  # type: ignore[attr-defined]
        elif type(value) is dict and len(value) <= LONGEST:
            yield from _texts([list(value), list(value.values())])


def _names(texts: Iterable[str], package: str) -> set[str]:
    # A command line is one text of several words, and so is a line of Python.
    words = {word for text in texts for word in _WORD.findall(text)}
    modules = {match[1] for word in words if (match := _MODULE.fullmatch(word))}
    files = {match[1] for word in words if (match := _FILE.fullmatch(word))}
    absolute = {name for name in modules if not name.startswith(".")}
    relative = modules - absolute
    # A relative name starts from the package beside it: import_module(".hello", "core").
    bases = {package, *absolute} if relative else set()
    scripts = modules_of_scripts()
    started = {scripts[word] for word in words & scripts.keys()}
    return absolute | files | started | {full for name in relative for base in bases for full in _resolved(name, base)}


def _resolved(name: str, base: str) -> Iterator[str]:
    dots = len(name) - len(name.lstrip("."))
    if not base or base.endswith(".") or dots > base.count(".") + 1:
        return
    full = importlib.util.resolve_name("." * dots + (name.strip(".") or "x"), base)
    # import_module(f".{name}", __package__): only the package is known.
    yield full.rpartition(".")[0] + "." if not name.strip(".") else full + "." * name.endswith(".")
