"""Every script whose pieces are on the pages runs on the embedded cloud and prints the expected output.

Each runs in a directory of its own, with an interpreter of its own.
"""

import ast
import re
import sys

import pytest

from tests.helpers.paths import EXAMPLES, ROOT

FOLDERS = ("guide", "settings")
ID = r"[0-9a-f-]{36}"
OUTPUT = re.search(r"It prints:\n\n```text\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
"""The output that the README shows for the quickstart."""
TABLE = rf"Job ID +Name +Status\n-+\n(?:{ID}  pi-calc-\S+ +[A-Z]+\n)+"

PRINTED = {
    "quickstart.py": [re.escape(OUTPUT), rf"{ID} \[(\d{{5}}(, )?){{20}}\]\n$"],
    "guide/first_use.py": [
        r"^(True|False)\n",
        r"pi is about 3\.1\d?\n",
        TABLE,
        r"(True|False)\n",
        r"\[(\d{4}(, )?){20}\]\n$",
    ],
    "settings/choose_cloud.py": [rf"{way}: \[0, 1, 4, 9, 16\]\n" for way in ("argument", "variable", "object")],
    "settings/restart.py": [r"after a restart: \[0, 1, 4, 9, 16\]\n"],
    "settings/permissions.py": [
        r"\[0, 1, 4, 9, 16\]\n",
        "`cloudknot permissions create`",
        "describe_stacks with AccessDenied",
    ],
    "guide/failures.py": [
        r"raised: division by zero\n",
        rf"notes:\n  Raised by element 1 \(job {ID}:1\), in attempt 1 of its job\. "
        rf"Its output: .*cloudknot logs {ID} 1 --cloud local\n  2 of 4 elements failed\.\n",
        r"traceback: True\n",
        r"good: \[1\.0, 0\.25\]\n",
        r"died: 3 9\n",
        r"output: \['working on 4'\]\n",
        r"urls: 4\n$",
    ],
    "guide/retry_failed.py": [
        r"^failed: Raised by element 3\n",
        r"\[100, 100, 100, 50\]\n",
        r"\[100, 100, 100, 50\]\n",
        r"calls of the first element: [01]\n$",
    ],
    "guide/fix_and_retry.py": [r"^\[10\.0, 0\.0, 2\.0\]\ntenth \[0, 2\]\ntenth_or_zero \[1\]\n$"],
    "guide/random_numbers.py": [
        r"^indices: \[0, 1, 2, 3\]\ndifferent: True\nagain the same: True\nhere the same: True\n$"
    ],
    "guide/map_arguments.py": [
        r"^\['10', '20', '30'\]\n",
        r"\['2', '12', '50'\]\n",
        r"1000 9990\n",
        r"\['10 m2', '20 m2'\]\n",
        r"\['30', '40'\] \['10', '20'\]\n",
        r"\['7', '14'\]\n\['10', '20'\]\n",
        r"\['10', '20'\] 2\n$",
    ],
    "guide/chain.py": [
        r"^(1?\d\.\d)\n",
        r"\[(1?\d\.\d(, )?){6}\]\n",
        r"\[\[(1?\d\.\d(, )?){6}\], 1?\d\.\d\]\n$",
    ],
    "guide/element_futures.py": [
        r"^3 0\.0\n",
        r"\[0\.0, 0\.1, 0\.3\]\n",
        r"\(\[0\.3, 0\.0, 0\.1\], 0\.1, \[0\.3, 0\.0, 0\.1\]\)\n",
        r"No result after 0\.5 s\. Progress: 0/2.*\. The job keeps running\. .*name='naps'.*\n",
        r"True True\n$",
    ],
    "guide/what_travels.py": [
        r"^\[101, 102, 103\]\n\[1, 8, 27\]\n\[20, 40, 60\]\n\[-1, -2, -3\]\n",
        r"\['1\.16\.0'\]\n$",
    ],
    "settings/choices.py": [
        r"^chosen-cloudknot-job-definition 3\n",
        r"chosen-cloudknot-job-queue chosen-cloudknot-compute-environment\n",
        r"squares chosen\n",
        r"\[9\]\n",
        r"retries=11 is not a whole number from 1 to 10\. Pass for example retries=3\.\n",
        r"True\n$",
    ],
    "settings/clean_up.py": [
        r"^\[1, 8, 27\]\n",
        r"cubes CREATE_COMPLETE to-be-removed 0\n",
        r"\[\]\n$",
    ],
    "settings/own_machines.py": [r"^\[4\] \[8\] first\n", r"\[9\]\n$"],
    "settings/config_file.py": [
        r"^eu-west-1 my-own-bucket lab/images\n",
        r"'eu-west-11' is not an AWS region.*eu-west-1.*\n$",
    ],
}
"""The patterns that match the output of each script, in this order."""
ERROR_OUTPUT = {
    "guide/fix_and_retry.py": r"The knot 'tenths' was updated\. Changed: function\..*\n",
    "guide/what_travels.py": r"(The knot 'anything' was updated\. Changed: function\..*\n){3}",
    # Knots of other tests use the same repository.
    "settings/clean_up.py": r"(Images in the repository .* were kept, because .*\n)?",
    # The example monte_carlo_pi names its knot "pi-calc", too. The second script updates it.
    "guide/first_use.py": r"(The knot 'pi-calc' was updated\. Changed: function\..*\n)?",
}
"""The stderr of scripts that print a notice there. All others print nothing."""
FIRST_FAILURE = r"(?m)^[\w-]+( #\d+)?( retry)?: element \d+ failed: .*\(\d+ of \d+\)\n"
"""The line about the first failure of a map. It appears if the session looks before the map has ended."""
CALLBACK_OUTPUT = {
    "guide/first_use.py": r"pi is about 3\.1\d?\n",
}
"""The output of callbacks. They run on another thread, so its place in the output varies."""
SEPARATE = {"guide/come_back_later.py", "guide/debug_by_hand.py"}
"""Scripts with a test of their own."""


@pytest.fixture
def script(shell, tmp_path):
    """Return a function that runs a script of examples/ and returns its output."""

    def run(name, *arguments):
        # One script restarts its cloud. That of the tests must go on, with its faults.
        own = {"CLOUDKNOT_LOCAL_DIR": str(tmp_path / "own")} if name == "settings/restart.py" else {}
        # Stages appear only where they are slow.
        result = shell(sys.executable, str(EXAMPLES / name), *arguments, CLOUDKNOT_PROGRESS="0", **own)
        assert result.code == 0, result.stderr
        notices = re.sub(FIRST_FAILURE, "", result.stderr)
        assert re.fullmatch(ERROR_OUTPUT.get(name, ""), notices), result.stderr
        return result.stdout

    return run


def assert_in_order(text, patterns):
    """Assert that the text contains the patterns one after the other."""
    position = 0
    for pattern in patterns:
        match = re.compile(pattern).search(text, position)
        assert match, f"{pattern!r} does not follow in {text[position:]!r}"
        position = match.end()


def test_every_example_has_test():
    scripts = [path for folder in (".", *FOLDERS) for path in (EXAMPLES / folder).glob("*.py")]
    assert {path.relative_to(EXAMPLES).as_posix() for path in scripts} == set(PRINTED) | SEPARATE


@pytest.mark.parametrize("name", sorted([*PRINTED, *SEPARATE]))
def test_every_example_has_docstring(name):
    assert ast.get_docstring(ast.parse((EXAMPLES / name).read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", PRINTED)
def test_example_prints_expected_output(script, name):
    text = script(name)
    assert_in_order(text, PRINTED[name])
    assert re.search(CALLBACK_OUTPUT.get(name, ""), text)


def test_one_session_submits_map_and_next_reads_its_results(script):
    submitted = re.fullmatch(rf"submitted ({ID})\n", script("guide/come_back_later.py", "submit"))
    assert submitted
    primes = r"\[168, 1229, 9592\]\n"
    assert_in_order(
        script("guide/come_back_later.py", "collect"), [rf"^{submitted[1]} {primes}", rf"primes-\S+ {primes}$"]
    )


def test_printed_commands_run_one_element_by_hand(script, shell):
    message, commands = script("guide/debug_by_hand.py").split("\n", 1)
    assert message == "three is not accepted"
    failing = shell("bash", "-euc", commands)
    assert failing.code == 1
    assert 'raise ValueError("three is not accepted")' in failing.stderr
    assert failing.stderr.endswith("Element 3 failed with ValueError: three is not accepted\n")
    succeeding = shell("bash", "-euc", commands.replace("--element 3", "--element 4"))
    assert (succeeding.code, succeeding.stdout) == (0, "4\n")
