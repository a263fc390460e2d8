"""Write the files of a wheel to a layer, as an installer puts them into the environment.

See the PyPA specifications "Binary distribution format", "Recording installed projects" and "Entry points".
"""

from __future__ import annotations

import base64
import configparser
import csv
import hashlib
import io
import posixpath
import zipfile
from collections.abc import Iterator
from typing import IO

from cloudknot.errors import ImageError
from cloudknot.image.assembly.layers import layout
from cloudknot.image.assembly.layers.layer import LayerWriter

CHUNK = 1 << 20
_SCRIPT = """\
#!{python}
import sys
from {module} import {name}
if __name__ == "__main__":
    sys.exit({call}())
"""
_LOCAL_HEADER = 30
"""Bytes of a member's local header before its name (APPNOTE.TXT, section 4.3.7)."""
LARGEST_SCRIPT = 1 << 24
"""A script with more bytes is a program, and has no line with the place of Python."""


def write_wheel(file: IO[bytes], filename: str, python: str, layer: LayerWriter) -> None:
    """Write the files of a wheel to a layer: packages, scripts, data and metadata.

    Raises
    ------
    ImageError
        The file is not a valid wheel.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            _WheelReader(archive, file, filename, python).write(layer)
    except (zipfile.BadZipFile, configparser.Error, csv.Error, UnicodeDecodeError, KeyError, IndexError) as error:
        raise _invalid(filename, f"It cannot be read: {error}.") from error


def _invalid(filename: str, cause: str) -> ImageError:
    return ImageError(
        f"The file {filename} is not a valid wheel. {cause} Choose another version of the package in requirements=, "
        "or report the file to its authors."
    )


class _WheelReader:
    def __init__(self, archive: zipfile.ZipFile, file: IO[bytes], filename: str, python: str) -> None:
        self._archive, self._file, self._filename = archive, file, filename
        self._site = layout.site_packages(python)
        self._python = python
        self._members = {info.filename: info for info in archive.infolist() if not info.is_dir()}
        tops = {name.partition("/")[0] for name in self._members}
        folders = [top for top in tops if top.endswith(".dist-info")]
        if len(folders) != 1:
            raise _invalid(filename, f"It has {len(folders)} folders *.dist-info.")
        self._info = folders[0]
        self._data = f"{self._info.removesuffix('.dist-info')}.data/"

    def write(self, layer: LayerWriter) -> None:
        record = f"{self._info}/RECORD"
        rows = {row[0]: tuple(row[1:3]) for row in csv.reader(self._lines(record)) if len(row) >= 3}
        targets = sorted((self._target(name), name) for name in self._members if name != record)
        written: dict[str, tuple[str, ...]] = {}
        for target, name in targets:
            written[target] = self._write_member(layer, target, name) or rows.get(name, ("", ""))
        for target, text in self._entry_points():
            layer.file(target, text, mode=0o755)
            written[target] = _hash_and_size(text)
        # The record names itself without a hash.
        written[f"{self._site}/{record}"] = ("", "")
        layer.file(f"{self._site}/{record}", self._record(written))

    def _target(self, name: str) -> str:
        """Return the path in the image of one of the wheel's files."""
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/"):
            raise _invalid(self._filename, f"It holds the path {name!r}.")
        if not name.startswith(self._data):
            return f"{self._site}/{name}"
        scheme, _, path = name.removeprefix(self._data).partition("/")
        project = self._info.partition("-")[0]
        folders = {
            "purelib": self._site,
            "platlib": self._site,
            "scripts": f"{layout.ENVIRONMENT}/bin",
            "headers": f"{layout.ENVIRONMENT}/include/site/python{self._python}/{project}",
            "data": layout.ENVIRONMENT,
        }
        return f"{folders[scheme]}/{path}"

    def _write_member(self, layer: LayerWriter, target: str, name: str) -> tuple[str, str] | None:
        """Write one of the wheel's files. Return its hash and size if they differ from the wheel's record."""
        info = self._members[name]
        is_script = name.startswith(f"{self._data}scripts/")
        mode = 0o755 if is_script or (info.external_attr >> 16) & 0o111 else 0o644
        if is_script and info.file_size < LARGEST_SCRIPT:
            text = _with_python(self._archive.read(info))
            layer.file(target, text, mode=mode)
            return _hash_and_size(text)
        if info.compress_type == zipfile.ZIP_DEFLATED and not info.flag_bits & 1:
            layer.deflated(target, self._raw(info), size=info.file_size, crc=info.CRC, mode=mode)
        else:
            with self._archive.open(info) as content:
                layer.stream(target, iter(lambda: content.read(CHUNK), b""), size=info.file_size, mode=mode)
        return None

    def _raw(self, info: zipfile.ZipInfo) -> Iterator[bytes]:
        """Yield the deflated bytes of a file."""
        self._file.seek(info.header_offset)
        header = self._file.read(_LOCAL_HEADER)
        name, extra = (int.from_bytes(header[start : start + 2], "little") for start in (26, 28))
        self._file.seek(info.header_offset + _LOCAL_HEADER + name + extra)
        rest = info.compress_size
        while rest and (data := self._file.read(min(rest, CHUNK))):
            rest -= len(data)
            yield data

    def _entry_points(self) -> Iterator[tuple[str, bytes]]:
        """Yield the path and the text of each console script."""
        name = f"{self._info}/entry_points.txt"
        if name not in self._members:
            return
        parser = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=False)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string("\n".join(self._lines(name)))
        for section in ("console_scripts", "gui_scripts"):
            for script, reference in sorted(parser.items(section)) if parser.has_section(section) else ():
                module, _, call = reference.partition("[")[0].strip().partition(":")
                name, call = call.strip().partition(".")[0], call.strip()
                text = _SCRIPT.format(python=layout.PYTHON, module=module.strip(), name=name, call=call)
                yield f"{layout.ENVIRONMENT}/bin/{script.strip()}", text.encode()

    def _record(self, written: dict[str, tuple[str, ...]]) -> bytes:
        rows = sorted((posixpath.relpath(target, self._site), *row) for target, row in written.items())
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        return text.getvalue().encode()

    def _lines(self, name: str) -> list[str]:
        return self._archive.read(self._members[name]).decode().splitlines()


def _with_python(script: bytes) -> bytes:
    """Return a script with the environment's Python in its first line, if the wheel leaves its place open."""
    first, newline, rest = script.partition(b"\n")
    for start in (b"#!pythonw", b"#!python"):
        if first.startswith(start):
            return b"#!" + layout.PYTHON.encode() + first.removeprefix(start) + newline + rest
    return script


def _hash_and_size(data: bytes) -> tuple[str, str]:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"sha256={digest}", str(len(data))
