"""A diffusion MRI scan, and its files in the layout of the Brain Imaging Data Structure."""

from __future__ import annotations

import gzip
import io
from collections.abc import Mapping
from dataclasses import dataclass

import nibabel as nib
import numpy as np

FILES = ("dwi.nii.gz", "dwi.bval", "dwi.bvec")


@dataclass(frozen=True)
class Scan:
    """A diffusion-weighted scan.

    Attributes
    ----------
    data : array of shape (x, y, z, volumes)
        The signal in each voxel, for each volume.
    bvals : array of shape (volumes,)
        The diffusion weighting of each volume, in s/mm².
    bvecs : array of shape (volumes, 3)
        The direction of the gradient in each volume, in the axes of the voxels.
    voxel_size : float
        The edge of a voxel in mm.
    """

    data: np.ndarray
    bvals: np.ndarray
    bvecs: np.ndarray
    voxel_size: float


def to_files(scan: Scan) -> dict[str, bytes]:
    """Return the files of a scan by their names."""
    # In FSL's convention, gradient directions are in voxel axes if the affine has a negative determinant.
    affine = np.diag([-scan.voxel_size, scan.voxel_size, scan.voxel_size, 1])
    image = gzip.compress(nib.Nifti1Image(scan.data, affine).to_bytes(), mtime=0)
    return dict(zip(FILES, (image, _text(scan.bvals[None]), _text(scan.bvecs.T)), strict=True))


def from_files(files: Mapping[str, bytes]) -> Scan:
    """Return the scan that `to_files` stored. Its arrays are equal to the last bit."""
    image = nib.Nifti1Image.from_bytes(gzip.decompress(files["dwi.nii.gz"]))
    bvals, bvecs = (np.loadtxt(io.BytesIO(files[name])) for name in FILES[1:])
    return Scan(np.asarray(image.dataobj), bvals, bvecs.T, float(image.header.get_zooms()[0]))


def _text(rows: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savetxt(file, rows)
    return file.getvalue()
