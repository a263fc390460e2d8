"""Compare the spots and tracks of a movie with the true particles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from movies import Truth
from numpy.typing import NDArray
from scipy.spatial import KDTree
from track import steps

NEAR = 1.0
"""The largest distance in pixels between a particle and its spot."""


@dataclass(frozen=True)
class Quality:
    """How well tracks agree with the true particles.

    Attributes
    ----------
    in_best_track : float
        Part of the visible points of a particle that are in its best track, as the mean of all particles.
    localisation : float
        Typical error of a position along one axis, in pixels: the standard deviation, from the median so that spots
        of two particles do not count.
    false : float
        Part of the spots that are not near a visible particle.
    step : float
        Standard deviation of the steps along an axis, in pixels.
    """

    in_best_track: float
    localisation: float
    false: float
    step: float

    def __str__(self) -> str:
        return (
            f"{100 * self.in_best_track:.1f} % of visible points in the best track, {100 * self.false:.1f} % false "
            f"spots, localisation error {self.localisation:.3f} px, steps {self.step:.3f} px"
        )


def compare(tracks: NDArray[np.float64], truth: Truth) -> Quality:
    """Return how well the tracks agree with the true particles."""
    errors, spots = [], 0
    points = np.zeros((truth.positions.shape[1], tracks.shape[1]), int)
    for found, positions, visible in zip(tracks, truth.positions, truth.visible, strict=True):
        numbers = np.flatnonzero(~np.isnan(found[:, 0]))
        particles = np.flatnonzero(visible)
        distances, nearest = KDTree(positions[particles]).query(found[numbers])
        near = distances <= NEAR
        spots += len(numbers)
        errors.append((found[numbers] - positions[particles[nearest]])[near])
        np.add.at(points, (particles[nearest[near]], numbers[near]), 1)
    error = np.concatenate(errors)
    return Quality(
        in_best_track=float((points.max(axis=1) / truth.visible.sum(axis=0)).mean()),
        localisation=float(1.4826 * np.median(np.abs(error))),
        false=1 - len(error) / spots,
        step=float(steps(tracks).std()),
    )
