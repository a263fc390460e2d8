"""Small wheels for tests."""

import io
import tarfile
import zipfile

from cloudknot.image.assembly.layers.layer import LayerWriter
from cloudknot.image.assembly.layers.wheel import write_wheel

ENTRY_POINTS = """\
[console_scripts]
tool = pack.cli:Main.run [extra]

[gui_scripts]
Window = pack:show
"""


def make_wheel(files, *, name="pack", compression=zipfile.ZIP_DEFLATED, executable=()):
    """Return a wheel with these files beside its metadata, and with a record of all of them."""
    info = f"{name}-1.0.dist-info"
    files = {**files, f"{info}/METADATA": f"Name: {name}\nVersion: 1.0\n", f"{info}/WHEEL": "Wheel-Version: 1.0\n"}
    record = "".join(f"{path},sha256=x{number},{len(data)}\n" for number, (path, data) in enumerate(files.items()))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for path, data in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            member = zipfile.ZipInfo(path, (2026, 11, 29, 0, 0, 0))
            member.compress_type = compression
            member.external_attr = (0o755 if path in executable else 0o640) << 16
            archive.writestr(member, data)
    buffer.seek(0)
    return buffer


def layer_of(wheel, python="3.11"):
    """Return the layer of a wheel, and its compressed bytes."""
    file = io.BytesIO()
    writer = LayerWriter(file)
    write_wheel(wheel, "pack-1.0-py3-none-any.whl", python, writer)
    return writer.close(), file.getvalue()


def members(content):
    """Return the entries of a layer by their path."""
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        return {member.name: member for member in archive}


def texts(content):
    """Return the texts of the files in a layer by their path."""
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        return {member.name: archive.extractfile(member).read().decode() for member in archive if member.isreg()}
