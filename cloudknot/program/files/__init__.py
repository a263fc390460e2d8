"""The user's files as they are on every system: the same names, line endings and encodings. No I/O but the listing
of folders.
"""
