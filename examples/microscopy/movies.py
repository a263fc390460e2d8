"""Make movies of particles in Brownian motion, with their true positions.

Positions are x and y in pixels. The centre of the first pixel is at 0, 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

STEP = 1.0
"""Standard deviation of a particle's step from frame to frame, in pixels along each axis."""
SPOT = 1.5
"""Standard deviation of the brightness of a spot, in pixels."""
PHOTONS = 4000
"""Mean number of photons from a visible particle in one frame."""
BACKGROUND = 20
"""Mean number of photons from the background in each pixel."""
BLINKS = 0.02
"""Probability that a visible particle goes dark in the next frame, for one or two frames."""
BORDER = 8
"""Distance from the border of the movie at which particles are reflected, in pixels."""


@dataclass(frozen=True)
class Truth:
    """The true particles of a movie: x and y by frame and particle, and whether the particle is visible."""

    positions: NDArray[np.float64]
    visible: NDArray[np.bool_]


def make_truth(seed: int, frames: int, size: int, particles: int) -> Truth:
    """Return particles in Brownian motion, on a square of ``size`` pixels."""
    random = np.random.default_rng([seed, 0])
    inside = size - 2 * BORDER
    steps = random.normal(0, STEP, (frames, particles, 2))
    steps[0] = random.uniform(0, inside, (particles, 2))
    # Reflect the free path at both borders.
    path = np.cumsum(steps, axis=0) % (2 * inside)
    return Truth(BORDER + np.minimum(path, 2 * inside - path), _visible(random, frames, particles))


def _visible(random: np.random.Generator, frames: int, particles: int) -> NDArray[np.bool_]:
    """Return whether each particle is visible in each frame. A blink lasts one or two frames."""
    visible = np.ones((frames, particles), bool)
    starts = random.random((frames, particles)) < BLINKS
    lengths = random.integers(1, 3, (frames, particles))
    # A particle is visible in at least one frame before each blink, and in the first and last frame.
    for frame in range(1, frames - 2):
        dark = starts[frame] & visible[frame - 1] & visible[frame]
        visible[frame, dark] = False
        visible[frame + 1, dark & (lengths[frame] == 2)] = False
    return visible


def make_movie(truth: Truth, seed: int, size: int) -> bytes:
    """Return a movie of the particles as a TIFF file of 16-bit images, with the noise of photon counting."""
    import tifffile

    random = np.random.default_rng([seed, 1])
    file = BytesIO()
    with tifffile.TiffWriter(file) as tiff:
        for positions, visible in zip(truth.positions, truth.visible, strict=True):
            light = BACKGROUND + spots(positions[visible], size)
            tiff.write(random.poisson(light).astype(np.uint16), contiguous=True)
    return file.getvalue()


def spots(positions: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Return the mean image of Gaussian spots at these positions."""
    # A spot is the product of a Gaussian along x and one along y, so the image is a product of two matrices.
    along = np.exp(-((np.arange(size) - positions[..., None]) ** 2) / (2 * SPOT**2)) / (SPOT * np.sqrt(2 * np.pi))
    image: NDArray[np.float64] = PHOTONS * along[:, 1].T @ along[:, 0]
    return image
