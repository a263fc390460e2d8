"""BaseFacts: what an environment has to know about its base image, read from the files in the image's layers."""

from __future__ import annotations

import gzip
import io
import posixpath
import re
import tarfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, cast

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The search path of a container without one."""
LARGEST = 1 << 23
"""No file that is read has more bytes."""
_READ = re.compile(r"etc/(passwd|group)|.*/pyvenv\.cfg|.*/libc(-2\.\d+)?\.so(\.6)?|.*/ld-musl-[^/]*")
_LISTED = re.compile(r".*/bin/python[\d.]*|.*/lib/python3\.\d+/os\.py")
_GLIBC = re.compile(rb"GNU C Library [^\n]* version (\d+)\.(\d+)")
_LINKS = 40
"""Links that a path may lead through, as in Linux."""


@dataclass(frozen=True)
class BaseFacts:
    """The facts about a base image that an environment depends on.

    Attributes
    ----------
    python : str
        The path of the Python that ``python`` starts, without links; empty if there is none.
    version : str
        Its minor version, for example ``"3.11"``; empty if the files do not show it.
    libc : str
        The C library in the form of wheel names: ``"manylinux_2_36"`` or ``"musllinux_1_2"``; empty if unknown.
    packages : str
        The folder of the packages of a virtual environment that ``python`` belongs to; else empty.
    passwd, group : str
        The contents of ``/etc/passwd`` and ``/etc/group``.
    """

    python: str
    version: str
    libc: str
    packages: str
    passwd: str
    group: str


@dataclass(frozen=True)
class LayerFiles:
    """The files of one layer that matter, by their path without the first slash.

    Attributes
    ----------
    contents : mapping of str to str
        The texts of files. A file that only needs to exist has an empty text.
    links : mapping of str to str
        The targets of symbolic links.
    removed : tuple of str
        Paths that the layer removes from the layers below. A path with a slash at its end stands for its content.
    """

    contents: Mapping[str, str]
    links: Mapping[str, str]
    removed: tuple[str, ...]


def read_layer(layer: IO[bytes]) -> LayerFiles:
    """Read the files that matter from a layer, compressed or not.

    Raises
    ------
    tarfile.ReadError
        The layer has a compression that this Python cannot read, or is damaged.
    """
    try:
        return _read(layer)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise tarfile.ReadError(str(error)) from error


def _read(layer: IO[bytes]) -> LayerFiles:
    contents: dict[str, str] = {}
    links: dict[str, str] = {}
    removed: list[str] = []
    with tarfile.open(fileobj=_without_gzip(layer), mode="r|*") as archive:
        for member in archive:
            path = posixpath.normpath(member.name).lstrip("/")
            folder, _, name = path.rpartition("/")
            # Whiteouts concern the layers below, wherever they stand in this one (OCI image layer specification).
            if name == ".wh..wh..opq":
                removed.append(f"{folder}/")
            elif name.startswith(".wh."):
                removed.append(posixpath.join(folder, name.removeprefix(".wh.")))
            elif member.issym():
                links[path] = member.linkname
            elif member.islnk() and (_LISTED.fullmatch(path) or _READ.fullmatch(path)):
                # Archives name the file of a hard link before the link.
                contents[path] = contents.get(posixpath.normpath(member.linkname).lstrip("/"), "")
            elif member.isreg() and _READ.fullmatch(path) and member.size <= LARGEST:
                contents[path] = _text(archive, member)
            elif member.isreg() and _LISTED.fullmatch(path):
                contents[path] = ""
    return LayerFiles(contents, links, tuple(removed))


def _without_gzip(layer: IO[bytes]) -> IO[bytes]:
    """Return a layer whose gzip compression, if it has one, is undone.

    A layer may consist of several gzip files, one after the other. `tarfile` reads only the first one of a stream.
    """
    buffered = io.BufferedReader(cast(io.RawIOBase, layer))
    if buffered.peek(2)[:2] == b"\x1f\x8b":
        return cast("IO[bytes]", gzip.GzipFile(fileobj=buffered))
    return buffered


def _text(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    """Return the text of a file; of a library, only the line with its version."""
    file = archive.extractfile(member)
    data = file.read() if file else b""
    if ".so" in posixpath.basename(member.name):
        match = _GLIBC.search(data)
        return match[0].decode("ascii", "replace") if match else ""
    return data.decode("utf-8", "replace")


class _Files:
    """The files of all layers together."""

    def __init__(self) -> None:
        self.contents: dict[str, str] = {}
        self.links: dict[str, str] = {}

    def add(self, layer: LayerFiles) -> None:
        for path in layer.removed:
            inside = path if path.endswith("/") else f"{path}/"
            for entries in (self.contents, self.links):
                for name in [name for name in entries if name == path or name.startswith(inside)]:
                    del entries[name]
        for path in layer.contents:
            self.links.pop(path, None)
        for path in layer.links:
            self.contents.pop(path, None)
        self.contents.update(layer.contents)
        self.links.update(layer.links)

    def resolve(self, path: str) -> str:
        """Return a path without links."""
        rest, found, count = path.strip("/").split("/"), "", 0
        while rest:
            step = posixpath.normpath(posixpath.join("/", found, rest.pop(0))).lstrip("/")
            if step in self.links and count < _LINKS:
                count += 1
                target = self.links[step]
                rest = [*target.strip("/").split("/"), *rest]
                step = "" if target.startswith("/") else step.rpartition("/")[0]
            found = step
        return found


def facts_of(layers: Iterable[LayerFiles], environment: Sequence[str], python: str) -> BaseFacts:
    """Return the facts about a base image.

    Parameters
    ----------
    layers : iterable of LayerFiles
        From the bottom up.
    environment : sequence of str
        The image's environment variables, as ``"NAME=value"``.
    python : str
        The minor version of Python that a program needs.
    """
    files = _Files()
    for layer in layers:
        files.add(layer)
    variables = dict(item.partition("=")[::2] for item in environment)
    command, path = _find_python(files, variables.get("PATH") or DEFAULT_PATH, python)
    version = _version(files, path, variables.get("PYTHON_VERSION", ""))
    parent = posixpath.dirname(posixpath.dirname(command))
    is_virtual = f"{parent}/pyvenv.cfg".lstrip("/") in files.contents
    return BaseFacts(
        python=f"/{path}" if path else "",
        version=version,
        libc=_libc(files),
        packages=f"{parent}/lib/python{version}/site-packages" if is_virtual and path else "",
        passwd=files.contents.get("etc/passwd", ""),
        group=files.contents.get("etc/group", ""),
    )


def _find_python(files: _Files, search_path: str, python: str) -> tuple[str, str]:
    """Return the path of Python as the search path has it, and the one without links; empty texts without Python."""
    # A container's `python` decides. Some images have only the others.
    for name in ("python", f"python{python}", "python3"):
        for folder in search_path.split(":"):
            command = posixpath.join(folder or "/", name)
            if (path := files.resolve(command)) in files.contents:
                return command, path
    return "", ""


def _version(files: _Files, path: str, variable: str) -> str:
    """Return the minor version of the Python at a path, by its name, its library, or the image's PYTHON_VERSION."""
    if not path:
        return ""
    if match := re.search(r"python(3\.\d+)$", path):
        return match[1]
    library = posixpath.dirname(posixpath.dirname(path)) + "/lib/python"
    found = [name for name in files.contents if name.startswith(library) and name.endswith("/os.py")]
    if len(found) == 1:
        return found[0].removeprefix(library).partition("/")[0]
    return ".".join(variable.split(".")[:2])


def _libc(files: _Files) -> str:
    for path, content in files.contents.items():
        if "/libc" in path and (match := _GLIBC.search(content.encode())):
            return f"manylinux_{int(match[1])}_{int(match[2])}"
    if any(name.rpartition("/")[2].startswith("ld-musl-") for name in files.contents):
        return "musllinux_1_2"
    return ""
