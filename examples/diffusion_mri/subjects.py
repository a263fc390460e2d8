"""Subjects for the example. They are replicas of one real scan, `small_64D`, a file of the DIPY package.

`small_64D` is a block of 10 x 10 x 10 voxels of a human brain, with one unweighted volume and 64 directions. A replica
is this block in another position, with another brightness, surrounded by air, and with new noise. Replicas are no
study of several people.
"""

from __future__ import annotations

import nibabel as nib
import numpy as np
from dipy.data import get_fnames
from dipy.io.gradients import read_bvals_bvecs
from scans import Scan
from scipy.ndimage import affine_transform

MARGIN = 3
"""Voxels of air on each side."""
SNR = 4
"""The default ratio of signal to noise. It is low, as for small voxels."""


def real_scan() -> Scan:
    """Return the scan in DIPY's package. Nothing is downloaded."""
    image_file, bvals_file, bvecs_file = get_fnames(name="small_64D")
    image = nib.load(image_file)
    data = np.asarray(image.dataobj, dtype=np.float32)
    bvals, bvecs = read_bvals_bvecs(bvals_file, bvecs_file)
    # The file has no direction for the unweighted volume.
    return Scan(data, bvals, np.nan_to_num(bvecs), float(image.header.get_zooms()[0]))


def make_scan(subject: int, edge: int = 14, snr: float = SNR) -> Scan:
    """Return the scan of a subject: the real block in another position, in air, with noise.

    Parameters
    ----------
    subject : int
        The seed of the position, the brightness and the noise.
    edge : int, default 14
        Voxels along each edge of the block. More voxels are smaller ones, and take longer to process.
    snr : float
        Mean weighted signal of the block, in standard deviations of the noise. `math.inf` adds no noise.
    """
    random = np.random.default_rng(subject)
    source = real_scan()
    turn = _turn(random.uniform(-10, 10))
    block = _resample(source.data, turn, edge) * random.uniform(0.8, 1.2)
    clean = np.pad(block, [(MARGIN, MARGIN)] * 3 + [(0, 0)])
    noise = source.data[..., 1:].mean() / snr
    # A scanner stores the magnitude of two noisy channels.
    noisy = np.hypot(clean + random.normal(0, noise, clean.shape), random.normal(0, noise, clean.shape))
    size = source.voxel_size * (len(source.data) - 1) / (edge - 1)
    return Scan(np.rint(noisy).astype(np.int16), source.bvals, source.bvecs @ turn.T, size)


def _turn(degrees: float) -> np.ndarray:
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])


def _resample(data: np.ndarray, turn: np.ndarray, edge: int) -> np.ndarray:
    """Return the block turned around its centre, with ``edge`` voxels along each axis."""
    old = len(data)
    matrix = turn.T * (old - 1) / (edge - 1)
    offset = np.full(3, (old - 1) / 2) - matrix @ np.full(3, (edge - 1) / 2)
    volumes = [
        affine_transform(volume, matrix, offset, output_shape=(edge,) * 3, order=1, mode="mirror")
        for volume in np.moveaxis(data, -1, 0)
    ]
    return np.stack(volumes, axis=-1)
