"""Public scripts and notebooks for the earlier cloudknot run, from `import` to `clobber`, on the embedded cloud.

Each test makes the calls of one of them in the same order, with a small function in place of the science. The names of
buckets and images are changed. Only the image's Python is that of this session: an image must have the same one.
"""

import configparser
import itertools
import os
import os.path as op
import sys
import threading
import uuid

import pytest

import cloudknot as ck
from tests.helpers.inventory import inventory
from tests.helpers.waiting import LONG, until

BASE_IMAGE = f"python:3.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def scripts_cloud(tmp_path_factory):
    """Yield a cloud in which only these scripts have knots: their last line deletes the shared resources, too."""
    with ck.LocalCloud(tmp_path_factory.mktemp("scripts"), vcpus=2) as cloud:
        yield cloud


@pytest.fixture(autouse=True)
def settings(scripts_cloud, tmp_path, monkeypatch):
    """Make the cloud that of the settings, as a script names none. It begins and ends without knots."""
    monkeypatch.setenv("CLOUDKNOT_CLOUD", "local")
    monkeypatch.setenv("CLOUDKNOT_LOCAL_DIR", str(scripts_cloud.directory))
    monkeypatch.setenv("CLOUDKNOT_CONFIG_FILE", str(tmp_path / "settings"))
    monkeypatch.chdir(tmp_path)
    yield
    assert ck.list_knots(scripts_cloud) == []


def left_over(cloud):
    """Return the kinds of resources that a script without results of its own must not leave."""
    now = inventory(cloud)
    return {kind: now[kind] for kind in ("stacks", "job queues", "compute environments", "repositories") if now[kind]}


def test_subjects_and_a_second_knot_in_a_callback(scripts_cloud, capsys):
    """pyAFQ, ``cloudknot_example.py``: the callback makes a knot, and clobbers it in a callback of its own."""
    ck.set_region("us-east-1")
    merged, cleared = [], threading.Event()

    def afq_process_subject(subject):
        import logging

        logging.basicConfig(level=logging.INFO)
        logging.getLogger(__name__).info("subject %s", subject)
        return subject * 2

    subjects = [123456, 123457, 123458]
    knot = ck.Knot(
        name="afq_process_subject-201009-0",
        func=afq_process_subject,
        base_image=BASE_IMAGE,
        pars_policies=("AmazonS3FullAccess",),
        bid_percentage=100,
    )
    result_futures = knot.map(subjects)

    def merge_results(future):
        def afq_combine_profiles(dummy_argument):
            return f"combined {dummy_argument}"

        knot2 = ck.Knot(
            name="afq_combine_subjects-201009-0",
            func=afq_combine_profiles,
            base_image=BASE_IMAGE,
            pars_policies=("AmazonS3FullAccess",),
            bid_percentage=100,
        )
        futures = knot2.map(["dummy_argument"], job_type="independent")
        futures.add_done_callback(lambda done: merged.extend(done.result()))
        # The future is the first argument, as if somebody passed it as clobber_pars.
        futures.add_done_callback(knot2.clobber)
        futures.add_done_callback(lambda _: cleared.set())

    result_futures.add_done_callback(merge_results)
    assert cleared.wait(LONG)
    assert merged == ["combined dummy_argument"]
    until(lambda: knot.jobs[0].status == "SUCCEEDED")
    knot.view_jobs()
    assert "SUCCEEDED" in capsys.readouterr().out
    assert result_futures.result() == [2 * subject for subject in subjects]
    knot.clobber(clobber_pars=True, clobber_repo=True, clobber_image=True)
    assert left_over(scripts_cloud) == {}


