"""Where the repository is, for tests that start other processes in it or read its files."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
