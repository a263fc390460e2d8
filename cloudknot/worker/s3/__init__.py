"""S3 for the worker, and for the client where it reads and writes in the same way."""
