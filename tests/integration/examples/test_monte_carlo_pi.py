"""The pi example: the output of its scripts, and the convergence of its estimates."""

import math
import re
from xml.etree import ElementTree

import pytest

from tests.helpers.paths import EXAMPLES

ID = r"[0-9a-f-]{36}"
TABLE = rf"Job ID +Name +Status\n-+\n(?:{ID}  pi-calc-\S+ +[A-Z]+\n)+"
ESTIMATE = r"pi is about 3\.1\d+; the error is 0\.0\d+\n"
README = (EXAMPLES / "monte_carlo_pi" / "README.md").read_text(encoding="utf-8")
DARTS = (100, 316, 1_000, 3_162, 10_000)
"""The numbers of darts with ``--quick``."""
SVG = "{http://www.w3.org/2000/svg}"


def test_script_prints_jobs_and_estimate(example):
    # Stages appear only where they are slow.
    ended = example("monte_carlo_pi", "python", "monte_carlo_pi.py", CLOUDKNOT_PROGRESS="0")
    # A callback prints the estimate on another thread, so its place in the output varies.
    others, estimates = re.subn(ESTIMATE, "", ended.stdout)
    assert estimates == 1
    assert re.fullmatch(rf"{TABLE}{TABLE}The last job is done: (True|False); 20 results\.\n", others)
    # Another script may have left a knot of this name in the cloud of the tests.
    assert re.fullmatch(r"(The knot 'pi-calc' was updated\. Changed: function\..*\n)?", ended.stderr)


@pytest.mark.examples
def test_plot_shows_error_that_theory_expects(example):
    pytest.importorskip("matplotlib", reason="matplotlib, of the extra `plots`, is not installed")
    ended = example("monte_carlo_pi", "python", "plot.py", "--quick")
    rows = [line.replace(",", "").split() for line in ended.stdout.splitlines()[1:-1]]
    assert [int(row[0]) for row in rows] == list(DARTS)
    for darts, mean, error, expected in (map(float, row) for row in rows):
        assert expected == pytest.approx(math.sqrt(math.pi * (4 - math.pi) / darts), abs=1e-5)
        # The mean of 20 estimates, and the rms of their errors, have these standard deviations.
        assert abs(mean - math.pi) < 4 * expected / math.sqrt(20)
        assert abs(error - expected) < 4 * expected / math.sqrt(40)
    # Each is in the README, whose table has more rows.
    assert [line for line in ended.stdout.splitlines() if line not in README] == []
    assert ended.pictures == ["convergence.svg"]
    drawing = ElementTree.parse(ended.directory / "convergence.svg")
    # One mark for each estimate, and one for each mean error.
    marks = [use for use in drawing.iter(f"{SVG}use") if "fill: #d55e00" in use.get("style", "")]
    assert len(marks) >= 20 * len(DARTS) + len(DARTS)
