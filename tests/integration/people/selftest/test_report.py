"""Reports travel: nothing in them identifies an account, a person, a key or a machine."""

import socket
from pathlib import Path

import pytest

from cloudknot.cli.selftest.plan import FARGATE_JOBS, SPOT_JOBS, Plan, cost
from cloudknot.cli.selftest.report import FAILED, PASSED, Hide, Report, StepResult


@pytest.mark.parametrize(
    "text",
    [
        "arn:aws:iam::123456789012:user/ann.smith may not do this",
        "arn:aws-cn:sts::123456789012:assumed-role/Admin/ann.smith@lab.org is not authorised",
        "bucket cloudknot-123456789012-us-east-1 of ann.smith",
        "key AKIAIOSFODNN7EXAMPLE or ASIAIOSFODNN7EXAMPLE of ann.smith",
        "https://x/?X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F2026&X-Amz-Signature=0a1b2c3d&X-Amz-Security-Token=FwoGZX%3D",
        "https://123456789012.dkr.ecr.us-east-1.amazonaws.com/cloudknot",
        "profile ann.smith, bucket lab-of-ann",
    ],
)
def test_identifiers_are_hidden(text):
    hidden = Hide({"ann.smith": "<profile>", "lab-of-ann": "<bucket>"})(text)
    for secret in ("123456789012", "ann", "IOSFODNN7", "0a1b2c3d", "FwoGZX"):
        assert secret not in hidden, hidden


def test_home_and_host_are_hidden():
    hidden = Hide({})(f'File "{Path.home()}/project/x.py" on {socket.gethostname()}')
    assert str(Path.home()) not in hidden
    assert "~/project/x.py" in hidden


def test_words_are_hidden_whole_and_common_ones_stay():
    hide = Hide({"ann": "<profile>", "default": "<profile>", "it": "<profile>"})
    assert hide("ann has an annual default, and it stays") == "<profile> has an annual default, and it stays"


def test_formats_have_same_facts():
    report = Report("AWS", "eu-west-1", "2026-11-30", {"python": "3.12"}, "little")
    report.steps += [StepResult("map", PASSED, 1.0), StepResult("retry", FAILED, 2.0, "KeyError")]
    report.first_error = "Traceback | of 123456789012\n  second line"
    markdown, as_json = report.text(Hide({}), False), report.text(Hide({}), True)
    for text in (markdown, as_json):
        assert "eu-west-1" in text
        assert "KeyError" in text
        assert "123456789012" not in text
    assert "NOT passed" in markdown
    assert "```text\nTraceback | of <account>\n  second line\n```" in markdown


def test_cost_is_under_a_dollar_and_follows_from_jobs():
    assert 0.01 < cost().usual < cost().most < 1
    # An upper bound by hand: 12 jobs of ten minutes and two machines for an hour, twice as dear as in us-east-1.
    assert cost().most == pytest.approx(2 * (FARGATE_JOBS / 6 * 0.05437 + 2 * 0.134288 + 0.01), rel=0.01)
    assert SPOT_JOBS == 4


def test_plans_share_no_name():
    first, second = Plan(), Plan()
    names = {*first.knots, first.pars, first.repository}
    assert names.isdisjoint({*second.knots, second.pars, second.repository})
    assert all(first.token in name for name in names)
