"""Projects and installed distributions in temporary folders, for tests of local packages. Nothing is downloaded."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# uv builds with this backend itself, without a network.
PYPROJECT = """\
[build-system]
requires = ["uv_build"]
build-backend = "uv_build"
[project]
name = "{name}"
version = "{version}"
dependencies = {needs}
"""


def project(
    folder: Path, name: str, version: str = "1.0", files: Mapping[str, str] | None = None, needs: tuple[str, ...] = ()
) -> Path:
    """Write a project in the src layout, with a module that names its version. Return its folder."""
    module = name.replace("-", "_")
    text = PYPROJECT.format(name=name, version=version, needs=json.dumps(needs))
    defaults = {f"src/{module}/__init__.py": f"VERSION = {version!r}\n", f"src/{module}/config.py": "LIMIT = 3\n"}
    for path, content in {"pyproject.toml": text, **defaults, **(files or {})}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    return folder


def broken_project(folder: Path) -> Path:
    """Write a project whose build fails. Return its folder."""
    folder.mkdir(parents=True)
    text = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    (folder / "pyproject.toml").write_text(text)
    (folder / "backend.py").write_text("raise RuntimeError('the compiler is on holiday')\n")
    return folder


def installed(
    site: Path,
    name: str,
    version: str = "1.0",
    files: Mapping[str, str | bytes] | None = None,
    *,
    origin: Mapping[str, Any] | None = None,
    tag: str = "py3-none-any",
    extra: Mapping[str, str] | None = None,
) -> Path:
    """Write the files of an installed distribution, as an installer does. Return its ``.dist-info`` folder.

    A path may lead out of site-packages: ``"../../../bin/tool"``.
    """
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    contents: dict[str, str | bytes] = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: any (1.2)\nRoot-Is-Purelib: true\nTag: {tag}\n",
        f"{info}/INSTALLER": "pip",
        **{f"{info}/{path}": text for path, text in (extra or {}).items()},
        **(files or {}),
    }
    if origin is not None:
        contents[f"{info}/direct_url.json"] = json.dumps(origin)
    contents[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*contents, f"{info}/RECORD"])
    for path, content in contents.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_bytes(content if isinstance(content, bytes) else content.encode())
    # Python has read the folder perhaps a millisecond ago, and knows changes by the time of the folder only.
    importlib.invalidate_caches()
    return site / info


def editable(site: Path, name: str, source: Path, root: Path, version: str = "1.0") -> Path:
    """Write an editable installation of a project, whose packages are in ``root``."""
    origin = {"url": source.as_uri(), "dir_info": {"editable": True}}
    return installed(site, name, version, {f"{name}.pth": f"{root}\n"}, origin=origin)


def site_packages(folder: Path) -> Path:
    """Create the site-packages folder of an environment with a folder for scripts."""
    site = folder / "lib" / "python3.11" / "site-packages"
    site.mkdir(parents=True)
    (folder / "bin").mkdir()
    return site
