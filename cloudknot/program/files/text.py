"""Read text as people's editors on any system write it: with a BOM, in UTF-16, with the line endings of Windows."""

from __future__ import annotations

import codecs
from pathlib import PurePosixPath

from cloudknot.options.encodings import UTF_16, encoding_of

_NAMES = {"dockerfile", "makefile", "requirements.txt", ".dockerignore"}
_SUFFIXES = {
    *(".py", ".pyi", ".pyx", ".pxd", ".sh", ".bash", ".zsh", ".csh", ".ksh", ".fish", ".awk", ".sed"),
    *(".r", ".rmd", ".jl", ".m", ".pl", ".pm", ".rb", ".lua", ".tcl", ".js", ".ijm", ".groovy", ".bsh"),
    *(".c", ".h", ".cc", ".cpp", ".cxx", ".hpp", ".cu", ".f", ".f90", ".f95", ".go", ".rs", ".java", ".scala", ".sql"),
    *(".nf", ".wdl", ".smk", ".stan", ".ftl"),
}
_SHEBANG = b"#!"


def decoded(content: bytes) -> str:
    """Return the text of a file in UTF-8 or UTF-16, without its BOM. Unknown bytes become U+FFFD."""
    return content.decode(encoding_of(content), errors="replace")


def portable(path: str, content: bytes) -> bytes:
    """Return source code as Linux runs it: without a BOM, and with line feeds alone. Other files stay as they are.

    So colleagues on different systems have the same image, whatever git or an editor does to line endings.

    Parameters
    ----------
    path : str
        The file's name, or its path with slashes. Its ending shows whether the file is source code, unless the
        content begins with ``#!``.
    content : bytes
    """
    if not is_source(path, content):
        return content
    if content.startswith(UTF_16):
        content = decoded(content).encode()
    return content.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n")


def is_source(path: str, content: bytes) -> bool:
    """Return whether a file is source code. The bytes of all other files are data."""
    name = PurePosixPath(path.lower())
    if content.startswith(UTF_16):
        return name.name in _NAMES or name.suffix in _SUFFIXES
    # No source code has NUL bytes. A MATLAB data file may have the ending of MATLAB's code.
    if b"\0" in content[:8192]:
        return False
    return name.name in _NAMES or name.suffix in _SUFFIXES or _unmarked(content).startswith(_SHEBANG)


def _unmarked(content: bytes) -> bytes:
    return content.removeprefix(codecs.BOM_UTF8)
