"""Requests of S3: small ones, reads of a stream, uploads, and retries. Client and worker share all but `client`."""
