"""A layer is one valid archive with the digests that its writer returns, and the same bytes for the same files."""

import gzip
import hashlib
import io
import subprocess
import tarfile
import zlib

import pytest

from cloudknot.errors import ImageError
from cloudknot.image.assembly.layers.layer import LayerWriter, Owner
from tests.unit.image.assembly.wheels import members

LONG_PATH = f"/opt/cloudknot/env/{'deep/' * 40}ä.py"


def deflated(data):
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush()


def written(fill, **choices):
    file = io.BytesIO()
    writer = LayerWriter(file, **choices)
    fill(writer)
    return writer.close(), file.getvalue()


def fill(layer):
    layer.folder("/home/jo", owner=Owner(1000, 1001))
    layer.link("/opt/cloudknot/env/bin/python", "/usr/bin/python3.11")
    layer.file("/opt/cloudknot/env/empty", b"")
    layer.file("/opt/cloudknot/env/tool", b"#!/bin/sh\n", mode=0o755, owner=Owner(7, 8))
    data = bytes(range(256)) * 3000
    packed = deflated(data)
    halves = [packed[:1000], packed[1000:]]
    layer.deflated("/opt/cloudknot/env/big", halves, size=len(data), crc=zlib.crc32(data), mode=0o755)
    layer.stream(LONG_PATH, [b"ab", b"c"], size=3)


def test_layer_is_valid_archive_with_all_entries():
    _, content = written(fill)
    found = members(content)
    assert found["home/jo"].isdir()
    assert (found["home/jo"].uid, found["home/jo"].gid) == (1000, 1001)
    assert found["opt/cloudknot/env/bin/python"].linkname == "/usr/bin/python3.11"
    assert (found["opt/cloudknot/env/tool"].mode, found["opt/cloudknot/env/tool"].uid) == (0o755, 7)
    assert found["opt/cloudknot/env/big"].size == 768_000
    assert found["opt/cloudknot/env/big"].mode == 0o755
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        assert archive.extractfile(LONG_PATH[1:]).read() == b"abc"
        assert archive.extractfile("opt/cloudknot/env/big").read() == bytes(range(256)) * 3000
        assert archive.extractfile("opt/cloudknot/env/empty").read() == b""


def test_layer_has_folders_of_the_environment_but_none_of_the_base_image():
    _, content = written(lambda layer: layer.file("/opt/cloudknot/env/lib/a.py", b""))
    assert list(members(content)) == ["opt/cloudknot/env", "opt/cloudknot/env/lib", "opt/cloudknot/env/lib/a.py"]
    _, content = written(lambda layer: layer.file("/etc/passwd", b""))
    assert list(members(content)) == ["etc/passwd"]


@pytest.mark.parametrize("choices", [{}, {"small": True}])
def test_digests_and_size_are_those_of_the_bytes(choices):
    layer, content = written(fill, **choices)
    assert layer.digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert layer.diff_id == f"sha256:{hashlib.sha256(gzip.decompress(content)).hexdigest()}"
    assert layer.size == len(content)


def test_same_entries_give_same_bytes():
    assert written(fill) == written(fill)


def test_gnu_tar_and_gzip_read_layer(tmp_path):
    path = tmp_path / "layer.tar.gz"
    path.write_bytes(written(fill)[1])
    subprocess.run(["gzip", "--test", str(path)], check=True)
    listing = subprocess.check_output(["tar", "--list", "--file", str(path)], text=True)
    assert "opt/cloudknot/env/big\n" in listing


@pytest.mark.parametrize(
    ("data", "size", "crc"),
    [
        (deflated(b"text"), 5, zlib.crc32(b"text")),
        (deflated(b"text"), 4, 0),
        (deflated(b"text")[:-1], 4, zlib.crc32(b"text")),
        (deflated(b"text") + b"more", 4, zlib.crc32(b"text")),
    ],
)
def test_damaged_file_raises_image_error(data, size, crc):
    with pytest.raises(ImageError, match=r"a\.py of a package is damaged"):
        LayerWriter(io.BytesIO()).deflated("/a.py", [data], size=size, crc=crc)
