"""The run of a job, as the worker reads it from S3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from .s3.client import S3, connect
from .wire.container import MANIFEST_VARIABLE
from .wire.keys import RunKeys
from .wire.manifest import Manifest


@dataclass(frozen=True)
class StoredRun:
    """The keys and the manifest of a run, and the S3 client to read them with."""

    s3: S3
    keys: RunKeys
    manifest: Manifest

    @classmethod
    def at(cls, url: str, environment: Mapping[str, str]) -> StoredRun:
        """Return the run of a URL."""
        s3, keys = connect(), RunKeys.parse(url)
        # A job has its manifest in a variable. By hand there is none, so S3 provides it.
        text = environment.get(MANIFEST_VARIABLE)
        manifest = Manifest.from_json(text or s3.read(keys.bucket, keys.manifest))
        return cls(replace(s3, sse=manifest.sse), keys, manifest)

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Return bytes ``start`` to ``end`` (not included) of one of the run's objects. See `S3.read`."""
        return self.s3.read(self.keys.bucket, key, start, end)

    def load(self, key: str, start: int, end: int) -> object:
        """Unpickle these bytes while they arrive. See `S3.load`."""
        return self.s3.load(self.keys.bucket, key, start, end)

    def write(self, key: str, body: bytes) -> None:
        """Store one of the run's objects, unless its key exists already. See `S3.write`."""
        self.s3.write(self.keys.bucket, key, body)
