"""The diffusion MRI example: its pipeline on known tensors and noise, and its script with scans in S3."""

import importlib
import math
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from tests.integration.examples.conftest import EXAMPLES

pytestmark = pytest.mark.examples
pytest.importorskip("dipy", reason="dipy, of the extra `examples`, is not installed")
pytest.importorskip("skimage", reason="scikit-image, of the extra `examples`, is not installed")

NAMES = ("scans", "pipeline", "subjects")
OUTPUT = (
    r"4 jobs: \d+\.\d s\nthis process: \d+\.\d s\n"
    r"largest difference between a job's map and the local map: 0\.0e\+00\n"
    r"saved quick\.png\n"
)
INSTALL = 500
"""Seconds for a first run on a busy machine. It installs DIPY for the jobs."""


@pytest.fixture(scope="module")
def mri():
    """Yield the modules of the example. Their names are free again for other examples afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES / "diffusion_mri"))
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})
    for name in NAMES:
        del sys.modules[name]


def tensor_signal(diffusivities, bvals, bvecs):
    """Return the signal of a tensor along the axes, for an unweighted signal of 1000."""
    return 1000 * np.exp(-bvals * (bvecs**2 @ np.asarray(diffusivities)))


@pytest.mark.parametrize(
    ("diffusivities", "expected"),
    [((1.7e-3, 0.3e-3, 0.3e-3), 0.799), ((1e-3, 1e-3, 0.5e-3), 1 / 3), ((2e-3, 2e-3, 2e-3), 0)],
)
def test_fit_finds_anisotropy_of_known_tensor(mri, diffusivities, expected):
    source = mri.subjects.real_scan()
    data = np.tile(tensor_signal(diffusivities, source.bvals, source.bvecs), (2, 2, 2, 1))
    mask = np.ones((2, 2, 2), dtype=bool)
    mask[0, 0, 0] = False
    fa = mri.pipeline.fractional_anisotropy(data, source.bvals, source.bvecs, mask)
    assert fa[mask] == pytest.approx(expected, abs=1e-3)
    assert fa[0, 0, 0] == 0


def test_mask_covers_block_without_air(mri):
    scan = mri.subjects.make_scan(3, edge=14)
    mask = mri.pipeline.brain_mask(scan.data)
    inner = (slice(mri.subjects.MARGIN, -mri.subjects.MARGIN),) * 3
    assert mask[inner].mean() > 0.9
    assert mask.sum() == mask[inner].sum()


@pytest.mark.parametrize("snr", [4, 8])
def test_noise_level_agrees_with_added_noise(mri, snr):
    scan = mri.subjects.make_scan(5, edge=10, snr=snr)
    added = mri.subjects.real_scan().data[..., 1:].mean() / snr
    level = mri.pipeline.noise_level(scan.data.astype(np.float32), mri.pipeline.brain_mask(scan.data))
    assert level == pytest.approx(added, rel=0.05)


def test_denoising_halves_error_of_map(mri):
    noisy, clean = (mri.subjects.make_scan(1, edge=16, snr=snr) for snr in (4, math.inf))
    denoised = mri.pipeline.process_subject(noisy)
    mask = mri.pipeline.brain_mask(noisy.data)
    maps = [
        mri.pipeline.fractional_anisotropy(scan.data.astype(np.float32), scan.bvals, scan.bvecs, mask)
        for scan in (clean, noisy)
    ]
    errors = [np.abs(fa - maps[0])[mask].mean() for fa in (maps[1], denoised)]
    assert errors[1] < 0.6 * errors[0]
    assert maps[0][mask].mean() == pytest.approx(0.32, abs=0.05)


def test_files_keep_every_bit_of_scan_and_its_map(mri):
    scan = mri.subjects.make_scan(2, edge=8)
    read = mri.scans.from_files(mri.scans.to_files(scan))
    assert read.voxel_size == pytest.approx(scan.voxel_size)
    for name in ("data", "bvals", "bvecs"):
        assert np.array_equal(getattr(read, name), getattr(scan, name))
        assert getattr(read, name).dtype == getattr(scan, name).dtype
    assert read.data.flags.c_contiguous != scan.data.flags.c_contiguous
    assert np.array_equal(mri.pipeline.process_subject(read), mri.pipeline.process_subject(scan))


def test_subjects_differ_and_stay_same(mri):
    first, again, other = (mri.subjects.make_scan(number, edge=8) for number in (0, 0, 1))
    assert np.array_equal(first.data, again.data)
    assert not np.array_equal(first.data, other.data)
    assert np.allclose(np.linalg.norm(other.bvecs[1:], axis=1), 1, atol=1e-3)


@pytest.mark.timeout(INSTALL + 60)
def test_jobs_give_local_maps_from_scans_in_bucket(example, cloud):
    pytest.importorskip("matplotlib", reason="matplotlib, of the extra `plots`, is not installed")
    ended = example("diffusion_mri", "python", "diffusion_mri.py", "--quick", timeout=INSTALL, MPLBACKEND="agg")
    assert re.fullmatch(OUTPUT, ended.stdout)
    assert ended.pictures == ["quick.png"]
    kept = cloud.client("s3").list_objects_v2(Bucket=cloud.bucket, Prefix="diffusion-mri/")
    assert kept["KeyCount"] == 0
