"""Write wheels so that the same content always gives the same bytes. No I/O."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cloudknot.program.files.leftovers import is_leftover
from cloudknot.program.files.modes import is_program
from cloudknot.program.files.text import portable
from cloudknot.program.packages.lock import LocalWheel

FORMAT = 2
"""The number of changes to `write_wheel` that change a wheel. Earlier wheels in the cache are not used."""
# The first moment that a zip file can name.
_DATE = (1980, 1, 1, 0, 0, 0)
_RECORDS = ("RECORD", "RECORD.jws", "RECORD.p7s")
# The version of the build backend says nothing about the package, and differs between machines.
_GENERATOR = re.compile(rb"^Generator:.*$", re.MULTILINE)


@dataclass(frozen=True)
class WheelFile:
    """The content of a file in a wheel, and whether it is executable."""

    content: bytes
    is_executable: bool = False


def read_wheel(content: bytes) -> dict[str, WheelFile]:
    """Return the files of a wheel by path, without its RECORD."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {
            entry.filename: WheelFile(archive.read(entry), bool(entry.external_attr >> 16 & 0o100))
            for entry in archive.infolist()
            if not entry.is_dir() and not _is_record(entry.filename)
        }


def write_wheel(files: Mapping[str, WheelFile]) -> LocalWheel:
    """Return a wheel with these files. The file ``WHEEL`` must be among them, because it names the wheel's tags."""
    from packaging.utils import canonicalize_name

    folder = next(path.partition("/")[0] for path in files if path.endswith(".dist-info/WHEEL"))
    wheel = _GENERATOR.sub(b"Generator: cloudknot", files[f"{folder}/WHEEL"].content)
    kept = (path for path in files if not any(map(is_leftover, path.split("/"))))
    contents = {path: _portable(path, files[path]) for path in kept}
    contents[f"{folder}/WHEEL"] = WheelFile(wheel)
    # The metadata comes last, as the specification recommends.
    ordered = sorted(contents, key=lambda path: (path.startswith(f"{folder}/"), path))
    record = f"{folder}/RECORD"
    buffer = io.BytesIO()
    # Stored, not deflated: versions of zlib compress the same content to different bytes.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path in ordered:
            _add(archive, path, contents[path])
        _add(archive, record, WheelFile(_record(record, {path: contents[path].content for path in ordered})))
    stem = folder.removesuffix(".dist-info")
    name, _, version = stem.rpartition("-")
    filename = f"{stem}-{_tag(wheel.decode())}.whl"
    return LocalWheel(canonicalize_name(name), version, filename, buffer.getvalue())


def _portable(path: str, file: WheelFile) -> WheelFile:
    """Return a file as a wheel made on any other system has it."""
    return WheelFile(portable(path, file.content), file.is_executable or is_program(file.content))


def modules_in(files: Mapping[str, WheelFile]) -> set[str]:
    """Return the names of all modules and packages in a wheel, for example ``"mylab.config"``."""
    return {name for path in files for name in _names_of(path)}


def _names_of(path: str) -> Iterator[str]:
    """Yield the module in a file, and the packages above it."""
    parts = path.split("/")
    if ".data" in parts[0] and len(parts) > 2 and parts[1] in ("purelib", "platlib"):
        parts = parts[2:]
    stem, _, suffix = parts[-1].partition(".")
    if parts[0].endswith((".dist-info", ".data")) or suffix.rpartition(".")[2] not in ("py", "so", "pyd"):
        return
    names = [*parts[:-1], *([] if stem == "__init__" else [stem])]
    yield from (".".join(names[:end]) for end in range(1, len(names) + 1))


def _add(archive: zipfile.ZipFile, path: str, file: WheelFile) -> None:
    entry = zipfile.ZipInfo(path, _DATE)
    # 3 is Unix, whatever system writes the wheel: the other systems' entries have no modes.
    entry.create_system = 3
    entry.external_attr = (0o100755 if file.is_executable else 0o100644) << 16
    archive.writestr(entry, file.content)


def _record(path: str, contents: Mapping[str, bytes]) -> bytes:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    for name, content in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.writerow((name, f"sha256={digest}", len(content)))
    rows.writerow((path, "", ""))
    return text.getvalue().encode()


def _is_record(path: str) -> bool:
    folder, _, name = path.partition("/")
    return folder.endswith(".dist-info") and name in _RECORDS


def _tag(wheel: str) -> str:
    """Return the tags of a wheel in the form of its file name: ``"py2.py3-none-any"``."""
    tags = [line.partition(":")[2].strip().split("-") for line in wheel.splitlines() if line.startswith("Tag:")]
    return "-".join(".".join(sorted(set(part))) for part in zip(*tags, strict=True))
