"""Facts about layers in the user's cache folder, found by a key. An entry that is lost is only made again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
from pathlib import Path
from typing import Any

from cloudknot.options import config


class LayerCache:
    """A folder with one small JSON file for each key.

    Parameters
    ----------
    folder : Path, optional
        Default: ``layers`` in `cloudknot.options.config.cache_folder`.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or config.cache_folder() / "layers"

    def get(self, kind: str, key: str) -> dict[str, Any] | None:
        """Return an entry; None if there is none, or if it cannot be read."""
        try:
            entry = json.loads(self._path(kind, key).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return entry if isinstance(entry, dict) else None

    def put(self, kind: str, key: str, entry: dict[str, Any]) -> None:
        """Store an entry. Does nothing where the folder cannot be written."""
        path = self._path(kind, key)
        part = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            part.write_text(json.dumps(entry), encoding="utf-8")
            # Another session reads the old entry or the new one, never a part.
            part.replace(path)

    def _path(self, kind: str, key: str) -> Path:
        return self._folder / f"{kind}-{hashlib.sha256(key.encode()).hexdigest()}.json"
