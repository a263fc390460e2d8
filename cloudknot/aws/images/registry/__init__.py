"""A client of container registries (OCI distribution specification 1.1): manifests and blobs, read, written, copied.

`client` has the operations, `upload` and `blob_stream` the transfers that resume, `session` the requests with login
and retries, `connections` the HTTP. No calls to AWS.
"""
