"""Names of knots with underscores and of 55 characters, on the embedded cloud."""

import pytest
from click.testing import CliRunner

import cloudknot as ck
from cloudknot.cli.main import main
from tests.helpers.functions import double


def triple(x):
    return 3 * x


@pytest.fixture
def run_command(cloud, monkeypatch):
    monkeypatch.setenv("CLOUDKNOT_LOCAL_DIR", str(cloud.directory))
    return lambda *words: CliRunner().invoke(main, [*words, "--cloud", "local"])


def test_name_with_underscores_has_hyphens_in_aws_and_one_line_reports_it(cloud, caplog, run_command):
    knot = ck.Knot(name="afq_process_subject-201009-0", func=double, pars=ck.Pars("my_lab", cloud=cloud), cloud=cloud)
    name = "afq-process-subject-201009-0"
    assert (knot.name, knot.job_queue) == (name, f"{name}-cloudknot-job-queue")
    assert knot.pars.name == "my-lab"
    becomes = "The name 'afq_process_subject-201009-0' becomes 'afq-process-subject-201009-0' in AWS"
    assert [record.getMessage().startswith(becomes) for record in caplog.records] == [False, True]
    assert knot.map([1, 2]).result() == [2, 4]
    # The same script again, another session with either name, and the name of the object itself.
    again = ck.Knot(name="afq_process_subject-201009-0", func=double, pars=knot.pars, cloud=cloud)
    assert again.stack_id == knot.stack_id
    for spelling in ("afq_process_subject-201009-0", name):
        assert [job.result() for job in ck.Knot(name=spelling, cloud=cloud).jobs] == [[2, 4]]
    assert run_command("jobs", "afq_process_subject-201009-0").exit_code == 0
    assert run_command("clobber", "afq_process_subject-201009-0", "--pars", "--results", "--yes").exit_code == 0
    assert name not in [info.name for info in ck.list_knots(cloud)]


@pytest.mark.parametrize(("first", "second"), [("twin_a", "twin-a"), ("twin-b", "twin_b"), ("t_w-in", "t-w_in")])
def test_two_names_with_one_name_in_aws_never_become_one_knot(cloud, run_command, first, second):
    knot = ck.Knot(name=first, func=double, cloud=cloud)
    with pytest.raises(ck.CloudknotInputError, match=f"is the name of the existing knot {first!r} in AWS.*both would"):
        ck.Knot(name=second, func=triple, cloud=cloud)
    if "_" in second:
        with pytest.raises(ck.ResourceDoesNotExistException, match=rf"run Knot\(name={first!r}\)") as caught:
            ck.Knot(name=second, cloud=cloud)
        assert caught.value.resource_id == knot.name
        refused = run_command("clobber", second, "--yes")
        assert refused.exit_code == 1
        assert f"no knot named {second!r}" in refused.output
    assert ck.Knot(name=first, cloud=cloud).map([5]).result() == [10]
    knot.clobber()


def test_two_names_with_one_name_in_aws_never_become_one_pars(cloud):
    pars = ck.Pars("our_lab", cloud=cloud)
    with pytest.raises(ck.CloudknotInputError, match="is the name of the existing Pars 'our_lab' in AWS"):
        ck.Pars("our-lab", cloud=cloud)
    pars.clobber()


@pytest.mark.parametrize("name", ["x" * 55, "a_" * 27 + "b"])
def test_knot_with_longest_name_runs_and_leaves_nothing(cloud, name):
    knot = ck.Knot(name=name, func=double, pars=ck.Pars(name, cloud=cloud), cloud=cloud)
    assert knot.map([1, 2, 3], job_type="independent").result() == [2, 4, 6]
    described = cloud.call("batch", "describe_compute_environments", computeEnvironments=[knot.compute_environment])
    assert len(described["computeEnvironments"]) == 1
    assert (
        max(len(role) for role in (knot.job_role.rpartition("/")[2], knot.pars.execution_role.rpartition("/")[2]))
        <= 64
    )
    knot.clobber(clobber_pars=True, clobber_image=True)
    assert knot.name not in [info.name for info in ck.list_knots(cloud)]


@pytest.mark.parametrize("name", ["_a", "1a", "a.b", "a b", "x" * 56, "ä", ""])
def test_name_that_aws_cannot_have_is_refused(cloud, name):
    with pytest.raises(ck.CloudknotInputError, match="up to 55 letters, digits, hyphens and underscores"):
        ck.Knot(name=name, func=double, cloud=cloud)
