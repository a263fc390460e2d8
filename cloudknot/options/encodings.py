"""The encodings in which editors write text files: Notepad and PowerShell with a byte order mark, or in UTF-16."""

from __future__ import annotations

import codecs

UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""The beginnings of a text in UTF-16."""


def encoding_of(content: bytes) -> str:
    """Return the encoding of a text by its beginning: UTF-16, else UTF-8. Decoding removes the byte order mark."""
    return "utf-16" if content.startswith(UTF_16) else "utf-8-sig"
