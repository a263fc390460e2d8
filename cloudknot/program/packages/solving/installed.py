"""The versions of the distributions that are installed here from a package index."""

from __future__ import annotations

import os
import re
import sys

_NAME = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)(-py[\d.]+)?\.(dist|egg)-info")


def versions() -> dict[str, str]:
    """Return the public version of each distribution that did not come from this machine, by its canonical name.

    A local version label (2.1.0+cu121) is dropped: which build is right depends on the image.
    """
    found: dict[str, str] = {}
    unsure: set[str] = set()
    # `importlib.metadata` opens a file for each distribution. The names of their folders say the same.
    for folder in sys.path:
        try:
            names = sorted(os.listdir(folder or "."))
        except OSError:
            continue
        for entry in names:
            match = _NAME.fullmatch(entry)
            name = re.sub(r"[-_.]+", "-", match["name"]).lower() if match else ""
            # The first one on the path is the one that Python imports.
            if match and name not in found:
                found[name] = match["version"].partition("+")[0]
                unsure |= {name} if os.path.exists(os.path.join(folder, entry, "direct_url.json")) else set()
    local = _local() if unsure else set()
    return {name: version for name, version in found.items() if name not in local}


def _local() -> set[str]:
    from cloudknot.program.packages.distributions import local_distributions

    return set(local_distributions())
