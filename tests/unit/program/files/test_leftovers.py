"""Files of systems, editors and tools are left out of programs, and a person's own files never."""

import pytest

from cloudknot.program.files.leftovers import is_leftover

LEFTOVERS = [
    *(".DS_Store", "._photo.tif", "Icon\r", ".Spotlight-V100", ".Trashes", ".fseventsd", ".AppleDouble"),
    *("Thumbs.db", "thumbs.db", "ehthumbs.db", "desktop.ini", "Desktop.ini", "$RECYCLE.BIN"),
    *(".directory", ".nfs000000000001", ".fuse_hidden0000abcd"),
    *("main.py~", ".main.py.swp", ".main.py.swo", "#main.py#", ".#main.py", "~$table.xlsx", ".~lock.table.ods#"),
    *("__pycache__", "main.pyc", "main.cpython-311.pyc", ".ipynb_checkpoints", ".git", ".idea", ".vscode"),
    *(".pytest_cache", ".mypy_cache", ".ruff_cache", ".hg", ".svn"),
]
OWN = [
    *("main.py", "Thumbs.dbx", "desktop.ini.txt", ".env", ".gitignore", ".dockerignore", "_private.py", "a.swp"),
    *("icon.png", "Icon", "directory", "data.db", "~", "#", "a~b", ".hidden", ".config", "tool.exe", "pycache"),
]


@pytest.mark.parametrize("name", LEFTOVERS)
def test_leftover(name):
    assert is_leftover(name)


@pytest.mark.parametrize("name", OWN)
def test_own_file(name):
    assert not is_leftover(name)
