"""The microscopy example: ImageJ and the linking find the particles of movies whose true particles are known."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from examples.microscopy import fields, movies

JARS = [Path("/usr/share/java/jython.jar"), Path("/usr/share/java/ij.jar")]
SCRIPT = ("microscopy", "python", "microscopy.py", "--quick", "--whole")
DETECTION = re.compile(r"(\d) fields?: (\d+) spots in \d+\.\d s; at most \d+\.\d s of CPU and (\d+) MB in a job\n")
QUALITY = re.compile(
    r"movies/000\.tif: (\d+) tracks; (\d+\.\d) % of visible points in the best track, (\d+\.\d) % false spots, "
    r"localisation error (\d\.\d{3}) px, steps (\d\.\d{3}) px\n"
)
FRAMES, PARTICLES = 60, 18
"""Frames and particles of the movie with ``--quick``."""


@pytest.fixture
def libraries():
    """Skip the test without the libraries that the script imports."""
    for name in ("laptrack", "matplotlib", "tifffile"):
        pytest.importorskip(name, reason=f"{name}, of the extra `examples`, is not installed")


@pytest.fixture
def imagej():
    """Skip the test on a machine without Java, Jython and ImageJ."""
    if shutil.which("java") is None or not all(jar.exists() for jar in JARS):
        pytest.skip("no Java, Jython and ImageJ on this machine: apt-get install jython libij-java")


def check(ended):
    """Assert that the output shows the true particles, and the same spots in the whole movie and in its fields."""
    whole, parts = DETECTION.findall(ended.stdout)
    truth = movies.make_truth(0, FRAMES, 256, PARTICLES)
    assert (whole[0], parts[0]) == ("1", "4")
    assert whole[1] == parts[1]
    assert 0.97 <= int(whole[1]) / truth.visible.sum() <= 1.01
    assert 0 < int(parts[2]) < int(whole[2])
    ((tracks, in_best_track, false, localisation, step),) = QUALITY.findall(ended.stdout)
    assert PARTICLES <= int(tracks) <= PARTICLES + 4
    assert float(in_best_track) > 93
    assert float(false) < 1
    # The photons allow no error below 0.02 pixels.
    assert 0.02 < float(localisation) < 0.05
    # About 2,000 steps along an axis, so the standard error is 0.016.
    assert float(step) == pytest.approx(movies.STEP, abs=0.05)
    assert ended.stdout.endswith("\nsaved quick.png\n")
    assert ended.pictures == ["quick.png"]


@pytest.mark.examples
@pytest.mark.usefixtures("imagej", "libraries")
@pytest.mark.timeout(600)
def test_script_finds_true_particles_with_imagej_of_machine(example):
    # The first run installs the Python packages of the jobs.
    check(example(*SCRIPT, MPLBACKEND="agg", timeout=580))


@pytest.mark.examples
@pytest.mark.usefixtures("libraries")
@pytest.mark.timeout(900)
def test_script_finds_true_particles_in_containers(docker_example):
    # The first build installs Java and the Python packages.
    check(docker_example(*SCRIPT, MPLBACKEND="agg", timeout=880))


@pytest.mark.examples
@pytest.mark.usefixtures("libraries")
def test_script_names_missing_java(shell, folder, programs):
    ended = shell("python", "microscopy.py", "--quick", directory=folder("microscopy"), PATH=str(programs))
    assert ended.code == 1
    assert re.fullmatch(r".*java not found\. .* apt install jython libij-java\n", ended.stderr)


@pytest.mark.parametrize("across", [1, 2, 3])
def test_each_spot_belongs_to_one_field_that_sees_it(across):
    size = 100
    random = np.random.default_rng(0)
    # Some are on seams, and some just outside of the movie, as the parabola may give them.
    places = [random.uniform(-0.5, size - 0.5, (500, 2)), random.integers(0, size, (200, 2))]
    spots = np.column_stack([random.integers(0, 3, 700), np.concatenate(places), np.ones(700)])
    parts = fields.split(size, across)
    assert len(parts) == across**2
    seen = [
        spots[
            (spots[:, 1] >= field.left - 0.5)
            & (spots[:, 1] < field.right)
            & (spots[:, 2] >= field.top - 0.5)
            & (spots[:, 2] < field.bottom)
        ]
        for field in parts
    ]
    assert sum(map(len, seen)) > len(spots) or across == 1
    joined = fields.join(parts, seen)
    assert sorted(map(tuple, joined)) == sorted(map(tuple, spots))
    assert np.array_equal(joined[:, 0], np.sort(joined[:, 0]))


def test_fields_overlap_by_twice_the_margin():
    left, right = fields.split(200, 2)[:2]
    assert left.right - right.left == 2 * fields.MARGIN


def test_true_particles_diffuse_and_blink():
    truth = movies.make_truth(seed=3, frames=200, size=512, particles=300)
    moved = np.diff(truth.positions, axis=0)
    # 60,000 steps along each axis. Reflection changes few of them.
    assert moved.std(axis=(0, 1)) == pytest.approx([1, 1], abs=0.02)
    assert truth.positions.min() >= movies.BORDER
    assert truth.positions.max() <= 512 - movies.BORDER
    dark = ~truth.visible
    assert not dark[0].any()
    assert not dark[-1].any()
    assert not (dark[:-2] & dark[1:-1] & dark[2:]).any()
    assert dark.mean() == pytest.approx(1.5 * movies.BLINKS, rel=0.1)


@pytest.mark.examples
@pytest.mark.usefixtures("libraries")
def test_linking_closes_gaps_and_finds_diffusion():
    from examples.microscopy import track

    truth = movies.make_truth(seed=1, frames=100, size=2000, particles=60)
    frames, particles = np.nonzero(truth.visible)
    noise = np.random.default_rng(2).normal(0, 0.04, (len(frames), 2))
    spots = np.column_stack([frames, truth.positions[frames, particles] + noise, np.ones(len(frames))])
    tracks = track.link_spots(spots, frames=100)
    assert tracks.shape == (100, 60, 2)
    # The tracks are the particles, in the order of a frame without blinks.
    assert truth.visible[0].all()
    order = np.argsort(tracks[0, :, 0])
    expected = np.where(truth.visible[..., None], truth.positions, np.nan)[:, np.argsort(truth.positions[0, :, 0])]
    assert np.array_equal(np.isnan(tracks[:, order]), np.isnan(expected))
    assert np.nanmax(np.abs(tracks[:, order] - expected)) < 0.3
    # Along two axes, plus twice the variance of the noise along each.
    measured = track.mean_squared_displacement(tracks, range(1, 4))
    assert measured == pytest.approx([2 * lag + 4 * 0.04**2 for lag in (1, 2, 3)], rel=0.08)
