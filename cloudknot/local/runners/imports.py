"""The packages that every job of an image imports, found in the image's files without running any of its code."""

from __future__ import annotations

import ast
import pickletools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

PACKAGES = frozenset(
    {
        "PIL",
        "dipy",
        "h5py",
        "matplotlib",
        "networkx",
        "nibabel",
        "numpy",
        "pandas",
        "scipy",
        "skimage",
        "tifffile",
        "xarray",
    }
)
"""Packages that a fork server may import for all of its children, besides the standard library."""
# None of them seeds a generator of random numbers in compiled code at its import. All children would share its state,
# and Python could not see it. The fork server finds all other obstacles itself.

STANDARD = sys.stdlib_module_names - {"__main__", "antigravity", "idlelib", "this", "tkinter", "turtle", "turtledemo"}
"""Modules of the standard library, without those that print, open windows or ask for a display."""

LARGEST_PICKLE = 4 * 1024 * 1024
"""Bytes. The parser takes a second for some megabytes, and longer than the imports of all jobs for more."""

Imports = dict[str, set[str]]
"""Names that are imported from modules, by the module."""


def imports_of(image: Path) -> Imports:
    """Return the imports from `PACKAGES` and `STANDARD` that every job makes, as far as an image's files show them."""
    program = image / "program"
    own = {path.stem for path in (program / "modules").glob("*")}
    imports: Imports = {}
    for module, names in _all_imports(program):
        top = module.partition(".")[0]
        # A user's own module goes before an installed package of the same name.
        if top in (PACKAGES | STANDARD) and top not in own:
            imports.setdefault(module, set()).update(names)
    return imports


def _all_imports(program: Path) -> Iterator[tuple[str, Iterable[str]]]:
    pickled = program / "function.pkl"
    # A script has an empty pickle, and runs in an interpreter of its own.
    if not pickled.is_file() or not 0 < pickled.stat().st_size <= LARGEST_PICKLE:
        return
    for module in _pickled_modules(pickled.read_bytes()):
        yield module, ()
    for statement in _statements(program / "function.py"):
        if isinstance(statement, ast.FunctionDef):
            yield from _imports(statement.body)
    for path in (program / "modules").rglob("*.py"):
        yield from _imports(_statements(path))


def _statements(path: Path) -> list[ast.stmt]:
    try:
        return ast.parse(path.read_text(encoding="utf-8")).body
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return []


def _imports(statements: Iterable[ast.stmt]) -> Iterator[tuple[str, Iterable[str]]]:
    """Yield the imports among some statements, but none inside ``if``, ``try`` or a function: they may not happen."""
    for statement in statements:
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                yield alias.name, ()
        elif isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
            yield statement.module, [alias.name for alias in statement.names if alias.name != "*"]


def _pickled_modules(pickled: bytes) -> Iterator[str]:
    """Yield the modules of the objects to which a pickle refers, and the modules that it imports by name."""
    # The strings in the order in which the pickle pushes them, and those that it can push again from its memo.
    pushed, memo = [""], []
    for operation, argument, _ in pickletools.genops(pickled):
        if operation.name == "MEMOIZE":
            memo.append(pushed[-1])
        elif operation.name == "STACK_GLOBAL":
            yield pushed[-2]
        elif isinstance(argument, str) or "BINGET" in operation.name:
            pushed.append(argument if isinstance(argument, str) else memo[int(argument or 0)])
            # The argument of importlib.import_module.
            if pushed[-2] == "import_module":
                yield pushed[-1]
