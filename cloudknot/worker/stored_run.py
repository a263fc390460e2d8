"""The run of a job, as the worker reads it from S3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import BinaryIO

from .s3.client import S3, connect
from .s3.range_file import span_of
from .s3.retries import code_of
from .wire import by_value
from .wire.buffers import Buffer
from .wire.container import MANIFEST_VARIABLE
from .wire.keys import RunKeys
from .wire.manifest import Manifest, function_seed, input_seed, todo_seed
from .wire.seal import CHECKSUM, LARGE, TOO_SHORT, WRONG_CHECKSUM, DamagedError, numbered, received, unsealed, verified

SMALL_INPUTS = 1024 * 1024
"""Bytes of all inputs of a run that one request reads for all of its children."""
_prepared: dict[tuple[str, str], StoredRun] = {}
"""The run that `prepare` has read last, by its URL and the text of its manifest."""


def prepare(url: str, environment: Mapping[str, str]) -> None:
    """Read what all children of a run read, before this process forks them.

    One failure is final: each child then reads for itself.
    """
    text = environment.get(MANIFEST_VARIABLE, "")
    if not text or (url, text) in _prepared:
        return
    run = StoredRun.at(url, environment)
    manifest, size = run.manifest, run.manifest.stride * run.manifest.count
    if 0 < size <= SMALL_INPUTS and manifest.children > 1 and not manifest.source:
        # The process that forks serves other runs too, so it must not wait for long.
        requests = run.s3.plain.impatient()
        data = requests.get(run.keys.bucket, run.keys.inputs, span_of(0, size))
        requests.close()
        run = replace(run, inputs=data if data is not None and len(data) == size else None)
    _prepared.clear()
    _prepared[url, text] = run


@dataclass(frozen=True)
class StoredRun:
    """The keys and the manifest of a run, and the S3 client to read them with.

    Attributes
    ----------
    s3 : S3
    keys : RunKeys
    manifest : Manifest
    inputs : bytes or None
        All inputs, if `prepare` has read them.
    """

    s3: S3
    keys: RunKeys
    manifest: Manifest
    inputs: bytes | None = None

    @classmethod
    def at(cls, url: str, environment: Mapping[str, str], owner: str = "") -> StoredRun:
        """Return the run of a URL. ``owner`` is the AWS account of the bucket, if it is not that of the credentials.

        A job has it in its manifest.
        """
        s3 = connect()
        # A job has its manifest in a variable. By hand there is none, so S3 provides it.
        text = environment.get(MANIFEST_VARIABLE)
        if text and (prepared := _prepared.get((url, text))):
            s3.owners.name(prepared.keys.bucket, prepared.manifest.owner)
            return replace(prepared, s3=replace(s3, sse=prepared.manifest.sse))
        keys = RunKeys.parse(url)
        s3.owners.name(keys.bucket, owner)
        if text:
            manifest = Manifest.from_json(text)
            s3.owners.name(keys.bucket, manifest.owner)
        else:
            manifest = Manifest.from_document(s3.read(keys.bucket, keys.manifest), keys.manifest)
        return cls(replace(s3, sse=manifest.sse), keys, manifest)

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Return bytes ``start`` to ``end`` (not included) of one of the run's objects. See `S3.read`."""
        if self.inputs is not None and key == self.keys.inputs:
            return self.inputs[start:end]
        try:
            return self.s3.read(self.keys.bucket, key, start, end)
        except Exception as error:
            # The object was cut, and ends before ``start``. Its readers miss the bytes.
            if code_of(error) in ("InvalidRange", "416"):
                return b""
            raise

    def read_function(self) -> bytes:
        """Return the run's own function. Raises `UnusableError` if it is damaged."""
        stored = self.read(self.keys.function)
        return bytes(unsealed(stored, function_seed(self.keys.run_id))) if self.manifest.is_sealed else stored

    @cached_property
    def inputs_seed(self) -> int | None:
        """The seed of the inputs; None if they have no checksums."""
        return input_seed(self.keys.run_id) if self.manifest.is_sealed else None

    @property
    def todo_seed(self) -> int | None:
        """The seed of the elements of this round; None if they have no checksums."""
        return todo_seed(self.keys.run_id, self.manifest.round) if self.manifest.is_sealed else None

    def element_seed(self, index: int) -> int:
        """Return the seed of an input."""
        return numbered(self.inputs_seed or 0, index)

    def loads(self, record: Buffer, seed: int) -> object:
        """Unpickle a record of this run. Raises `UnusableError` if it is damaged or does not suit this Python."""
        payload = unsealed(record, seed) if self.manifest.is_sealed else record
        return by_value.loads(payload, self.manifest.python)

    def load(self, key: str, start: int, end: int, seed: int) -> object:
        """Unpickle the record in these bytes of an object, a large one while it arrives. See `loads` and `S3.load`."""
        if end - start <= LARGE and not self.manifest.is_sealed:
            record = self.read(key, start, end)
            if len(record) < end - start:
                raise DamagedError(TOO_SHORT)
            return self.loads(record, seed)

        def unpickle(file: BinaryIO) -> object:
            if end - start <= LARGE:
                pickled, proof = received(file, end - start - CHECKSUM, seed)
                if file.read(CHECKSUM) != proof.to_bytes(CHECKSUM, "little"):
                    raise DamagedError(WRONG_CHECKSUM)
                return by_value.loads(pickled, self.manifest.python)
            payload = verified(file, end - start, seed) if self.manifest.is_sealed else file
            return by_value.load(payload, self.manifest.python)

        return self.s3.load(self.keys.bucket, key, start, end, unpickle)

    def write(self, key: str, *body: Buffer) -> bool:
        """Store one of the run's objects, unless its key exists already. See `S3.write`."""
        return self.s3.write(self.keys.bucket, key, body)
