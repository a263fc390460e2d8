"""The settings and the published points of the paper's figures 2 and 3.

The paper's text has the settings. The points are in the notebook that draws the figures, published with the paper in
github.com/scipy-conference/scipy_proceedings: papers/adam_richie-halford/figures/compare_heateq_results.ipynb. They
are seconds from the creation of the job to the end of its last child; for PyWren, from the first invocation on.
"""

from __future__ import annotations

from collections.abc import Mapping

DEFAULT = {"min_vcpus": 0, "desired_vcpus": 8, "max_vcpus": 256}
CUSTOM = {"min_vcpus": 512, "desired_vcpus": 2048, "max_vcpus": 4096}
MAX_INSTANCES = 200
"""EC2's limit for the authors' account. It depended on the type, and "never exceeded 200 instances"."""

ARGUMENTS = [2**power for power in range(1, 13)]
SIDES = [10, 25, 50, 100, 125, 150, 175]
TEMPERATURES = 5


def _by(keys: list[int], seconds: list[float]) -> dict[int, float]:
    return dict(zip(keys, seconds, strict=True))


FIGURE_2: Mapping[str, Mapping[int, float]] = {
    "pywren": _by(ARGUMENTS, [2.29, 16.52, 17.44, 22.16, 19.35, 20.48, 22.04, 22.10, 14.13, 26.16, 38.58, 87.60]),
    "default": _by(
        ARGUMENTS,
        [48.34, 149.89, 247.27, 320.78, 108.28, 198.87, 252.45, 144.16, 324.91, 586.70, 928.05, 2457.20],
    ),
    "custom": _by(ARGUMENTS, [62.01, 45.06, 43.98, 26.31, 23.61, 30.85, 43.01, 76.39, 129.46, 222.54, 402.35, 662.09]),
}
"""Seconds for each number of arguments, at a grid of 10 x 10."""
FIGURE_3: Mapping[str, Mapping[int, float]] = {
    "pywren": _by(SIDES[:5], [2.34, 2.55, 12.68, 126.45, 270.67]),
    "default": _by(SIDES, [151.12, 53.27, 26.47, 98.54, 186.02, 214.17, 369.69]),
    "custom": _by(SIDES, [54.35, 30.71, 37.78, 72.45, 129.75, 223.17, 400.22]),
}
"""Seconds for each side length, with five temperatures. PyWren had no result at 150: "process ran out of time"."""
