"""Draw a movie's tracks over one of its frames, and the mean squared displacement."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from fields import Field
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from movies import STEP
from numpy.typing import NDArray
from track import mean_squared_displacement

LAGS = 20
"""The largest lag for the mean squared displacement, in frames."""
SINGLE = 40
"""The largest number of tracks whose own displacement is drawn."""
SHORTEST = 5
"""The smallest number of spots in a track that is drawn."""


def draw(frame: NDArray[np.uint16], tracks: NDArray[np.float64], fields: list[Field]) -> Figure:
    """Return a figure with the tracks over a frame, and the mean squared displacement of all tracks."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10.5, 5.2), width_ratios=(1.25, 1), layout="constrained", dpi=110
    )
    draw_tracks(left, frame, tracks, fields)
    draw_displacement(right, tracks)
    return figure


def draw_tracks(axes: Axes, frame: NDArray[np.uint16], tracks: NDArray[np.float64], fields: list[Field]) -> None:
    """Draw the tracks over a frame of the movie, with the seams between the fields of view."""
    # Most of the noise is black, which also keeps the file small.
    darkest, brightest = np.percentile(frame, [95, 99.9])
    axes.imshow(frame, cmap="gray", vmin=darkest, vmax=brightest)
    present = ~np.isnan(tracks[..., 0])
    long = np.flatnonzero(present.sum(axis=0) >= SHORTEST)
    # A line through the spots of a track also crosses its gaps.
    lines = [tracks[present[:, number], number] for number in long]
    colours = matplotlib.colormaps["hsv"](np.random.default_rng(0).random(len(lines)))
    axes.add_collection(LineCollection(lines, colors=colours, linewidths=0.8))
    for seam in sorted({limit for field in fields for limit in field.part if np.isfinite(limit)}):
        axes.axvline(seam, color="white", linewidth=0.7, linestyle="--")
        axes.axhline(seam, color="white", linewidth=0.7, linestyle="--")
    axes.set(title=f"{len(lines)} tracks, {len(fields)} fields of view", xlabel="x (pixels)", ylabel="y (pixels)")


def draw_displacement(axes: Axes, tracks: NDArray[np.float64]) -> None:
    """Draw the measured mean squared displacement, and the line of the true diffusion."""
    lags = range(1, min(LAGS, len(tracks) // 2) + 1)
    complete = np.flatnonzero(~np.isnan(tracks[..., 0]).any(axis=0))
    for number in complete[:SINGLE]:
        label = "single tracks without gaps" if number == complete[0] else None
        single = mean_squared_displacement(tracks[:, [number]], lags)
        axes.plot(lags, single, color="0.8", linewidth=0.6, label=label)
    # Along two axes.
    slope = 2 * STEP**2
    axes.plot(lags, [slope * lag for lag in lags], color="tab:red", label=f"true diffusion: {slope:g} px² per frame")
    axes.plot(lags, mean_squared_displacement(tracks, lags), "o", color="tab:blue", label="mean of all tracks")
    axes.set(xlabel="lag (frames)", ylabel="mean squared displacement (px²)", xlim=(0, None), ylim=(0, None))
    axes.legend()


def save(figure: Figure, path: Path) -> None:
    """Write the figure as a PNG file."""
    figure.savefig(path)
    plt.close(figure)
