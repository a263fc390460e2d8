"""From imported names to pip requirement lines: the installed distributions, at their installed versions.

No package index is asked, and no name is taken for a package's: anybody may publish one by that name. An import that
no installed distribution provides is translated by pipreqs' own table, is not pinned, and is reported as missing; what
the table does not hold is unknown.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cloudknot.errors import CloudknotInputError
from cloudknot.program import imports, local_modules

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_ADDRESSES = ("git+", "http://", "https://")


@dataclass(frozen=True)
class Requirements:
    """What a job's environment needs.

    ``lines`` are pip requirement lines, sorted; ``imports`` the top-level names that installed distributions provide;
    ``missing`` those that none does, but that pipreqs' table translates; ``unknown`` those that nothing tells of.
    """

    lines: tuple[str, ...]
    imports: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def canonical(name: str) -> str:
    """Return a distribution's name as package indexes normalise it."""
    from packaging.utils import canonicalize_name

    return canonicalize_name(name)


def name_of(line: str) -> str:
    """Return the canonical name of the distribution in a requirement line; empty for a bare URL or an option."""
    wanted = _parse(line)
    return canonical(wanted.name) if wanted else ""


def without_pin(line: str) -> str:
    """Return a requirement line without its version, if that is a single exact one."""
    wanted = _parse(line)
    if wanted is None or wanted.marker or [each.operator for each in wanted.specifier] not in (["=="], ["==="]):
        return line
    wanted.specifier = type(wanted.specifier)()
    return str(wanted)


def _parse(line: str) -> Requirement | None:
    """Return the parsed line; None for a bare URL, an option, or no requirement at all."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        # pip takes options, such as hashes, behind a requirement.
        return Requirement(line.partition(" --")[0])
    except InvalidRequirement:
        return None


def given(choice: Iterable[str] | Path) -> Requirements:
    """Check requirements that the user wrote out.

    Parameters
    ----------
    choice : iterable of str, or Path
        Lines as pip takes them, or a file of such lines.

    Raises
    ------
    CloudknotInputError
        A line is no requirement, or the file cannot be read.
    """
    if isinstance(choice, str):
        raise CloudknotInputError(
            f"requirements= takes a list of lines such as ['numpy>=2'], not the string {choice!r}."
        )
    try:
        raw = choice.read_text().splitlines() if isinstance(choice, Path) else list(choice)
    except OSError as error:
        raise CloudknotInputError(f"The requirements file cannot be read: {error}") from error
    lines = [re.sub(r"(^|\s+)#.*$", "", _text(line)).strip() for line in raw]
    kept = dict.fromkeys(line for line in lines if line)
    for line in kept:
        if "\n" in line or not (name_of(line) or _is_address(line) or line.startswith("--")):
            raise CloudknotInputError(
                f"{line!r} in requirements= is not a requirement that pip takes. Write for example 'numpy==2.1.0'."
            )
    # Options such as an index keep their order and come first, for they hold for every line.
    return Requirements(tuple(sorted(kept, key=lambda line: (not line.startswith("--"), *_order(line)))))


def _is_address(line: str) -> bool:
    return line.startswith(_ADDRESSES) and len(line.split()) == 1


def _text(line: object) -> str:
    if not isinstance(line, str):
        raise CloudknotInputError(f"requirements= takes strings, not {line!r} (a {type(line).__name__}).")
    return line


def _order(line: str) -> tuple[str, str]:
    return ("", "") if line.startswith("--") else (name_of(line), line)


def scan(sources: Iterable[str | bytes]) -> set[str]:
    """Top-level names that pipreqs finds imported in some sources, without relative imports."""
    import tempfile

    from pipreqs.pipreqs import get_all_imports

    with tempfile.TemporaryDirectory() as folder:
        for number, source in enumerate(sources):
            # pipreqs takes a file's name for a module and hides its imports: the names here must be nobody's.
            path = Path(folder, f"cloudknot_scan_{number}.py")
            path.write_text(imports.absolute_source(source), encoding="utf-8")
        with imports.PARSING, _logging_untouched():
            return set(get_all_imports(folder, encoding="utf-8"))


@contextlib.contextmanager
def _logging_untouched() -> Iterator[None]:
    """Keep pipreqs from setting up the user's logging, which it does by its first message."""
    if logging.root.handlers:
        yield
        return
    nowhere = logging.NullHandler()
    logging.root.addHandler(nowhere)
    try:
        yield
    finally:
        logging.root.removeHandler(nowhere)


