"""The object store of the embedded cloud, without HTTP."""
