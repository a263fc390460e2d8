"""Maps of fractional anisotropy from diffusion MRI, as in examples/diffusion_mri.

The worker makes the subject's scan itself, from the file in DIPY's package. So all contestants move the same data: a
number to the worker, and a map back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from pipeline import process_subject
from subjects import make_scan

EDGE = 21
"""Voxels along an edge of the subject's block."""


def function(subject_and_edge):
    """Return the map of fractional anisotropy of a subject."""
    subject, edge = subject_and_edge
    return process_subject(make_scan(subject, edge))


def elements(count: int) -> Sequence[tuple[int, int]]:
    return [(subject, EDGE) for subject in range(count)]


def small() -> tuple[int, int]:
    return 0, 4


def digest(results: Sequence[np.ndarray]) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(result).tobytes() for result in results)).hexdigest()
