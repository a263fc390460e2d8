"""The pi example: the output of its script."""

import re

ID = r"[0-9a-f-]{36}"
TABLE = rf"Job ID +Name +Status\n-+\n(?:{ID}  pi-calc-\S+ +[A-Z]+\n)+"
ESTIMATE = r"pi is about 3\.1\d+; the error is 0\.0\d+\n"


def test_script_prints_jobs_and_estimate(example):
    ended = example("monte_carlo_pi", "python", "monte_carlo_pi.py")
    # A callback prints the estimate on another thread, so its place in the output varies.
    others, estimates = re.subn(ESTIMATE, "", ended.stdout)
    assert estimates == 1
    assert re.fullmatch(rf"{TABLE}{TABLE}The last job is done: (True|False); 20 results\.\n", others)
    # Another script may have left a knot of this name in the cloud of the tests.
    assert re.fullmatch(r"(The knot 'pi-calc' was updated\. Changed: function\..*\n)?", ended.stderr)
