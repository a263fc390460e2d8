"""Source archives of packages, whose build needs no other package."""

import hashlib
import io
import tarfile

from cloudknot.program.packages.lock import Lock, LockedPackage
from cloudknot.program.packages.target import InstallTarget

PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
BACKEND = """
import zipfile

def build_wheel(directory, config_settings=None, metadata_directory=None):
    name = "built-1.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{directory}/{name}", "w") as wheel:
        wheel.writestr("built.py", "VALUE = 7\\n")
        wheel.writestr("built-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: built\\nVersion: 1.0\\n")
        wheel.writestr("built-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\n")
        wheel.writestr("built-1.0.dist-info/RECORD", "built.py,,\\n")
    return name
"""
BROKEN = """
def build_wheel(directory, config_settings=None, metadata_directory=None):
    raise SystemExit("fatal error: netcdf.h: No such file or directory")
"""


def source_lock(folder, backend=BACKEND):
    """Write a source archive to a folder, and return a lock with this package alone."""
    path = folder / "built-1.0.tar.gz"
    files = {
        "pyproject.toml": PROJECT,
        "backend.py": backend,
        "PKG-INFO": "Metadata-Version: 2.1\nName: built\nVersion: 1.0\n",
    }
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"built-1.0/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Lock(InstallTarget.this_machine(), (LockedPackage("built", "1.0", path.name, digest, path.as_uri()),))
