"""A knot makes, reuses or refuses its resources and runs maps, on the embedded cloud with recorded AWS calls."""

import sqlite3
import threading

import pytest

import cloudknot as ck
from cloudknot.errors import CloudknotInputError, ImageError
from tests.helpers.counting import hook
from tests.helpers.waiting import until

LONG = 120


class Recorder:
    """A recorder of the AWS calls of a cloud's clients, each as ``service:Operation``.

    Attributes
    ----------
    calls : list of str
        The calls of all threads.
    own_calls : list of str
        The calls of the thread that made the recorder, without those of collectors.
    """

    def __init__(self, cloud):
        self.calls, self.own_calls = [], []
        self._lock, self._thread = threading.Lock(), threading.current_thread()
        clients = [cloud.door.client(name) for name in ("batch", "cloudformation", "ecr", "iam", "ec2", "s3", "sts")]
        for client in clients:
            client.meta.events.register("before-call", self._note)
        hook(cloud.door, "put_quickly", before=self._note_put)

    def _note_put(self, key):
        self._add("s3:PutObject")

    def _note(self, model, **_):
        self._add(f"{model.service_model.service_name}:{model.name}")

    def _add(self, call):
        with self._lock:
            self.calls.append(call)
            if threading.current_thread() is self._thread:
                self.own_calls.append(call)


@pytest.fixture
def second_cloud(cloud):
    """Return the same cloud as a second session, so that a recorder records only its calls."""
    return ck.LocalCloud(cloud.directory)


@pytest.fixture
def own_environments(cloud, monkeypatch):
    """Return the cloud's own directory of environments: no other process adds any to it."""
    monkeypatch.delenv("CLOUDKNOT_LOCAL_ENVIRONMENTS")
    directory = cloud.directory / "environments"
    directory.mkdir(exist_ok=True)
    return directory


def triple(x):
    return 3 * x


def file_names(directory):
    return {path.name for path in directory.iterdir()}


def test_unchanged_knot_is_reused_with_reads_only(cloud, second_cloud, own_environments):
    ck.Knot(name="again", func=triple, cloud=cloud)
    environments = file_names(own_environments)
    images = file_names(cloud.directory / "images")
    recorder = Recorder(second_cloud)
    reused = ck.Knot(name="again", func=triple, cloud=second_cloud)
    names = {call.partition(":")[2] for call in recorder.calls}
    assert names
    assert all(name.startswith(("Describe", "Get", "List", "Head")) for name in names), names
    assert len(recorder.calls) <= 11, recorder.calls
    assert file_names(own_environments) == environments
    assert file_names(cloud.directory / "images") == images
    assert reused.map([1]).result(LONG) == [3]


def test_knot_with_changed_function_registers_revision_without_stack_update(cloud, second_cloud, own_environments):
    ck.Knot(name="edited-function", func=lambda x: x, cloud=cloud)
    environments = file_names(own_environments)
    recorder = Recorder(second_cloud)
    edited = ck.Knot(name="edited-function", func=lambda x: x + 1, cloud=second_cloud)
    assert not [call for call in recorder.calls if "Stack" in call and not call.endswith("DescribeStacks")]
    assert recorder.calls.count("batch:RegisterJobDefinition") == 1
    assert file_names(own_environments) == environments
    assert edited.map([1]).result(LONG) == [2]


def test_map_submits_one_job_for_any_number_of_elements(cloud, second_cloud):
    ck.Knot(name="counted", func=triple, cloud=cloud)
    knot = ck.Knot(name="counted", func=triple, cloud=second_cloud)
    submissions = []
    for count in (2, 50):
        recorder = Recorder(second_cloud)
        future = knot.map(range(count))
        future.cancel()
        submissions.append(recorder.calls.count("batch:SubmitJob"))
        # The inputs, the manifest, and the record of the submission.
        assert recorder.calls.count("s3:PutObject") == 3
    assert submissions == [1, 1]


def nap(seconds):
    import time

    time.sleep(seconds)
    return seconds


def status_of(cloud, job_id):
    (job,) = cloud.call("batch", "describe_jobs", jobs=[job_id])["jobs"]
    return job["status"]


@pytest.mark.parametrize("failing", ["PutObject:submission.json", "SubmitJob:"])
def test_failed_submission_leaves_no_job_in_history(cloud, second_cloud, failing):
    knot = ck.Knot(name="refused-map", func=nap, cloud=second_cloud)
    operation, _, key = failing.partition(":")
    submitted = []

    def refuse(params, model, **_):
        if model.name == operation and str(params.get("url_path", "")).endswith(key):
            raise RuntimeError("the line went dead")

    def refuse_put(path):
        if operation == "PutObject" and path.endswith(key):
            raise RuntimeError("the line went dead")

    hook(second_cloud.door, "put_quickly", before=refuse_put)
    batch = second_cloud.client("batch")
    batch.meta.events.register("before-call", refuse)
    batch.meta.events.register("after-call.batch.SubmitJob", lambda parsed, **_: submitted.append(parsed["jobId"]))
    with pytest.raises(RuntimeError, match="line went dead"):
        knot.map([600, 600])
    assert len(submitted) == (operation == "PutObject")
    for job_id in submitted:
        until(lambda job_id=job_id: status_of(cloud, job_id) == "FAILED")
    assert ck.Knot(name="refused-map", cloud=cloud).jobs == []