def test_product_of_arguments_and_keys_from_the_credentials_file(scripts_cloud, monkeypatch, tmp_path):
    """pyAFQ, ``hcp_example.py``: starmap over a product, clobber everything, and then the same with a second knot."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text("[hcp]\nAWS_ACCESS_KEY_ID = AK\nAWS_SECRET_ACCESS_KEY = secret\n")

    def afq_process_subject(subject, seed_mask, n_seeds, aws_access_key, aws_secret_key):
        return f"{subject}/{seed_mask}_{n_seeds}", (aws_access_key, aws_secret_key) == ("AK", "secret")

    seed_mask, n_seeds = ["fa", "roi"], [1, 2, 1000000, 2000000]
    args = list(itertools.product(["103818", "105923"], seed_mask, n_seeds))
    CP = configparser.ConfigParser()  # noqa: N806 - as in the script
    with open(op.join(op.expanduser("~"), ".aws", "credentials")) as file:
        CP.read_file(file)
    keys = [CP.get("hcp", "AWS_ACCESS_KEY_ID"), CP.get("hcp", "AWS_SECRET_ACCESS_KEY")]
    args = [[*arguments, *keys] for arguments in args]
    choices = {"base_image": BASE_IMAGE, "pars_policies": ("AmazonS3FullAccess",), "bid_percentage": 100}
    knot = ck.Knot(name="afq_hcp_tractography-201110-0", func=afq_process_subject, **choices)
    result_futures = knot.map(args, starmap=True)
    results = result_futures.result()
    assert results == [(f"{subject}/{mask}_{seeds}", True) for subject, mask, seeds, *_ in args]
    assert knot.jobs[0].starmap
    assert knot.jobs[0].array_job
    assert knot.jobs[0].input == [tuple(arguments) for arguments in args]
    knot.clobber(clobber_pars=True, clobber_repo=True, clobber_image=True)

    def afq_combine_profiles(seed_mask, n_seeds):
        return f"my_study_prefix_{seed_mask}_{n_seeds}"

    knot2 = ck.Knot(name="afq_combine_subjects-201110-0", func=afq_combine_profiles, **choices)
    result_futures2 = knot2.map(list(itertools.product(seed_mask, n_seeds)), starmap=True)
    assert result_futures2.result()[-1] == "my_study_prefix_roi_2000000"
    knot2.clobber(clobber_pars=True, clobber_repo=True, clobber_image=True)
    assert left_over(scripts_cloud) == {}


def test_a_bunch_of_hellos(scripts_cloud, capsys):
    """The notebook ``01_a_bunch_of_hellos``: little memory, variables, jobs, logs and futures of elements."""

    def hello_array(length):
        import os
        import platform

        return {"host": platform.node(), "array": [os.environ["MY_ENV_VAR"]] * int(length)}

    knot = ck.Knot(name="hello-array", base_image=BASE_IMAGE, func=hello_array, memory=128)
    variables = [{"name": "MY_ENV_VAR", "value": "foo"}]
    result_futures = knot.map(range(10), env_vars=variables)
    knot.view_jobs()
    last_job = knot.jobs[-1]
    until(lambda: last_job.done)
    assert [result["array"] for result in last_job.result(timeout=LONG)] == [["foo"] * n for n in range(10)]
    assert len(last_job.log_urls) == 10
    assert last_job.environment_variables == variables
    assert last_job.input == list(range(10))
    assert result_futures[0].done()
    assert result_futures[3].result()["array"] == ["foo"] * 3
    assert last_job.job_id in capsys.readouterr().out
    knot.clobber(clobber_pars=True, clobber_repo=True, clobber_image=True)
    assert left_over(scripts_cloud) == {}


def test_files_written_to_a_bucket(scripts_cloud):
    """The notebook ``03_write_to_s3_bucket``: the function returns None, and its files are in the user's bucket."""
    bucket_name = "escience-washington-edu-public"
    ck.aws.clients["s3"].create_bucket(Bucket=bucket_name)

    def write_to_bucket(index):
        import platform

        import boto3

        client = boto3.resource("s3")
        fn = f"temp_{int(index):03d}.txt"
        with open(fn, "w") as f:
            f.write(f"Hello World from index {index} on host {platform.node()}!")
        client.Bucket(bucket_name).upload_file(fn, fn)

    knot = ck.Knot(
        name="write-to-s3-bucket-2", func=write_to_bucket, base_image=BASE_IMAGE, pars_policies=("AmazonS3FullAccess",)
    )
    result_futures = knot.map(range(3))
    knot.view_jobs()
    assert result_futures.result() == [None] * 3
    listed = ck.aws.clients["s3"].list_objects_v2(Bucket=bucket_name)["Contents"]
    assert [item["Key"] for item in listed] == ["temp_000.txt", "temp_001.txt", "temp_002.txt"]
    knot.clobber(clobber_pars=True, clobber_repo=True, clobber_image=True)
    assert left_over(scripts_cloud) == {}


