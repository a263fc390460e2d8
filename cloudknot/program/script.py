"""Make a program from a command-line script, in place of a function.

Each element of a map becomes the script's command line, and its standard output becomes the result.
`cloudknot_worker.program.script` runs it in the job.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable
from importlib.util import decode_source
from os import PathLike
from pathlib import Path

from cloudknot.errors import CloudknotInputError, refuse
from cloudknot.program import imports, local_modules, named_modules
from cloudknot.program.files.names import has_file
from cloudknot.program.files.text import portable
from cloudknot.program.fingerprint import combine
from cloudknot.program.packages.wheels.local_wheels import owner_of
from cloudknot.program.program import Program, flat
from cloudknot.program.requirements import Requirements, from_imports, from_user, refuse_elsewhere, with_local


def make_script(path: str | Path, requirements: Iterable[str] | str | PathLike[str] | None = None) -> Program:
    """Make a program from a script: a ``.py`` file, or any text file with a ``#!`` line.

    Parameters
    ----------
    path : path
        The script. Python modules beside it travel with it if it imports them.
    requirements : iterable of str, str, or path, optional
        pip requirement lines. Default: derived from the imports of a Python script.

    Raises
    ------
    CloudknotInputError
        The file cannot be read, is not valid Python, or names no interpreter.
    """
    script = Path(path).expanduser()
    files = {script.name: _read(script)}
    chosen = Requirements(()) if requirements is None else from_user(requirements)
    local = local_modules.LocalModules()
    if script.suffix == ".py":
        external, optional = _follow(script, files)
        # A local package may import more than it declares.
        local = local_modules.collect(name for name in external if local_modules.package_of(name))
        if requirements is None:
            chosen = from_imports(external | local.external, optional | local.optional)
            refuse_elsewhere(chosen, f"The script {script.name}")
    chosen = with_local(chosen, local.packages)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    modules = dict(sorted(files.items()))
    return Program(
        name=script.name,
        pickled=b"",
        source=_text(script.name, files[script.name]),
        filename="",
        firstlineno=0,
        modules=modules,
        requirements=chosen.lines,
        imports=chosen.imports,
        missing=chosen.missing,
        python=python,
        digest=combine([python, script.name, *flat(modules), "|", *chosen.lines, "|", *chosen.local]),
        script=script.name,
        paths=tuple(path for path in modules if path != script.name and path.encode() in b"\n".join(modules.values())),
        found_here=requirements is None,
        local_packages=chosen.local,
    )


def _read(file: Path) -> bytes:
    try:
        content = portable(file.name, file.read_bytes())
    except OSError as error:
        raise CloudknotInputError(f"The script cannot be read: {error}. Check its path and permissions.") from error
    if file.suffix != ".py" and not content.startswith(b"#!"):
        refuse(
            problem=f"The script {file} does not name its interpreter.",
            fix="Begin the script with a line such as '#!/bin/sh', or rename a Python script to end in '.py'.",
        )
    return content


def _source(file: Path) -> bytes:
    return portable(file.name, file.read_bytes())


def _text(name: str, content: bytes) -> str:
    """Return the text of a script. Python's scripts may name their encoding in a comment."""
    try:
        return decode_source(content) if name.endswith(".py") else content.decode("utf-8", "replace")
    except (SyntaxError, UnicodeDecodeError):
        return content.decode("utf-8", "replace")


def _follow(script: Path, files: dict[str, bytes]) -> tuple[set[str], set[str]]:
    """Add the modules beside a script that it imports or names as text, directly or through each other.

    Returns the names of imports that are not beside it, and the names of optional imports.
    """
    external: set[str] = set()
    optional: set[str] = set()
    seen: set[str] = set()
    waiting = [(script, "", True)]
    while waiting:
        file, package, is_imported = waiting.pop()
        tree = _parse(file)
        names, guarded = imports.names_in_tree(tree, package)
        named = _named_beside(script.parent, tree, package)
        optional |= guarded
        for name in (names | named) - seen:
            seen.add(name)
            beside = _files_beside(script.parent, name)
            top = beside or _files_beside(script.parent, name.partition(".")[0])
            if not top or owner_of(name.partition(".")[0], top[0][0].absolute()):
                external.add(name)
                # A text may be the name of a module by accident. So imports of such a module are optional.
                optional |= set() if is_imported else {name}
                continue
            files |= {module.relative_to(script.parent).as_posix(): _source(module) for module, _ in beside}
            waiting += [(*found, is_imported and name in names) for found in beside]
    return external, optional


def _named_beside(folder: Path, tree: ast.AST, package: str) -> set[str]:
    """Return the modules beside a script that a parsed source names as text."""
    found: set[str] = set()
    for word in named_modules.in_tree(tree, package):
        name = word.removesuffix(".py").replace("/", ".").rstrip(".")
        # `python -m pkg` runs pkg/__main__.py.
        names = [name, f"{name}.__main__"]
        if word.endswith("."):
            inside = sorted(folder.joinpath(*name.split(".")).rglob("*.py"))
            names += [".".join(file.relative_to(folder).with_suffix("").parts) for file in inside]
        found.update(name for name in names if _is_beside(folder, name))
    return found


def _is_beside(folder: Path, name: str) -> bool:
    """Return whether a module itself, and not only a package around it, is beside a script."""
    *parents, last = name.split(".")
    return has_file(folder, *parents, f"{last}.py") or has_file(folder, *parents, last, "__init__.py")


def _parse(file: Path) -> ast.AST:
    # imports.parse leaves out blocks under `if __name__ == "__main__"`, but these do run in a script.
    try:
        return imports.syntax_tree(_source(file), file.name)
    except (SyntaxError, ValueError) as error:
        raise CloudknotInputError(f"{file} is not valid Python: {error}. Correct the file.") from error


def _files_beside(folder: Path, name: str) -> list[tuple[Path, str]]:
    """Return the files of a module and of its parent packages in a folder, each with the package it is in."""
    files = []
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        *parents, last = parts[:end]
        package, base = ".".join(parts[:end]), folder.joinpath(*parents)
        if has_file(folder, *parents, last, "__init__.py"):
            files.append((base / last / "__init__.py", package))
        elif has_file(folder, *parents, f"{last}.py"):
            files.append((base / f"{last}.py", package.rpartition(".")[0]))
    return files
