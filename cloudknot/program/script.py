"""Make a program from a command-line script, in place of a function.

Each element of a map becomes the script's command line, and its standard output becomes the result.
`cloudknot_worker.program.script` runs it in the job.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable
from pathlib import Path

from cloudknot.errors import CloudknotInputError, refuse
from cloudknot.program import imports
from cloudknot.program.fingerprint import combine
from cloudknot.program.program import Program
from cloudknot.program.requirements import Requirements, from_imports, from_user


def make_script(path: str | Path, requirements: Iterable[str] | Path | None = None) -> Program:
    """Make a program from a script: a ``.py`` file, or any text file with a ``#!`` line.

    Parameters
    ----------
    path : path
        The script. Python modules beside it travel with it if it imports them.
    requirements : iterable of str, or Path, optional
        pip requirement lines. Default: derived from the imports of a Python script.

    Raises
    ------
    CloudknotInputError
        The file cannot be read, is not valid Python, or names no interpreter.
    """
    script = Path(path).expanduser()
    files = {script.name: _read(script)}
    chosen = Requirements(()) if requirements is None else from_user(requirements)
    if script.suffix == ".py":
        external, optional = _follow(script, files)
        chosen = from_imports(external, optional) if requirements is None else chosen
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    modules = dict(sorted(files.items()))
    return Program(
        name=script.name,
        pickled=b"",
        source=files[script.name].decode("utf-8", "replace"),
        filename="",
        firstlineno=0,
        modules=modules,
        requirements=chosen.lines,
        imports=chosen.imports,
        missing=chosen.missing,
        python=python,
        digest=combine(
            [python, script.name, *(part for item in modules.items() for part in item), "|", *chosen.lines]
        ),
        script=script.name,
        found_here=requirements is None,
    )


def _read(file: Path) -> bytes:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise CloudknotInputError(f"The script cannot be read: {error}. Check its path and permissions.") from error
    if file.suffix != ".py" and not content.startswith(b"#!"):
        refuse(
            problem=f"The script {file} does not name its interpreter.",
            fix="Begin the script with a line such as '#!/bin/sh', or rename a Python script to end in '.py'.",
        )
    return content


def _follow(script: Path, files: dict[str, bytes]) -> tuple[set[str], set[str]]:
    """Add the modules beside a script that it imports, directly or through each other.

    Returns the names of imports that are not beside it, and the names of optional imports.
    """
    external: set[str] = set()
    optional: set[str] = set()
    seen: set[str] = set()
    waiting = [(script, "")]
    while waiting:
        file, package = waiting.pop()
        names, guarded = imports.names_in_tree(_parse(file), package)
        optional |= guarded
        for name in names - seen:
            seen.add(name)
            beside = _files_beside(script.parent, name)
            files |= {module.relative_to(script.parent).as_posix(): module.read_bytes() for module, _ in beside}
            waiting += beside
            if not _files_beside(script.parent, name.partition(".")[0]):
                external.add(name)
    return external, optional


def _parse(file: Path) -> ast.AST:
    # imports.parse leaves out blocks under `if __name__ == "__main__"`, but these do run in a script.
    try:
        with imports.PARSING:
            return ast.parse(file.read_bytes(), file.name)
    except (SyntaxError, ValueError) as error:
        raise CloudknotInputError(f"{file} is not valid Python: {error}. Correct the file.") from error


def _files_beside(folder: Path, name: str) -> list[tuple[Path, str]]:
    """Return the files of a module and of its parent packages in a folder, each with the package it is in."""
    files = []
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        base, package = folder.joinpath(*parts[:end]), ".".join(parts[:end])
        if (base / "__init__.py").is_file():
            files.append((base / "__init__.py", package))
        elif base.with_name(f"{base.name}.py").is_file():
            files.append((base.with_name(f"{base.name}.py"), package.rpartition(".")[0]))
    return files
