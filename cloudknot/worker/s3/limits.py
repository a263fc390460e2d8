"""Sizes and times that the requests of client and worker have in common."""

from __future__ import annotations

PART_SIZE = 8 * 1024 * 1024
"""Bytes of a part of an upload, until parts begin to grow. S3 takes at least 5 MiB (S3 user guide, "Multipart upload
limits")."""
WINDOW = 8 * 1024 * 1024
"""Bytes that one request reads into memory; whatever is larger is read as it is unpickled."""
SKIP = 64 * 1024
"""Bytes that are read along without need, since another request would take longer."""
CONNECT_TIMEOUT = 10
READ_TIMEOUT = 60
"""Seconds until a server that does not accept a connection, or does not answer, has failed."""
