"""Draw one slice of some subjects: the scan, and the map of fractional anisotropy with and without denoising."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from pipeline import fractional_anisotropy
from scans import Scan
from subjects import MARGIN

COLUMNS = 6
ROWS = ("scan (one direction)", "FA, not denoised", "FA, denoised")


def draw(scans: Sequence[Scan], maps: Sequence[np.ndarray], path: Path | None = None) -> Figure:
    """Return a figure with a column for each of the first six subjects, and save it if there is a path."""
    columns = min(len(scans), COLUMNS)
    figure, axes = plt.subplots(3, columns, figsize=(1.45 * columns + 0.9, 4.5), squeeze=False, layout="constrained")
    for number, (column, scan, fa) in enumerate(zip(axes.T, scans, maps, strict=False)):
        column[0].set_title(f"subject {number}", fontsize=9)
        image = _draw_subject(column, scan, fa)
    for axis, label in zip(axes[:, 0], ROWS, strict=True):
        axis.set_ylabel(label, fontsize=9)
    figure.colorbar(image, ax=axes[1:], label="fractional anisotropy", shrink=0.9, aspect=30)
    if path is not None:
        figure.savefig(path, dpi=100)
    return figure


def _draw_subject(column: Sequence[Axes], scan: Scan, fa: np.ndarray) -> AxesImage:
    """Draw a slice in the upper part of the block, where it has white matter, fluid and the corpus callosum."""
    height = round(MARGIN + 0.85 * (fa.shape[2] - 2 * MARGIN - 1))
    data, denoised = scan.data[:, :, height], fa[:, :, height]
    noisy = fractional_anisotropy(data.astype(np.float32), scan.bvals, scan.bvecs, denoised > 0)
    column[0].imshow(data[..., 1].T, cmap="gray", origin="lower")
    for axis, values in zip(column[1:], (noisy, denoised), strict=True):
        image = axis.imshow(values.T, cmap="inferno", vmin=0, vmax=1, origin="lower")
    for axis in column:
        axis.set(xticks=[], yticks=[])
    return image
