"""Draw one slice of some subjects: the scan, and the map of fractional anisotropy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from scans import Scan

COLUMNS = 6


def draw(scans: Sequence[Scan], maps: Sequence[np.ndarray], path: Path | None = None) -> Figure:
    """Return a figure with a column for each of the first six subjects, and save it if there is a path."""
    columns = min(len(scans), COLUMNS)
    figure, axes = plt.subplots(2, columns, figsize=(1.7 * columns + 0.9, 3.9), squeeze=False, layout="constrained")
    for column, (scan, fa) in enumerate(zip(scans[:columns], maps, strict=False)):
        # At this height, the block of the brain has tissue, fluid and the corpus callosum.
        height = round(0.72 * fa.shape[2])
        axes[0, column].imshow(scan.data[:, :, height, 1].T, cmap="gray", origin="lower")
        image = axes[1, column].imshow(fa[:, :, height].T, cmap="inferno", vmin=0, vmax=1, origin="lower")
        axes[0, column].set_title(f"subject {column}", fontsize=9)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    axes[0, 0].set_ylabel("one direction", fontsize=9)
    axes[1, 0].set_ylabel("fractional anisotropy", fontsize=9)
    figure.colorbar(image, ax=axes[1], fraction=0.05)
    if path is not None:
        figure.savefig(path, dpi=100)
    return figure
