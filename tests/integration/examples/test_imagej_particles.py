"""The ImageJ example: a job calls ImageJ from Python, and ImageJ finds the particles at their true positions."""

import re

import pytest

BUILD = 900
"""Seconds for the first run of the script on a busy machine. Its image of 1 GB has 123 Debian packages."""


@pytest.mark.timeout(BUILD + 60)
def test_script_finds_particles_within_half_pixel(docker_example):
    ended = docker_example("imagej_particles", "python", "track.py", timeout=BUILD)
    errors = re.findall(r"movie \d: 5 frames, largest error (\d\.\d\d) pixels", ended.stdout)
    assert len(errors) == 3
    assert all(0 < float(error) < 0.5 for error in errors)


@pytest.mark.examples
def test_plot_draws_particles_of_one_movie(docker_example):
    pytest.importorskip("matplotlib", reason="matplotlib, of the extra `plots`, is not installed")
    ended = docker_example("imagej_particles", "python", "plot.py")
    assert ended.stdout == "saved particles.png\n"
    assert (ended.directory / "particles.png").read_bytes().startswith(b"\x89PNG")
