"""Sizes and times that the S3 requests of client and worker have in common."""

from __future__ import annotations

# S3 takes parts of at least 5 MiB (S3 user guide, "Multipart upload limits").
PART_SIZE = 8 * 1024 * 1024
"""Bytes of a part of an upload, until parts begin to grow."""
WINDOW = 8 * 1024 * 1024
"""Bytes that one request reads into memory. Larger values are unpickled while they are read."""
SKIP = 64 * 1024
"""Bytes that are read without need, because a separate request would take longer."""
CONNECT_TIMEOUT = 10
"""Seconds until a connection attempt has failed."""
READ_TIMEOUT = 60
"""Seconds without data until a request has failed."""
