"""Make movies of bright particles with known positions, as multi-page TIFF files in memory."""

from __future__ import annotations

import struct

import numpy as np

FRAMES, SIZE, PARTICLES = 5, 160, 12
SIGMA = 1.8
"""Standard deviation of the brightness of a particle, in pixels."""


def make_movie(seed: int) -> tuple[bytes, np.ndarray]:
    """Return a movie of drifting particles, and their true positions.

    Returns
    -------
    (bytes, array)
        The TIFF file, and the positions as x and y in pixels, by frame and particle. As in ImageJ, the centre of the
        first pixel is at 0.5, 0.5.
    """
    random = np.random.default_rng(seed)
    # Each particle starts well inside a cell of a grid, so that drifting particles never touch.
    cells = random.permutation(16)[:PARTICLES]
    corners = np.stack([cells % 4, cells // 4], axis=1) * (SIZE / 4)
    start = corners + random.uniform(14, 22, (PARTICLES, 2))
    speed = random.uniform(-1, 1, (PARTICLES, 2))
    truth = start + np.arange(FRAMES)[:, None, None] * speed
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    frames = 20 + random.normal(0, 4, (FRAMES, SIZE, SIZE))
    for frame, positions in zip(frames, truth, strict=True):
        for px, py in positions:
            frame += 200 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * SIGMA**2))
    return tiff(frames.clip(0, 255).astype(np.uint8)), truth


def tiff(pages: np.ndarray) -> bytes:
    """Return grey 8-bit images as one TIFF file (TIFF 6.0, "Baseline TIFF"). A page is a directory and one strip."""
    count, height, width = pages.shape
    size = 2 + 9 * 12 + 4
    file = b"II*\0" + struct.pack("<I", 8)
    for number, page in enumerate(pages):
        data = len(file) + size
        following = data + page.size if number + 1 < count else 0
        # Width, height, bits, compression, photometric, strip, samples, rows in the strip, its bytes.
        tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: data, 277: 1, 278: height, 279: page.size}
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
        file += struct.pack("<H", len(tags)) + entries + struct.pack("<I", following) + page.tobytes()
    return file
