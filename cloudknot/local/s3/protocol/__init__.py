"""The protocol of Amazon S3: requests after their one reading, answered from an object store.

Sources: Amazon S3 API reference; Amazon S3 user guide.
"""
