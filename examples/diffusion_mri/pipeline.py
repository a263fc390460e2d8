"""From a diffusion MRI scan to its map of fractional anisotropy: brain mask, denoising, tensor fit.

`process_subject` is the work for one subject. It knows nothing of clouds, so any program can call it.
"""

from __future__ import annotations

import numpy as np

# DIPY takes Otsu's threshold from scikit-image if it is installed, and from its own copy of older code otherwise. The
# two give different masks. With this import, jobs have scikit-image, too.
import skimage  # noqa: F401
from dipy.core.gradients import gradient_table
from dipy.denoise.nlmeans import nlmeans
from dipy.reconst.dti import TensorModel
from dipy.segment.mask import median_otsu
from scans import Scan


def process_subject(scan: Scan) -> np.ndarray:
    """Return the map of fractional anisotropy: 0 to 1 in the brain, and 0 outside."""
    mask = brain_mask(scan.data)
    data = scan.data.astype(np.float32)
    denoised = denoise(data, mask, noise_level(data, mask))
    return fractional_anisotropy(denoised, scan.bvals, scan.bvecs, mask)


def brain_mask(data: np.ndarray) -> np.ndarray:
    """Return the voxels of the brain, by Otsu's threshold on the median-filtered mean of all volumes.

    The mean over all volumes shows tissue and air. In the unweighted volume, fluid is so bright that the threshold
    would separate fluid from tissue. The data are integers, so the sums are exact: on every machine, and for every
    order of the array in memory, the mask is the same.
    """
    return median_otsu(data, vol_idx=range(data.shape[-1]), median_radius=1, numpass=1)[1]


def noise_level(data: np.ndarray, mask: np.ndarray) -> float:
    """Return the standard deviation of the noise in each channel of the scanner, measured in air.

    The magnitude of pure noise has a Rayleigh distribution. Its median is sqrt(2 ln 2) standard deviations.
    """
    return float(np.median(data[~mask]) / np.sqrt(2 * np.log(2)))


def denoise(data: np.ndarray, mask: np.ndarray, noise: float) -> np.ndarray:
    """Return the scan denoised by non-local means, as the mean of similar patches near each voxel."""
    # One thread, because a job has one vCPU.
    return nlmeans(
        data, sigma=noise, mask=mask, patch_radius=1, block_radius=2, rician=True, num_threads=1, method="classic"
    )


def fractional_anisotropy(data: np.ndarray, bvals: np.ndarray, bvecs: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the fractional anisotropy of the diffusion tensors, fitted by weighted least squares."""
    model = TensorModel(gradient_table(bvals, bvecs=bvecs), fit_method="WLS")
    return model.fit(data, mask=mask).fa.astype(np.float32)
