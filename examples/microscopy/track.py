"""Link spots into tracks, and measure how far particles move. Linking runs in a job."""

from __future__ import annotations

import networkx as nx
import numpy as np
from laptrack import LapTrack
from numpy.typing import NDArray

REACH = 5.0
"""The longest step that links two spots in consecutive frames, in pixels."""
GAP_REACH, GAP = 8.0, 2
"""The longest distance that a gap may bridge, in pixels, and the largest number of frames without a spot in a gap."""


def link_spots(spots: NDArray[np.float64], *, frames: int) -> NDArray[np.float64]:
    """Return the tracks of a movie: x and y by frame and track, and NaN where a track has no spot.

    As in TrackMate, a first assignment links spots frame by frame, and a second one closes gaps.
    """
    by_frame = [spots[spots[:, 0] == frame, 1:3] for frame in range(frames)]
    tracker = LapTrack(
        cutoff=REACH**2,
        gap_closing_cutoff=GAP_REACH**2,
        # LapTrack counts from the last spot before a gap to the first one after it.
        gap_closing_max_frame_count=GAP + 1,
        # Leaving two spots apart costs more than any link within reach. By default, 10 % of the links cost more.
        alternative_cost_percentile=100,
    )
    # A node of the graph is a frame and the index of a spot. Without splits and merges, each component is a track.
    graph = tracker.predict(by_frame)
    components = list(nx.weakly_connected_components(graph))
    tracks = np.full((frames, len(components), 2), np.nan)
    for number, nodes in enumerate(components):
        for frame, index in nodes:
            tracks[frame, number] = by_frame[frame][index]
    return tracks


def steps(tracks: NDArray[np.float64], lag: int = 1) -> NDArray[np.float64]:
    """Return the steps along x and y of all tracks that have a spot in both of two frames, ``lag`` frames apart."""
    moved = tracks[lag:] - tracks[:-lag]
    return moved[~np.isnan(moved[..., 0])]


def mean_squared_displacement(tracks: NDArray[np.float64], lags: range) -> NDArray[np.float64]:
    """Return the mean squared displacement for each lag in frames, in square pixels."""
    return np.array([(steps(tracks, lag) ** 2).sum(axis=1).mean() for lag in lags])
