"""The files in which people write requirements, read as pip's requirement lines."""