def test_docker_image_and_repository_objects(capsys):
    """The notebook ``04_using_dockerimage``, without its build: the properties, the repository, and both clobbers."""

    def test_func(name=None, *, no_capitalize=False):
        import sys  # noqa: F401
        from os.path import join  # noqa: F401

        if name:
            return f"Hello {name if no_capitalize else name.title()}!"
        return "Hello world!"

    image = ck.DockerImage(name="test_func", func=test_func, base_image=BASE_IMAGE)
    for value in (
        *(image.name, image.build_path, image.req_path, image.docker_path, image.script_path, image.pip_imports),
        *(image.github_installs, image.missing_imports, image.username, image.func, image.images, image.repo_uri),
    ):
        print(value)
    assert "cloudknot-user" in capsys.readouterr().out
    assert op.isfile(image.docker_path)
    repo = ck.aws.DockerRepo(name=str(uuid.uuid4()), aws_resource_tags=[{"Key": "Project", "Value": "pi"}])
    assert repo.repo_uri.endswith(repo.name)
    tags = ck.aws.clients["ecr"].list_tags_for_resource(resourceArn=repo.arn)["tags"]
    assert {"Key": "Project", "Value": "pi"} in tags
    knot = ck.Knot(name="attempt0", docker_image=image)
    assert knot.map(["ann", None]).result() == ["Hello Ann!", "Hello world!"]
    knot.clobber()
    image.clobber()
    repo.clobber()


def test_monte_pi(capsys):
    """The paper's notebook ``monte_pi``: a callback on the future, and the jobs of the knot before and after."""

    def monte_pi_count(n):
        import random

        generator = random.Random(n)
        return sum(generator.random() ** 2 + generator.random() ** 2 <= 1.0 for _ in range(n))

    found, n_jobs, n_samples = {}, 8, 2000

    def calc_pi_from_counts(future):
        found["pi"] = 4.0 * sum(future.result()) / (n_jobs * n_samples)

    knot = ck.Knot(name="pi-calc", func=monte_pi_count)
    assert knot.jobs == []
    futures = knot.map([n_samples] * n_jobs)
    futures.add_done_callback(calc_pi_from_counts)
    knot.view_jobs()
    job = knot.jobs[0]
    futures.result()
    assert futures.done()
    until(lambda: "pi" in found)
    assert 2.8 < found["pi"] < 3.5
    # Batch reports the end a moment after the last result.
    until(lambda: job.status == "SUCCEEDED")
    assert job.status["status"] == "SUCCEEDED"
    assert job.status["arrayProperties"]["size"] == n_jobs
    knot.clobber(clobber_pars=True, clobber_repo=True, clobber_image=True)


def test_bug_is_fixed_in_a_second_knot():
    """The FAQ, "I found a bug in my function": clobber the first attempt, and map with another name."""

    def my_awesome_func(args):
        return "Typo"

    knot = ck.Knot(name="attempt0", func=my_awesome_func)
    assert knot.map([1, 2]).result() == ["Typo", "Typo"]
    knot.clobber()
    with pytest.raises(ck.aws.ResourceClobberedException) as gone:
        knot.map([1])
    assert gone.value.resource_id == "attempt0"

    def my_awesome_func(args):
        return f"Correct result {args}"

    knot = ck.Knot(name="attempt1", func=my_awesome_func)
    results_futures = knot.map([1, 2])
    assert results_futures[1].result() == "Correct result 2"
    knot.clobber(clobber_pars=True, clobber_repo=True, clobber_image=True)


def test_results_are_still_there():
    """The FAQ, "my future.result() returns an error": each result is in the jobs of the knot, in another session."""

    def fails_at_two(x):
        if x == 2:
            raise ValueError("no result for 2")
        return 10 * x

    knot = ck.Knot(name="still-there", func=fails_at_two, retries=1)
    results_futures = knot.map([1, 2, 3], job_type="independent")
    with pytest.raises(ValueError, match="no result for 2"):
        results_futures[1].result()
    assert results_futures[0].result() == 10
    later = ck.Knot(name="still-there")
    assert not later.jobs[0].array_job
    assert later.jobs[0].future()[2].result() == 30
    with pytest.raises(ValueError, match="no result for 2"):
        later.jobs[0].result()
    knot.clobber(clobber_pars=True, clobber_repo=True, clobber_image=True)


def test_dti_of_a_few_subjects(scripts_cloud, caplog):
    """A hackathon's notebook: policies, `map` over ids, and a plain `clobber`, beside the knot of a colleague."""

    def calculate_dti(subject):
        return [subject / 2.0]

    theirs = ck.Knot(name="of-a-colleague", func=len)
    knot = ck.Knot(name="calculate-dti", func=calculate_dti, pars_policies=("AmazonS3FullAccess",))
    assert knot.map([991267, 992774]).result() == [[495633.5], [496387.0]]
    knot.clobber()
    # The colleague's notebook ends with the usual line, and so does that of a third person, whose knot goes on.
    thirds = ck.Knot(name="of-a-third", func=len)
    caplog.clear()
    theirs.clobber(clobber_pars=True, clobber_repo=True, clobber_image=True)
    assert theirs.clobbered
    assert caplog.text.count("because the knot 'of-a-third' uses") == 2
    assert thirds.map(["abc"]).result() == [3]
    thirds.clobber(clobber_pars=True, clobber_repo=True, clobber_image=True)
    assert left_over(scripts_cloud) == {}