def test_knot_resources_have_names_of_paper(cloud):
    knot = ck.Knot(name="named", func=triple, cloud=cloud, retries=2)
    assert knot.name == knot.knot_name == "named"
    assert knot.job_queue == "named-cloudknot-job-queue"
    assert knot.compute_environment == "named-cloudknot-compute-environment"
    name, arn, bucket, retries = knot.job_definition
    assert (name, retries) == ("named-cloudknot-job-definition", 2)
    assert arn.endswith(f"job-definition/{name}:1")
    assert bucket == cloud.bucket
    assert knot.region == cloud.region
    assert knot.cloud.client("s3").head_bucket(Bucket=bucket)["BucketRegion"] == cloud.region
    assert knot.pars.name == "default"
    assert knot.tags["Name"] == "named"
    assert knot.stack_id
    assert knot.docker_repo.name == "cloudknot"


def test_objects_have_only_public_names_of_their_classes(cloud):
    """A unit test compares the names of the classes with the reference page."""
    knot = ck.Knot(name="shown", func=triple, cloud=cloud)
    for public in (knot, knot.pars, knot.docker_repo):
        names, names_of_class = (
            {name for name in dir(owner) if not name.startswith("_")} for owner in (public, type(public))
        )
        assert names == names_of_class


def test_knot_without_function_connects_by_name_and_maps(cloud):
    knot = ck.Knot(name="found", func=triple, cloud=cloud)
    future = knot.map([1, 2])
    connected = ck.Knot(name="found", cloud=cloud)
    assert connected.job_definition == knot.job_definition
    assert connected.jobs[-1].result(LONG) == future.result(LONG) == [3, 6]
    assert connected.map([5]).result(LONG) == [15]


def test_error_for_unknown_knot_asks_for_function(cloud):
    with pytest.raises(ck.ResourceDoesNotExistException, match=r"no knot 'nowhere'.*func="):
        ck.Knot(name="nowhere", cloud=cloud)


def test_clobbered_knot_refuses_map_until_it_is_created_again(cloud):
    knot = ck.Knot(name="clobbered", func=triple, cloud=cloud)
    future = knot.map([1])
    future.result(LONG)
    knot.clobber()
    assert knot.clobbered
    with pytest.raises(ck.ResourceClobberedException, match="clobbered"):
        knot.map([1])
    with pytest.raises(ck.ResourceDoesNotExistException):
        ck.Knot(name="clobbered", cloud=cloud)
    assert ck.Knot(name="clobbered", func=triple, cloud=cloud).map([2]).result(LONG) == [6]


def version_of_six():
    import six

    return six.__version__


def test_job_has_required_version_of_package(cloud):
    knot = ck.Knot(name="six", func=lambda _: version_of_six(), requirements=["six==1.16.0"], cloud=cloud)
    assert knot.map([0]).result(LONG) == ["1.16.0"]


def importable_modules(names):
    import importlib.util

    return [name for name in names if importlib.util.find_spec(name)]


def test_job_cannot_import_packages_of_session(knot_of):
    names = ["boto3", "cloudpickle", "moto", "pytest", "rich", "hypothesis"]
    assert knot_of(importable_modules).map([names]).result(LONG) == [["boto3", "cloudpickle"]]


def test_error_for_unknown_package_shows_reason_and_leaves_nothing(cloud, own_environments):
    before = file_names(own_environments)
    with pytest.raises(ImageError, match="this-is-no-package-of-anybodys") as caught:
        ck.Knot(name="broken", func=triple, requirements=["this-is-no-package-of-anybodys==9.9"], cloud=cloud)
    assert "was not found in the package registry" in str(caught.value).replace("\n", " ")
    assert {name for name in file_names(own_environments) - before if not name.endswith(".lock")} == set()


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"name": "3-wrong"}, "name='3-wrong'"),
        ({"name": "x" * 56}, "55"),
        ({"retries": 0}, "retries=0"),
        ({"retries": 11}, "retries=11"),
        ({"memory": -1}, "memory=-1"),
        ({"job_def_vcpus": 0}, "job_def_vcpus=0"),
        ({"timeout": 59}, "timeout=59"),
        ({"bid_percentage": 101}, "bid_percentage=101"),
        ({"volume_size": 100, "image_id": "ami-0123456789abcdef0"}, "volume_size"),
        ({"func": 5}, "func=5"),
        ({"cloud": "mars"}, "cloud='mars'"),
        ({"requirements": ["not a requirement !"]}, "not a requirement"),
    ],
)
def test_knot_refuses_invalid_choice_before_any_aws_call(second_cloud, choices, message):
    recorder = Recorder(second_cloud)
    with pytest.raises(CloudknotInputError, match=message):
        ck.Knot(**{"name": "refused", "func": triple, "cloud": second_cloud, **choices})
    assert recorder.calls == []


def test_error_for_unpicklable_function_names_variable(second_cloud):
    guard = sqlite3.connect(":memory:")

    def guarded(x):
        with guard:
            return x

    recorder = Recorder(second_cloud)
    with pytest.raises(CloudknotInputError, match=r"'guard'.*sqlite3"):
        ck.Knot(name="refused", func=guarded, cloud=second_cloud)
    assert recorder.calls == []


def test_cancelling_600_children_costs_as_few_calls_as_cancelling_2(cloud, second_cloud):
    """The calls of the collector do not count: it polls meanwhile, and the more often, the longer the call takes."""
    knot = ck.Knot(name="ended", func=nap, cloud=second_cloud)
    costs = []
    for children in (2, 600):
        future = knot.map([0, *[600] * (children - 1)])
        assert future[0].result(LONG) == 0
        recorder = Recorder(second_cloud)
        assert future.cancel()
        costs.append([call for call in recorder.own_calls if call.startswith("batch:")])
        assert future[0].result() == 0
        assert future[children - 1].cancelled()
        until(lambda job=future.job: job.status == "FAILED")
    assert [len(calls) <= 8 for calls in costs] == [True, True], costs
    assert [calls.count("batch:TerminateJob") for calls in costs] == [1, 1]
