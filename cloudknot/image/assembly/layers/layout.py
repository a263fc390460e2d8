"""The places of the environment and the program in an image, and the times of their files."""

from __future__ import annotations

HOME = "/opt/cloudknot"
"""The working directory of jobs. It holds the program and the worker, and belongs to the user that jobs run as."""
ENVIRONMENT = f"{HOME}/env"
"""A virtual environment on top of the base image's Python."""
PYTHON = f"{ENVIRONMENT}/bin/python"
MODIFIED = 315532800
"""The time of all files, 1 January 1980, so that the same files always give the same bytes. zip knows no earlier."""


def site_packages(python: str) -> str:
    """Return the folder of the packages for a minor version of Python."""
    return f"{ENVIRONMENT}/lib/python{python}/site-packages"
