"""Read the stored elements of a map back into a session."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from cloudknot.errors import StoredDataError
from cloudknot.worker.wire import by_value
from cloudknot.worker.wire.input_index import unpack_entries
from cloudknot.worker.wire.manifest import input_seed
from cloudknot.worker.wire.seal import WRONG_CHECKSUM, DamagedError, UnusableError, numbered, unsealed

if TYPE_CHECKING:
    from cloudknot.aws.s3.storage import Storage
    from cloudknot.worker.wire.keys import RunKeys
    from cloudknot.worker.wire.manifest import Manifest


def stored_elements(storage: Storage, keys: RunKeys, manifest: Manifest) -> list[object]:
    """Return all elements of a run with stored inputs, in order.

    Raises
    ------
    ResourceDoesNotExistException
        The inputs were deleted.
    StoredDataError
        An element is damaged, or another version of Python stored it.
    """
    data = memoryview(storage.get(keys.inputs))
    seed = input_seed(keys.run_id)
    bounds = pairwise(_starts(storage, keys, manifest, seed))
    elements = []
    for index, (start, end) in enumerate(bounds):
        try:
            if start is None or end is None:
                raise DamagedError(WRONG_CHECKSUM)
            record = data[start:end]
            payload = unsealed(record, numbered(seed, index)) if manifest.is_sealed else record
            elements.append(by_value.loads(payload, manifest.python))
        except UnusableError as error:
            raise StoredDataError(
                f"Element {index} of the input, in {keys.url}, {error}. Map again, with the elements from your script."
            ) from error
    return elements


def _starts(storage: Storage, keys: RunKeys, manifest: Manifest, seed: int) -> Sequence[int | None]:
    """Return the position of each element, and the end of the last one; None for a damaged one."""
    if manifest.stride:
        return range(0, (manifest.count + 1) * manifest.stride, manifest.stride)
    stored = unpack_entries(storage.get(keys.index), 0, seed if manifest.is_sealed else None)
    return stored + [None] * (manifest.count + 1 - len(stored))
