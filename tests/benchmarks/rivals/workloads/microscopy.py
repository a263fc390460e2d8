"""Spots in movies of diffusing particles, found by ImageJ in Java, as in examples/microscopy.

The worker makes the movie itself from a seed. The script of ImageJ is a part of the element, because it is no module.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from imagej import run_imagej
from movies import make_movie, make_truth

SCRIPT = Path(__file__).parents[4] / "examples" / "microscopy" / "detect.jy"
FRAMES, SIZE = 60, 256
"""Frames of a movie, and pixels along an edge."""


def function(seed_and_movie):
    """Return frame, position and contrast of each spot."""
    seed, frames, size, script = seed_and_movie
    truth = make_truth(seed, frames, size, size**2 // 3500)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "movie.tif").write_bytes(make_movie(truth, seed, size))
        (folder / "detect.jy").write_text(script)
        return run_imagej(folder / "detect.jy", folder / "movie.tif", folder / "spots.csv")


def elements(count: int) -> Sequence[tuple[int, int, int, str]]:
    return [(seed, FRAMES, SIZE, SCRIPT.read_text()) for seed in range(count)]


def small() -> tuple[int, int, int, str]:
    return 0, 2, 64, SCRIPT.read_text()


def digest(results: Sequence[np.ndarray]) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(spots).tobytes() for spots in results)).hexdigest()
