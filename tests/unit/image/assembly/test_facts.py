"""The files of a base image show its Python, its C library and its users."""

import gzip
import io
import tarfile

import pytest

from cloudknot.image.assembly.base.facts import facts_of, read_layer

GLIBC = b"\0GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\n\0"


def layer(files=(), links=(), hard_links=()):
    """Return a layer with files, symbolic links and hard links, as `read_layer` reads it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path, data in dict(files).items():
            member = tarfile.TarInfo(path)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for kind, pairs in ((tarfile.SYMTYPE, links), (tarfile.LNKTYPE, hard_links)):
            for path, target in dict(pairs).items():
                member = tarfile.TarInfo(path)
                member.type, member.linkname = kind, target
                archive.addfile(member)
    buffer.seek(0)
    return read_layer(buffer)


def facts(*layers, environment=(), python="3.11"):
    return facts_of(layers, environment, python)


DEBIAN = layer(
    {
        "./usr/bin/python3.11": b"ELF",
        "usr/lib/x86_64-linux-gnu/libc.so.6": GLIBC,
        "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
        "etc/group": b"root:x:0:\n",
    },
    {"usr/bin/python3": "python3.11", "bin": "usr/bin", "lib": "usr/lib"},
)


def test_debian_base_has_python_without_links():
    found = facts(DEBIAN)
    assert (found.python, found.version, found.libc) == ("/usr/bin/python3.11", "3.11", "manylinux_2_36")
    assert found.passwd.startswith("root:")
    assert (found.group, found.packages) == ("root:x:0:\n", "")


def test_python_of_search_path_comes_first():
    official = layer(
        {"usr/local/bin/python3.12": b""}, {"usr/local/bin/python": "python3", "usr/local/bin/python3": "python3.12"}
    )
    found = facts(DEBIAN, official, environment=["PATH=/usr/local/bin:/usr/bin:/bin"])
    assert (found.python, found.version) == ("/usr/local/bin/python3.12", "3.12")


def test_python_with_its_version_is_found_where_no_plain_python_is():
    ubuntu = layer({"usr/bin/python3.10": b"", "usr/bin/python3.11": b""}, {"usr/bin/python3": "python3.10"})
    assert facts(ubuntu).version == "3.11"
    assert facts(ubuntu, python="3.12").version == "3.10"


def test_links_through_folders_and_absolute_links_are_followed():
    image = layer(
        {"opt/py/3.11/bin/python3.11": b""},
        {"usr/bin/python": "/etc/alternatives/python", "etc/alternatives/python": "../../opt/py/now/bin/python3.11"}
        | {"opt/py/now": "3.11"},
    )
    assert facts(image).python == "/opt/py/3.11/bin/python3.11"


def test_circular_link_is_no_python():
    assert facts(layer(links={"usr/bin/python": "python"})).python == ""


def test_whiteouts_and_replaced_files_hide_those_below():
    upper = layer({"usr/bin/.wh.python3.11": b"", "etc/passwd": b"new"})
    assert (facts(DEBIAN, upper).python, facts(DEBIAN, upper).passwd) == ("", "new")
    opaque = layer({"usr/bin/.wh..wh..opq": b"", "usr/bin/python3.13": b""}, {"usr/bin/python": "python3.13"})
    assert facts(DEBIAN, opaque).version == "3.13"


def test_hard_link_is_a_file():
    image = layer({"usr/bin/python3.11": b""}, hard_links={"usr/bin/python": "usr/bin/python3.11"})
    assert facts(image, environment=["PYTHON_VERSION=3.11.9"]).version == "3.11"


@pytest.mark.parametrize(
    ("environment", "files", "version"),
    [
        (["PYTHON_VERSION=3.12.1"], {}, "3.12"),
        ([], {"opt/lib/python3.13/os.py": b""}, "3.13"),
        ([], {}, ""),
    ],
)
def test_version_of_python_without_version_in_its_name(environment, files, version):
    image = layer({"opt/bin/python": b"", **files})
    assert facts(image, environment=["PATH=/opt/bin", *environment]).version == version


def test_python_of_virtual_environment_has_its_packages():
    image = layer({"venv/pyvenv.cfg": b"home = /usr/bin\n"}, {"venv/bin/python": "/usr/bin/python3.11"})
    found = facts(DEBIAN, image, environment=["PATH=/venv/bin:/usr/bin"])
    assert (found.python, found.packages) == ("/usr/bin/python3.11", "/venv/lib/python3.11/site-packages")


def test_alpine_base_has_musl():
    image = layer({"lib/ld-musl-x86_64.so.1": b"", "usr/local/bin/python3.11": b""})
    assert facts(image).libc == "musllinux_1_2"


def test_unknown_base_has_no_library():
    assert facts(layer()).libc == ""


def test_unreadable_compression_is_reported():
    with pytest.raises(tarfile.ReadError):
        read_layer(io.BytesIO(b"\x28\xb5\x2f\xfd" + bytes(600)))


@pytest.mark.parametrize("size", [512, 700])
def test_layer_of_several_gzip_members_is_read_whole(size):
    """Layers in the format eStargz are of this kind, and those that cloudknot makes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in ("opt/first", "etc/passwd"):
            member = tarfile.TarInfo(path)
            member.size = 512
            archive.addfile(member, io.BytesIO(b"x" * member.size))
    data = buffer.getvalue()
    # Members end within a file or after one, where tarfile takes the end of a member for that of the archive.
    parts = (data[: 512 + size], data[512 + size :])
    members = b"".join(gzip.compress(part) for part in parts)
    assert read_layer(io.BytesIO(members)).contents == {"etc/passwd": "x" * 512}


@pytest.mark.parametrize("end", [20, 60, -4])
def test_cut_layer_is_reported(end):
    data = gzip.compress(bytes(range(256)) * 40)
    with pytest.raises(tarfile.ReadError):
        read_layer(io.BytesIO(data[:end]))
