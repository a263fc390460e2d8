"""Microscopy: particles in many movies, found by ImageJ in jobs, and compared with where they truly are.

ImageJ is in the image because its Debian package is asked for, so a Docker engine is needed to build it.
"""

import os

import numpy as np
from movies import PARTICLES, make_movie
from particles import find_particles

import cloudknot as ck

MOVIES = 3


def largest_error(found, truth):
    """Pixels between a true position and what was found for it, at most."""
    gaps = []
    for positions, true in zip(found, truth, strict=True):
        assert len(positions) == PARTICLES, f"{len(positions)} particles were found, not {PARTICLES}"
        distances = np.linalg.norm(np.array(positions)[:, None] - true[None], axis=2)
        gaps.append(distances.min(axis=0).max())
    return max(gaps)


def main():
    knot = ck.Knot(
        name="particles",
        func=find_particles,
        base_image=os.environ.get("BASE_IMAGE"),  # the default suits, where it can be pulled
        apt_packages=["imagej", "xvfb", "xauth"],
    )
    movies, truths = zip(*map(make_movie, range(MOVIES)), strict=True)
    for number, (found, truth) in enumerate(zip(knot.map(movies).result(), truths, strict=True)):
        error = largest_error(found, truth)
        print(f"movie {number}: {len(found)} frames, largest error {error:.2f} pixels")
        assert error < 0.5


if __name__ == "__main__":
    main()
