"""Wheels of local packages: packed from their installed files, or built from their source code."""