def found(names: Iterable[str], optional: Iterable[str] = ()) -> Requirements:
    """Requirements for imported names.

    Parameters
    ----------
    names : iterable of str
        Absolute module names, the deeper the better: ``google.cloud.storage`` tells more than ``google``.
    optional : iterable of str
        Names to pass over when they are not installed.
    """
    from importlib import metadata

    names, skippable = set(names), {name.partition(".")[0] for name in optional}
    providers = metadata.packages_distributions()
    lines: dict[str, str] = {}
    provided: set[str] = set()
    missing: set[str] = set()
    for name in sorted(names):
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top == "__main__":
            continue
        if owners := _owners(name, providers):
            provided.add(top)
            lines.update({canonical(owner): pin(owner) for owner in owners})
        elif not (top in providers or top in skippable or top in sys.modules or local_modules.find(top)):
            missing.add(top)
    known = packages(missing)
    lines = {name: name for name in map(canonical, known.values())} | lines
    unknown = missing - known.keys()
    return Requirements(
        tuple(lines[key] for key in sorted(lines)), tuple(sorted(provided)), tuple(known), tuple(sorted(unknown))
    )


def refuse_unknown(found: Requirements, function: str, elsewhere: bool = False) -> None:
    """Raise `CloudknotInputError` where a function imports what no package is known for.

    Where the image gets more than the requirements, which may bring it, that is a UserWarning.
    """
    if not found.unknown:
        return
    names = ", ".join(found.unknown)
    if elsewhere:
        warnings.warn(
            f"The function imports {names}, which is not installed here. {function} fails in a job unless the base "
            "image or what you install there brings it.",
            UserWarning,
            stacklevel=5,
        )
        return
    raise CloudknotInputError(
        f"The function imports {names}, which is not installed here, so {function} would fail in a job. No package is "
        "guessed from an import's name: install it, correct the import, or name its package: "
        "Knot(..., requirements=[...])."
    )


def warn_of_missing(found: Requirements) -> None:
    """A UserWarning for each package that is not installed here and was found in pipreqs' table."""
    for name, package in packages(found.missing).items():
        warnings.warn(
            f"The function imports {name}, which is not installed here. The job gets the newest {package}. If that is "
            "not what you mean, install it, correct the import, or give requirements=[...].",
            UserWarning,
            stacklevel=5,
        )


def _owners(name: str, providers: Mapping[str, list[str]]) -> list[str]:
    """The installed distributions that a module comes from: where several share its top-level name, by its file."""
    candidates = list(dict.fromkeys(providers.get(name.partition(".")[0], ())))
    if len(candidates) < 2:
        return candidates
    file = local_modules.file_of(local_modules.find(name))
    return [each for each in candidates if file and _owns(each, file)]


def _owns(distribution: str, file: Path) -> bool:
    from importlib import metadata

    about = metadata.distribution(distribution)
    return any(part.name == file.name and Path(str(about.locate_file(part))) == file for part in about.files or ())


def packages(names: Iterable[str]) -> dict[str, str]:
    """The canonical names of the packages that imports are of, for those that pipreqs' table translates, sorted."""
    names = sorted(names)
    if not names:
        return {}
    from pipreqs.pipreqs import get_pkg_names

    # A name that is not in the table comes back as it is.
    translated = {name: get_pkg_names([name])[0] for name in names}
    return {name: canonical(package) for name, package in translated.items() if package != name}


def pin(distribution: str) -> str:
    """The requirement line that installs a distribution as it is installed here.

    What came from version control or an archive's address is asked for from there again. A local version label
    (``2.1.0+cu121``) is dropped: package indexes hold public versions only, and which build fits depends on the image.
    """
    from importlib import metadata

    about = metadata.distribution(distribution)
    name = canonical(about.metadata["Name"])
    origin = json.loads(about.read_text("direct_url.json") or "{}")
    url = str(origin.get("url", ""))
    if "vcs_info" in origin:
        subdirectory = f"#subdirectory={origin['subdirectory']}" if origin.get("subdirectory") else ""
        return f"{name} @ {origin['vcs_info']['vcs']}+{url}@{origin['vcs_info']['commit_id']}{subdirectory}"
    if "archive_info" in origin and url.startswith("https://"):
        return f"{name} @ {url}"
    return f"{name}=={about.version.partition('+')[0]}"
