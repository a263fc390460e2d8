"""Variables that name settings have an effect; misspelt ones are refused before anything is created."""

from __future__ import annotations

import pytest

import cloudknot as ck
from cloudknot.aws.cloud import choose_cloud
from cloudknot.aws.sdk.settings.variables import check_aws_variables, misspelt
from cloudknot.options import config
from cloudknot.options.variables import OF_SETTINGS, check_variables

VALUES = {
    "CLOUDKNOT_CLOUD": "local",
    "CLOUDKNOT_BUILDER": "engine",
    "CLOUDKNOT_ECR_REPO": "lab/images",
    "CLOUDKNOT_PERMISSIONS_BOUNDARY": "lab-boundary",
    "CLOUDKNOT_S3_BUCKET": "lab-results",
    "CLOUDKNOT_S3_BUCKET_OWNER": "111122223333",
    "CLOUDKNOT_S3_BUCKET_POLICY": "lab-data",
    "CLOUDKNOT_S3_SSE": "aws:kms",
}


def test_every_setting_comes_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(VALUES) == set(OF_SETTINGS.values())
    for name, value in VALUES.items():
        monkeypatch.setenv(name, value)
    assert (config.cloud().value, config.builder(), config.ecr_repo()) == ("local", "engine", "lab/images")
    assert (config.permissions_boundary(), config.bucket_policy()) == ("lab-boundary", "lab-data")
    assert (config.bucket(), config.bucket_owner(), config.sse()) == ("lab-results", "111122223333", "aws:kms")


def test_map_stores_results_in_bucket_of_variable(
    cloud: ck.LocalCloud, monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    monkeypatch.setenv("CLOUDKNOT_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("CLOUDKNOT_S3_BUCKET", "results-of-the-lab")
    monkeypatch.setenv("CLOUDKNOT_ECR_REPO", "images-of-the-lab")
    # Another object of the same cloud, because each object reads its settings once.
    knot = ck.Knot(name="variables", func=abs, cloud=ck.LocalCloud(cloud.directory))
    assert knot.map([-2]).result(300) == [2]
    assert knot.job_definition.output_bucket == "results-of-the-lab"
    assert "/images-of-the-lab:" in knot.image_uri


def test_owner_in_config_file_is_not_that_of_bucket_in_variable(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("CLOUDKNOT_CONFIG_FILE", str(tmp_path / "settings"))
    (tmp_path / "settings").write_text("[aws]\ns3-bucket = a-a-a\ns3-bucket-owner = 111122223333\n")
    assert (config.bucket(), config.bucket_owner()) == ("a-a-a", "111122223333")
    monkeypatch.setenv("CLOUDKNOT_S3_BUCKET", "b-b-b")
    assert (config.bucket(), config.bucket_owner()) == ("b-b-b", None)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("CLOUDKNOT_S3_BUCKET", "My_Bucket", "CLOUDKNOT_S3_BUCKET='My_Bucket' is not the name of an S3 bucket"),
        ("CLOUDKNOT_ECR_REPO", "Lab", "CLOUDKNOT_ECR_REPO='Lab' is not the name of an image repository"),
        ("CLOUDKNOT_S3_SSE", "DES", "CLOUDKNOT_S3_SSE='DES' is not 'AES256' or 'aws:kms'"),
    ],
)
def test_invalid_value_of_variable_is_refused_by_its_name(monkeypatch, name, value, problem) -> None:
    monkeypatch.setenv(name, value)
    read = {"CLOUDKNOT_S3_BUCKET": config.bucket, "CLOUDKNOT_ECR_REPO": config.ecr_repo}.get(name, config.sse)
    with pytest.raises(ck.CloudknotConfigurationError) as caught:
        read()
    assert str(caught.value).startswith(problem)
    assert f"{name}=" in str(caught.value).partition(" Set ")[2]


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("CLOUDKNOT_S3_BUKET", "Near matches: CLOUDKNOT_S3_BUCKET"),
        ("CLOUDKNOT_LOCAL_DIRECTORY", "Near matches: CLOUDKNOT_LOCAL_DIR"),
        ("CLOUDKNOT_REGION", "Rename it to AWS_REGION"),
        ("CLOUDKNOT_SOMETHING_ELSE", "unset it: `unset CLOUDKNOT_SOMETHING_ELSE`"),
    ],
)
@pytest.mark.parametrize(
    "use",
    [choose_cloud, lambda: choose_cloud("local"), ck.get_ecr_repo, lambda: ck.LocalCloud().start()],
    ids=["aws", "local", "getter", "start"],
)
def test_unread_variable_is_refused_before_any_use(monkeypatch, tmp_path, name, fix, use) -> None:
    monkeypatch.setenv("CLOUDKNOT_LOCAL_DIR", str(tmp_path / "cloud"))
    monkeypatch.setenv(name, "x")
    with pytest.raises(
        ck.CloudknotConfigurationError, match=f"does not read the environment variable {name}"
    ) as caught:
        use()
    assert fix in str(caught.value)
    assert not (tmp_path / "cloud").exists()


