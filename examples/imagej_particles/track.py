"""Microscopy: ImageJ finds particles in many movies, in jobs. Compare them with the true positions.

The image contains the Debian package of ImageJ, so a Docker engine or AWS CodeBuild builds it.
"""

import os

import numpy as np
from movies import PARTICLES, make_movie
from particles import find_particles

import cloudknot as ck

MOVIES = 3


def find_in(movies):
    """Return the positions in each frame of each movie. One job searches one movie."""
    knot = ck.Knot(
        name="particles",
        func=find_particles,
        base_image=os.environ.get("BASE_IMAGE"),  # the default works if this machine can pull it
        apt_packages=["imagej", "xvfb", "xauth"],
    )
    return knot.map(movies).result()


def errors(found, truth):
    """Return the distance of each true position, by frame and particle, from the nearest one found, in pixels."""
    gaps = []
    for positions, true in zip(found, truth, strict=True):
        assert len(positions) == PARTICLES, f"{len(positions)} particles were found, not {PARTICLES}"
        distances = np.linalg.norm(np.array(positions)[:, None] - true[None], axis=2)
        gaps.append(distances.min(axis=0))
    return np.array(gaps)


def main():
    movies, truths = zip(*map(make_movie, range(MOVIES)), strict=True)
    for number, (found, truth) in enumerate(zip(find_in(movies), truths, strict=True)):
        error = errors(found, truth).max()
        print(f"movie {number}: {len(found)} frames, largest error {error:.2f} pixels")
        assert error < 0.5


if __name__ == "__main__":
    main()
