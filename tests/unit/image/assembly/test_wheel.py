"""A wheel's files get to their places in the environment, with scripts that start its Python and a true record."""

import base64
import csv
import hashlib
import io
import zipfile

import pytest

from cloudknot.errors import ImageError
from tests.unit.image.assembly.wheels import ENTRY_POINTS, layer_of, make_wheel, members, texts

SITE = "opt/cloudknot/env/lib/python3.11/site-packages"
FILES = {
    "pack/__init__.py": "VALUE = 1\n",
    "pack/bin/helper": "text",
    "space.pth": "import pack\n",
    "pack-1.0.data/scripts/old": "#!python -E\nprint(1)\n",
    "pack-1.0.data/scripts/shell": "#!/bin/sh\n",
    "pack-1.0.data/data/share/table.csv": "1,2\n",
    "pack-1.0.data/headers/pack.h": "int x;\n",
    "pack-1.0.data/purelib/pure.py": "",
    "pack-1.0.dist-info/entry_points.txt": ENTRY_POINTS,
}


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_files_get_to_their_places(compression):
    _, content = layer_of(make_wheel(FILES, compression=compression))
    found = texts(content)
    assert found[f"{SITE}/pack/__init__.py"] == "VALUE = 1\n"
    assert found[f"{SITE}/space.pth"] == "import pack\n"
    assert found[f"{SITE}/pure.py"] == ""
    assert found["opt/cloudknot/env/share/table.csv"] == "1,2\n"
    assert found["opt/cloudknot/env/include/site/python3.11/pack/pack.h"] == "int x;\n"
    assert found["opt/cloudknot/env/bin/shell"] == "#!/bin/sh\n"
    assert not [path for path in found if ".data" in path]


def test_scripts_start_python_of_the_environment():
    _, content = layer_of(make_wheel(FILES))
    found = texts(content)
    assert found["opt/cloudknot/env/bin/old"] == "#!/opt/cloudknot/env/bin/python -E\nprint(1)\n"
    tool = found["opt/cloudknot/env/bin/tool"]
    assert tool.startswith("#!/opt/cloudknot/env/bin/python\n")
    assert "from pack.cli import Main\n" in tool
    assert "sys.exit(Main.run())" in tool
    assert "from pack import show\n" in found["opt/cloudknot/env/bin/Window"]
    assert {members(content)[f"opt/cloudknot/env/bin/{name}"].mode for name in ("old", "shell", "tool")} == {0o755}


def test_files_keep_executable_bit_and_lose_others():
    _, content = layer_of(make_wheel(FILES, executable=["pack/bin/helper"]))
    found = members(content)
    assert found[f"{SITE}/pack/bin/helper"].mode == 0o755
    assert found[f"{SITE}/pack/__init__.py"].mode == 0o644
    assert {(member.uid, member.gid, member.mtime) for member in found.values()} == {(0, 0, 315532800)}


def test_record_names_every_file_with_hash_of_changed_ones():
    _, content = layer_of(make_wheel(FILES))
    found = texts(content)
    rows = {row[0]: row[1:] for row in csv.reader(io.StringIO(found[f"{SITE}/pack-1.0.dist-info/RECORD"]))}
    assert rows["pack/__init__.py"][0] == "sha256=x0"
    assert rows["pack-1.0.dist-info/RECORD"] == ["", ""]
    for script in ("old", "shell", "tool", "Window"):
        data = found[f"opt/cloudknot/env/bin/{script}"].encode()
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
        assert rows[f"../../../bin/{script}"] == [f"sha256={digest}", str(len(data))]
    assert "../../../share/table.csv" in rows
    assert len(rows) == len(found)


def test_same_wheel_gives_same_layer_and_other_python_another():
    assert layer_of(make_wheel(FILES)) == layer_of(make_wheel(FILES))
    assert layer_of(make_wheel(FILES), "3.12") != layer_of(make_wheel(FILES))


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "pack/../../outside", "..\\outside"])
def test_wheel_with_path_outside_is_refused(path):
    with pytest.raises(ImageError, match="not a valid wheel"):
        layer_of(make_wheel({path: ""}))


def test_file_that_is_no_wheel_is_refused():
    with pytest.raises(ImageError, match="not a valid wheel"):
        layer_of(io.BytesIO(b"<html>"))
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    with pytest.raises(ImageError, match=r"0 folders \*\.dist-info"):
        layer_of(empty)
    with pytest.raises(ImageError, match="not a valid wheel"):
        layer_of(make_wheel({"pack-1.0.data/unknown/x": ""}))