def test_variables_of_jobs_and_tests_are_not_refused(monkeypatch) -> None:
    for name in ("CLOUDKNOT_MANIFEST", "CLOUDKNOT_CHILD", "CLOUDKNOT_ELEMENT", "CLOUDKNOT_TEST_X"):
        monkeypatch.setenv(name, "1")
    check_variables()


@pytest.mark.parametrize(
    ("variable", "near"),
    [
        ("AWS_ACCES_KEY_ID", "AWS_ACCESS_KEY_ID"),
        ("AWS_REGON", "AWS_REGION"),
        ("AWS_REGOIN", "AWS_REGION"),
        ("AWS_DEFAULT_REGIN", "AWS_DEFAULT_REGION"),
        ("AWS_PROFLE", "AWS_PROFILE"),
        ("AWS_SECRET_ACESS_KEY", "AWS_SECRET_ACCESS_KEY"),
        ("AWSREGION", "AWS_REGION"),
    ],
)
def test_misspelt_variable_of_aws_is_refused_on_aws_only(monkeypatch, variable, near) -> None:
    monkeypatch.setenv(variable, "x")
    with pytest.raises(ck.CloudknotConfigurationError, match=f"variable {variable}, .* resembles {near}"):
        ck.Cloud().door  # noqa: B018
    assert choose_cloud("local").region == "us-east-1"
    # With the right variable as well, the other one has no effect that anybody could miss.
    monkeypatch.setenv(near, "eu-west-1")
    assert misspelt() == {}


@pytest.mark.parametrize(
    "variable",
    ["AWS_REGIONS", "AWS_ACCOUNT_ID", "AWS_ACCESS_KEY_ID_2", "AWS_VAULT", "AWS_CREDENTIAL_EXPIRATION", "AWS_PAGER"],
)
def test_variables_of_other_tools_are_not_refused(monkeypatch, variable) -> None:
    monkeypatch.setenv(variable, "x")
    check_aws_variables()


@pytest.mark.parametrize(
    ("text", "variables", "problem"),
    [
        ("[default]\naws_access_key_id = A\n", {}, "The AWS access key in the AWS credentials file is incomplete: "
         "aws_secret_access_key is missing."),
        ("[default]\naws_secret_access_key = A\n", {}, "The AWS access key in the AWS credentials file (profile "
         "'default') is incomplete: aws_access_key_id is missing."),
        ("", {"AWS_ACCESS_KEY_ID": "A"}, "The AWS access key in the environment variables is incomplete: "
         "AWS_SECRET_ACCESS_KEY is missing."),
        ("", {"AWS_SECRET_ACCESS_KEY": "A"}, "The AWS access key in the environment variables is incomplete: "
         "AWS_ACCESS_KEY_ID is missing."),
        ("", {"AWS_ACCESS_KEY": "A", "AWS_SECRET_KEY": "A"}, "No AWS credentials were found for the AWS region "
         "us-east-1 (AWS by default, the region by default). AWS_ACCESS_KEY and AWS_SECRET_KEY are not names of"),
        ("", {}, "No AWS credentials were found for the AWS region us-east-1 (AWS by default, the region by default). "
         "To run on AWS"),
    ],
)  # fmt: skip
def test_half_a_key_and_foreign_names_are_named(monkeypatch, tmp_path, text, variables, problem) -> None:
    (tmp_path / "credentials").write_text(text)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ck.CredentialsError) as caught:
        choose_cloud().call("sts", "get_caller_identity")
    assert str(caught.value).startswith(problem)
