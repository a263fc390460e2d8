"""The versions of the distributions that are installed here from a package index."""

from __future__ import annotations

import os
import re
import sys

_NAME = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)(-py[\d.]+)?\.(dist|egg)-info")


def versions() -> dict[str, str]:
    """Return the public version of each distribution that came from an index, by its canonical name.

    A local version label (2.1.0+cu121) is dropped: which build is right depends on the image.
    """
    found: dict[str, str] = {}
    # `importlib.metadata` opens a file for each distribution. The names of their folders say the same.
    for folder in sys.path:
        try:
            names = sorted(os.listdir(folder or "."))
        except OSError:
            continue
        for entry in names:
            match = _NAME.fullmatch(entry)
            if match is None:
                continue
            name = re.sub(r"[-_.]+", "-", match["name"]).lower()
            # The first one on the path is the one that Python imports.
            local = os.path.exists(os.path.join(folder, entry, "direct_url.json"))
            found.setdefault(name, "" if local else match["version"].partition("+")[0])
    return {name: version for name, version in found.items() if version}
