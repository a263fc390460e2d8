"""``cloudknot configure`` asks for the settings, or takes them as options, and ``-h`` helps for every command."""

import click
import pytest
from click.testing import CliRunner

import cloudknot as ck
from cloudknot.cli.main import main


@pytest.fixture
def configure(tmp_path, monkeypatch):
    """Return a function that runs the command with these answers, in an empty home with one AWS profile."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text("[lab]\naws_access_key_id = a\naws_secret_access_key = b\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    return lambda *words, answers="": CliRunner().invoke(main, ["configure", *words], input=answers)


def saved(tmp_path):
    return (tmp_path / ".aws" / "cloudknot").read_text()


def test_answers_are_saved_and_enter_keeps_the_present_value(configure, tmp_path):
    done = configure(answers="lab\neu-west-1\n\nlab/images\n")
    assert done.exit_code == 0, done.output
    assert "Saved profile, region, ecr-repo in" in done.output
    assert saved(tmp_path) == "[aws]\nprofile = lab\nregion = eu-west-1\necr-repo = lab/images\n"
    again = configure(answers="\n\nmy-results\n\n")
    for question in (
        "AWS profile [lab]",
        "AWS region [eu-west-1]",
        "results [one that cloudknot creates]",
        "[lab/images]",
    ):
        assert question in again.output
    assert (ck.get_profile(), ck.get_region(), ck.get_ecr_repo()) == ("lab", "eu-west-1", "lab/images")
    assert "s3-bucket = my-results" in saved(tmp_path)
    assert "Nothing was changed." in configure(answers="\n\n\n\n").output


def test_invalid_answer_is_explained_and_asked_again(configure, tmp_path):
    done = configure(answers="labb\nlab\neu-west-11\neu-west-1\nMine\nmine-1\n\n")
    assert done.exit_code == 0
    for words in ("Near matches: lab", "Near matches: eu-west-1", "not the name of an S3 bucket"):
        assert words in done.output
    assert saved(tmp_path) == "[aws]\nprofile = lab\nregion = eu-west-1\ns3-bucket = mine-1\n"


def test_options_need_no_terminal(configure, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    monkeypatch.setenv("CLOUDKNOT_S3_BUCKET", "mine-2")
    monkeypatch.setenv("CLOUDKNOT_ECR_REPO", "other-images")
    done = configure("--region", "eu-west-1", "--s3-bucket", "mine-2", "--profile", "lab", "--ecr-repo", "images")
    assert done.exit_code == 0
    assert "[" not in done.output
    assert "The environment variable AWS_REGION wins over the saved region." in done.output
    assert "The environment variable CLOUDKNOT_ECR_REPO wins over the saved ecr-repo." in done.output
    assert "CLOUDKNOT_S3_BUCKET" not in done.output
    assert saved(tmp_path).splitlines() == [
        *("[aws]", "profile = lab", "region = eu-west-1", "s3-bucket = mine-2", "ecr-repo = images")
    ]
    wrong = configure("--region", "eu-west-11")
    assert wrong.exit_code == 1
    assert "Near matches" in wrong.output


def test_new_bucket_keeps_its_policy_and_encryption_but_not_the_owner(configure, tmp_path):
    ck.set_s3_params("first-1", policy="lab-data", sse="AES256", owner="123456789012")
    assert configure("--s3-bucket", "second-2").exit_code == 0
    text = saved(tmp_path)
    assert "s3-bucket = second-2" in text
    assert "s3-bucket-policy = lab-data" in text
    assert "s3-sse = AES256" in text
    assert "s3-bucket-owner" not in text


def test_end_of_input_names_the_options(configure):
    done = configure(answers="")
    assert done.exit_code == 2
    assert "Pass options, for example `cloudknot configure --region eu-west-1`" in done.output


def commands(group, path=()):
    """Yield the words of each command and group."""
    yield path
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("words", list(commands(main)), ids=" ".join)
def test_every_command_has_short_help_option(words):
    done = CliRunner().invoke(main, [*words, "-h"])
    assert done.exit_code == 0
    assert done.output.startswith(f"Usage: {' '.join(('main', *words))} ")
    assert "-h, --help" in done.output
