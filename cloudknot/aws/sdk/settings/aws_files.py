"""Errors for AWS's two files of settings, which botocore reads: the problem, its cause and a command that mends it."""

from __future__ import annotations

import codecs
import locale
import os
from shlex import quote

from cloudknot.errors import CloudknotConfigurationError
from cloudknot.options.encodings import UTF_16


def unusable_file(path: str, error: str) -> CloudknotConfigurationError:
    """Return the error for an AWS file that botocore cannot parse. ``error`` is the parser's own."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as failure:
        return unreadable_file(path, failure)
    cause, fix = _encoding_problem(data, path) or (
        f"It is not in AWS's format: {' '.join(error.split()).rstrip('.')}.",
        "Correct it until `aws configure list` shows no error. It has sections such as [default], and lines such "
        "as `region = eu-west-1`.",
    )
    return CloudknotConfigurationError(f"AWS's own tools cannot read the file {path}. {cause} {fix}")


def unreadable_file(path: str, failure: OSError) -> CloudknotConfigurationError:
    """Return the error for an AWS file that this user may not read."""
    return CloudknotConfigurationError(
        f"The AWS file {path} cannot be read: {failure.strerror}. Make it readable: `chmod u+r {quote(path)}`, or set "
        "AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE to the paths of other files."
    )


def check_readable(path: str) -> None:
    """Raise `CloudknotConfigurationError` for an existing file that this user may not read."""
    # botocore takes such a file for an empty one, so the region would silently be another one.
    if os.path.isfile(path):
        try:
            open(path, "rb").close()
        except OSError as failure:
            raise unreadable_file(path, failure) from None


def _encoding_problem(data: bytes, path: str) -> tuple[str, str] | None:
    """Return cause and fix if the encoding of a file is the reason why botocore cannot read it."""
    file, new = quote(path), quote(f"{path}.new")
    if data.startswith(codecs.BOM_UTF8):
        return (
            "It begins with a byte order mark, as Windows Notepad writes it.",
            f"Remove the mark, for example with `sed -i '1s/^\\xEF\\xBB\\xBF//' {file}`.",
        )
    kind = "UTF-16" if data.startswith(UTF_16) else "CP1252"
    convert = f"Write it as UTF-8, for example with `iconv -f {kind} -t UTF-8 {file} > {new} && mv {new} {file}`."
    if kind == "UTF-16":
        return "It is encoded as UTF-16.", convert
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return f"It is not encoded as UTF-8, see line {line}.", convert
    encoding = locale.getpreferredencoding(False)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return (
            f"It has characters that are not ASCII, and this Python reads files as {encoding}.",
            "Run `export PYTHONUTF8=1` before you start Python.",
        )
    return None