def test_knot_is_found_again_by_its_name(capsys):
    """The notebook ``using_knot``: names of the resources, and a second object for the same knot."""

    def test_func(name=None):
        return f"Hello {name}!"

    knot = ck.Knot(name="example", func=test_func)
    for value in (
        *(knot.pars.batch_service_role, knot.pars.ecs_instance_role, knot.pars.spot_fleet_role, knot.pars.vpc),
        *(knot.pars.security_group, knot.job_definition.arn, knot.compute_environment, knot.job_queue),
        knot.docker_repo.repo_uri,
    ):
        print(value)
    assert "arn:aws:batch" in capsys.readouterr().out
    retrieved_knot = ck.Knot(name="example")
    assert retrieved_knot.map(["x"]).result() == ["Hello x!"]
    knot.clobber(clobber_pars=True)
    knot.clobber()
    # The other object still names a knot that is gone.
    retrieved_knot.clobber(clobber_pars=True, clobber_repo=True, clobber_image=True)
    with pytest.raises(ck.aws.ResourceDoesNotExistException) as gone:
        ck.Knot(name="example")
    assert gone.value.resource_id == "example"


def test_particle_tracking_checks_its_files(scripts_cloud):
    """diff_classifier's notebooks: one image for several knots, files in S3, and a repository at the end."""
    ck.aws.clients["s3"].create_bucket(Bucket="videos-of-a-lab")
    prefixes = [f"P{pup}_S{slice_}" for pup in range(1, 3) for slice_ in range(1, 3)]

    def tracking(prefix, bucket):
        import boto3

        boto3.client("s3").put_object(Bucket=bucket, Key=f"Traj_{prefix}.csv", Body=b"1,2")
        return prefix

    image = ck.DockerImage(func=tracking, base_image=BASE_IMAGE, overwrite=True)
    knots = [
        ck.Knot(
            name=f"download_and_track_{memory}_b0",
            docker_image=image,
            memory=memory,
            job_def_vcpus=1,
            pars_policies=("AmazonS3FullAccess",),
            repo_name="lab/videos",
        )
        for memory in (400, 800)
    ]
    futures = [
        knot.map([(prefix, "videos-of-a-lab") for prefix in prefixes[part::2]], starmap=True)
        for part, knot in enumerate(knots)
    ]
    assert sorted(prefix for future in futures for prefix in future.result()) == prefixes
    for prefix in prefixes:
        ck.aws.clients["s3"].head_object(Bucket="videos-of-a-lab", Key=f"Traj_{prefix}.csv")
    repo = ck.aws.DockerRepo("lab/videos")
    with pytest.raises(ck.aws.CannotDeleteResourceException, match="knots can run no jobs"):
        repo.clobber()
    for knot in knots:
        knot.clobber(clobber_pars=True, clobber_image=True)
    repo.clobber()
    assert left_over(scripts_cloud) == {}


def test_region_profile_and_bucket_settings(monkeypatch, tmp_path):
    """ "Getting started": several profiles, region shopping, a bucket and a repository of one's own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws").mkdir()
    keys = "aws_access_key_id = AK\naws_secret_access_key = secret\n"
    (tmp_path / ".aws" / "credentials").write_text(f"[default]\n{keys}[lab]\n{keys}")
    assert ck.list_profiles().profile_names == ["default", "lab"]
    ck.set_profile("lab")
    assert ck.get_profile(fallback=os.environ.get("AWS_PROFILE", "default")) == "lab"
    for name in ("ap-southeast-2", "us-east-1"):
        ck.set_region(name)
        assert ck.aws.get_region() == name
    with pytest.raises(ck.aws.RegionException):
        ck.set_region("moon-1")
    ck.set_s3_params(bucket="results-of-the-lab", sse="AES256")
    assert tuple(ck.get_s3_params()) == ("results-of-the-lab", None, None, "AES256")
    ck.set_ecr_repo("lab-images")
    assert ck.get_ecr_repo() == "lab-images"
    ck.refresh_clients(max_pool=100)
