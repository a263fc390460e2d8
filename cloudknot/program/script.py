"""A command-line script of the user's as the program, in place of a function.

An element of a map is what stands on its command line, and what it prints on standard output is the result: see
`cloudknot_worker.script` for the other half.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable
from pathlib import Path

from cloudknot.errors import CloudknotInputError
from cloudknot.program import imports
from cloudknot.program import requirements as needs
from cloudknot.program.fingerprint import combine
from cloudknot.program.program import Program


def make_script(path: str | Path, requirements: Iterable[str] | Path | None = None) -> Program:
    """Make a program of a script: ``name.py``, or any text file whose first line is ``#!`` and an interpreter.

    Parameters
    ----------
    path : path
        Python modules beside a Python script that it imports travel with it.
    requirements : iterable of str, or Path, optional
        pip requirement lines. Default: found from the imports of a Python script.

    Raises
    ------
    CloudknotInputError
        The file cannot be read, or it is neither a Python file nor a script that names its interpreter.
    """
    file = Path(path).expanduser()
    files = {file.name: _read(file)}
    found = needs.Requirements(())
    if file.suffix == ".py":
        outside, optional = _follow(file, files)
        found = needs.found(outside, optional) if requirements is None else found
    chosen = found if requirements is None else needs.given(requirements)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    ordered = dict(sorted(files.items()))
    return Program(
        name=file.name,
        pickled=b"",
        source=files[file.name].decode("utf-8", "replace"),
        filename="",
        firstlineno=0,
        modules=ordered,
        requirements=chosen.lines,
        imports=chosen.imports,
        missing=chosen.missing,
        python=python,
        digest=combine([python, file.name, *(part for item in ordered.items() for part in item), "|", *chosen.lines]),
        script=file.name,
    )


def _read(file: Path) -> bytes:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise CloudknotInputError(f"The script cannot be read: {error}") from error
    if file.suffix != ".py" and not content.startswith(b"#!"):
        raise CloudknotInputError(
            f"{file} does not say what runs it. Begin it with a line such as '#!/bin/sh', or name it *.py."
        )
    return content


def _follow(script: Path, files: dict[str, bytes]) -> tuple[set[str], set[str]]:
    """Add the modules beside a script that it imports, and those that they import; return the names of the others."""
    outside: set[str] = set()
    optional: set[str] = set()
    seen: set[str] = set()
    waiting = [(script, "")]
    while waiting:
        file, package = waiting.pop()
        names, without = imports.names_in_tree(_parsed(file), package)
        optional |= without
        for name in names - seen:
            seen.add(name)
            beside = _beside(script.parent, name)
            files |= {each.relative_to(script.parent).as_posix(): each.read_bytes() for each, _ in beside}
            waiting += beside
            if not _beside(script.parent, name.partition(".")[0]):
                outside.add(name)
    return outside, optional


def _parsed(file: Path) -> ast.AST:
    # What stands under `if __name__ == "__main__"` does run in a script, so that imports.parse will not do.
    try:
        with imports.PARSING:
            return ast.parse(file.read_bytes())
    except (SyntaxError, ValueError) as error:
        raise CloudknotInputError(f"{file} is not Python that can be read: {error}") from error


def _beside(folder: Path, name: str) -> list[tuple[Path, str]]:
    """The files of a module in a folder, each with its package: its own file and those of the packages it is in."""
    found = []
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        base, package = folder.joinpath(*parts[:end]), ".".join(parts[:end])
        if (base / "__init__.py").is_file():
            found.append((base / "__init__.py", package))
        elif base.with_name(f"{base.name}.py").is_file():
            found.append((base.with_name(f"{base.name}.py"), package.rpartition(".")[0]))
    return found
