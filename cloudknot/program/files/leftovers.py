"""Files that systems, editors and tools leave in every folder. They are no part of a program, or of its tag."""

from __future__ import annotations

import re

_NAMES = {
    # macOS
    *(".ds_store", ".spotlight-v100", ".trashes", ".fseventsd", ".appledouble", ".documentrevisions-v100", "icon\r"),
    # Windows
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),
    # Linux
    *(".directory", ".trash"),
    # Tools
    *("__pycache__", ".git", ".hg", ".svn", ".ipynb_checkpoints", ".mypy_cache", ".pytest_cache", ".ruff_cache"),
    *(".idea", ".vscode", ".vs", ".rproj.user", ".rhistory", ".python_history"),
}
_PATTERNS = re.compile(
    r"\._.+"  # macOS, on disks of other systems
    r"|\.nfs[0-9a-f]+|\.fuse_hidden\w+"  # deleted files that a program has open
    r"|.+~|\.#.+|#.+#|\..+\.sw[a-p]|~\$.+|\.~lock\..+#|\.goutputstream-\w+"  # editors
    r"|.+\.py[co]",
    re.IGNORECASE,
)


def is_leftover(name: str) -> bool:
    """Return whether a file or folder of this name is no part of a program."""
    return name.lower() in _NAMES or _PATTERNS.fullmatch(name) is not None
