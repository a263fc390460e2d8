"""The layers of an environment: written file by file, the same bytes everywhere."""
