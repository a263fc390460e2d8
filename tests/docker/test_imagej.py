"""The microscopy example: a job calls ImageJ from Python, and ImageJ finds the particles at their true positions."""

import os
import re
import subprocess
import sys

from tests.helpers.paths import ROOT

EXAMPLE = ROOT / "examples" / "imagej_particles" / "track.py"


def test_imagej_example_finds_particles_within_half_pixel(cloud, machine):
    env = {
        **os.environ,
        "PYTHONPATH": str(EXAMPLE.parents[2]),
        "CLOUDKNOT_CLOUD": "local",
        "CLOUDKNOT_LOCAL_DIR": str(cloud.directory),
        "BASE_IMAGE": machine.base_image,
    }
    done = subprocess.run([sys.executable, str(EXAMPLE)], env=env, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    errors = re.findall(r"movie \d: 5 frames, largest error (\d\.\d\d) pixels", done.stdout)
    assert len(errors) == 3
    assert all(0 < float(error) < 0.5 for error in errors)
