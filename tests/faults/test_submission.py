"""Each submission ends in one job or an error, even when the embedded cloud loses or fakes answers."""

import itertools
import os
import time
from dataclasses import replace

import pytest
from botocore.exceptions import ClientError, SSLError

import cloudknot as ck
from cloudknot.aws import batch
from cloudknot.run.submit.submit_job import LISTING_LAG, PAUSES, Submission, array_request, read_record, submit
from tests.faulty_cloud.plan import Faults
from tests.helpers.functions import square
from tests.helpers.waiting import LONG, until

SUBMIT = {"services": ("batch",), "only": "POST /v1/submitjob"}


def wait_for(path, x):
    while not os.path.exists(path):
        time.sleep(0.02)
    return x


def jobs_named_like(cloud, job):
    """List the jobs with a job's name, as Batch does."""
    return batch.find_by_name(cloud.door, job.job_queue, job.name)


def test_client_finds_job_after_lost_answer(cloud, knot_of, switches):
    with switches.on(Faults(dropped=1, limit=1, **SUBMIT)):
        future = knot_of(square).map([1, 2, 3])
        assert switches.injected() == {"dropped": 1}
    assert future.result(LONG) == [1, 4, 9]
    assert [job["jobId"] for job in jobs_named_like(cloud, future.job)] == [future.job.job_id]


def test_client_finds_job_in_second_listing_when_first_lags(cloud, knot_of, switches):
    knot, listings = knot_of(square), []

    def lag(parsed, **_):
        listings.append(len(parsed["jobSummaryList"]))
        if len(listings) == 1:
            parsed["jobSummaryList"] = []

    client = cloud.client("batch").meta.events
    client.register("after-call.batch.ListJobs", lag)
    try:
        with switches.on(Faults(dropped=1, limit=1, **SUBMIT)):
            future = knot.map([1, 2, 3])
    finally:
        client.unregister("after-call.batch.ListJobs", lag)
    assert listings[:2] == [1, 1]
    assert [job["jobId"] for job in jobs_named_like(cloud, future.job)] == [future.job.job_id]
    assert future.result(LONG) == [1, 4, 9]


@pytest.fixture
def gate(tmp_path):
    """The file that `wait_for` waits for. It exists at the end, so no job is left waiting after a failed test."""
    path = tmp_path / "gate"
    yield path
    path.touch()


@pytest.fixture
def lagging(cloud):
    """Make the next calls of ListJobs omit all jobs. AWS's listing may lag longer than the client waits."""
    lags = []

    def lag(parsed, **_):
        if lags:
            lags.pop()
            parsed["jobSummaryList"] = []

    events = cloud.client("batch").meta.events
    events.register("after-call.batch.ListJobs", lag)
    yield lambda calls: lags.extend(range(calls))
    events.unregister("after-call.batch.ListJobs", lag)


def unterminated(cloud, job_queue, name):
    """Return the ids of jobs with a name that nobody has terminated."""
    jobs = batch.find_by_name(cloud.door, job_queue, name)
    described = batch.describe_jobs(cloud.door, [job["jobId"] for job in jobs])
    return [job["jobId"] for job in described if not job.get("isTerminated")]


@pytest.mark.parametrize("lost", [1, 2])
@pytest.mark.parametrize("job_type", ["array", "independent"])
def test_client_terminates_all_but_one_of_duplicate_jobs(cloud, knot_of, switches, lagging, gate, job_type, lost):
    knot = knot_of(wait_for)
    elements = [(str(gate), x) for x in range(2)]
    lagging(2)
    with switches.on(Faults(dropped=1, limit=lost, **SUBMIT)):
        future = knot.map(elements, starmap=True, job_type=job_type)
    assert len(jobs_named_like(cloud, future.job)) > len(future.job.job_ids)
    assert sorted(unterminated(cloud, future.job.job_queue, future.job.name)) == sorted(future.job.job_ids)
    gate.touch()
    assert future.result(LONG) == [0, 1]


def held_submission(knot, gate, round):
    """Return a submission of a job that waits for the gate, and its request. Submit nothing of that round."""
    done = knot.map([(str(gate), 0)], starmap=True).job
    submission = Submission(done.keys, done.manifest, round)
    return submission, array_request(submission, [])


def test_ctrl_c_during_search_for_job_leaves_no_job(cloud, knot_of, switches, lagging, gate):
    submission, request = held_submission(knot_of(wait_for), gate, 7)
    pauses, undone = [], []

    def interrupted(seconds):
        pauses.append(seconds)
        if pauses.count(LISTING_LAG) == 2:
            raise KeyboardInterrupt

    lagging(2)
    with switches.on(Faults(dropped=1, limit=1, **SUBMIT)), pytest.raises(KeyboardInterrupt):
        submit(cloud, submission, [request], lambda: undone.append(True), interrupted)
    assert len(batch.find_by_name(cloud.door, submission.manifest.job_queue, submission.name)) == 2
    assert unterminated(cloud, submission.manifest.job_queue, submission.name) == []


def test_later_session_terminates_duplicate_jobs(cloud, knot_of, gate):
    """The session that submitted the jobs was killed before it noticed the duplicates."""
    submission, request = held_submission(knot_of(wait_for), gate, 6)
    ids = [cloud.call("batch", "submit_job", **request)["jobId"] for _ in range(3)]
    record = read_record(cloud, submission)
    assert record["job_ids"][0] in ids
    assert unterminated(cloud, submission.manifest.job_queue, submission.name) == record["job_ids"]
    assert read_record(cloud, submission) == record


def test_session_without_permission_to_terminate_reads_duplicate_jobs(cloud, knot_of, gate):
    submission, request = held_submission(knot_of(wait_for), gate, 5)
    ids = [cloud.call("batch", "submit_job", **request)["jobId"] for _ in range(2)]
    other_session = ck.LocalCloud(cloud.directory)
    for operation in ("TerminateJob", "TerminateJobs"):
        other_session.client("batch").meta.events.register(f"before-call.batch.{operation}", refuse)
    assert read_record(other_session, submission)["job_ids"][0] in ids
    assert sorted(unterminated(cloud, submission.manifest.job_queue, submission.name)) == sorted(ids)


def refuse(**_):
    raise error_answer("AccessDeniedException", 403)


def error_answer(code, status):
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "SubmitJob")


class FakedAnswers:
    """A session that gets other answers than Batch's. Batch carries out its requests."""

    def __init__(self, cloud):
        self.cloud = ck.LocalCloud(cloud.directory)
        self.events = self.cloud.client("batch").meta.events

    def replace_next(self, operation, *answers, when="after"):
        remaining = list(answers)

        def replace_answer(parsed=None, **_):
            if remaining and isinstance(remaining[0], Exception):
                raise remaining.pop(0)
            if remaining:
                parsed.update(remaining.pop(0))

        self.events.register(f"{when}-call.batch.{operation}", replace_answer)


@pytest.mark.parametrize(
    "error",
    [
        error_answer("504", 504),
        error_answer("Unheard", 500),
        error_answer("RequestTimeout", 400),
        SSLError(endpoint_url="https://batch", error="bad record mac"),
    ],
    ids=str,
)
def test_client_looks_for_job_after_unclear_answer(cloud, knot_of, error):
    done = knot_of(square).map([1]).job
    answers = FakedAnswers(cloud)
    answers.replace_next("SubmitJob", error)
    submission = Submission(done.keys, done.manifest, round=4)
    submission = replace(submission, keys=replace(done.keys, prefix=f"{done.keys.prefix}-{abs(hash(str(error)))}"))
    record = submit(answers.cloud, submission, [array_request(submission, [])], lambda: None)
    (job,) = batch.find_by_name(cloud.door, submission.manifest.job_queue, submission.name)
    assert record["job_ids"] == [job["jobId"]]


def test_job_without_answer_is_terminated_when_second_request_is_refused(cloud, knot_of, gate):
    submission, request = held_submission(knot_of(wait_for), gate, 3)
    answers, undone = FakedAnswers(cloud), []
    answers.replace_next("SubmitJob", error_answer("503", 503))
    answers.replace_next("ListJobs", {"jobSummaryList": []}, {"jobSummaryList": []})
    calls = []

    def refuse_again(**_):
        calls.append(len(calls))
        if len(calls) > 1:
            refuse()

    answers.events.register("before-call.batch.SubmitJob", refuse_again)
    with pytest.raises(ck.CloudError, match=r"not known .*503.*, too: .*AccessDenied") as caught:
        submit(answers.cloud, submission, [request], lambda: undone.append(True), lambda seconds: None)
    assert isinstance(caught.value.__cause__, ck.PermissionDeniedError)
    assert (len(calls), undone) == (2, [])
    assert len(batch.find_by_name(cloud.door, submission.manifest.job_queue, submission.name)) == 1
    assert unterminated(cloud, submission.manifest.job_queue, submission.name) == []


def test_job_without_answer_is_terminated_when_credentials_expire(cloud, knot_of, gate):
    """The client looks again with fresh credentials, finds the job, and terminates it."""
    submission, request = held_submission(knot_of(wait_for), gate, 2)
    answers, undone = FakedAnswers(cloud), []
    answers.replace_next("SubmitJob", error_answer("503", 503))
    answers.replace_next("ListJobs", error_answer("ExpiredTokenException", 403))
    with pytest.raises(ck.CloudError, match=r"not known .*503.*, too: .*credentials"):
        submit(answers.cloud, submission, [request], lambda: undone.append(True), lambda seconds: None)
    assert undone == []
    assert len(batch.find_by_name(cloud.door, submission.manifest.job_queue, submission.name)) == 1
    assert unterminated(cloud, submission.manifest.job_queue, submission.name) == []


def test_each_independent_job_is_submitted_once_despite_lost_answers(cloud, knot_of, switches):
    with switches.on(Faults(dropped=0.3, seed=3, **SUBMIT)):
        future = knot_of(square).map(range(6), job_type="independent")
        assert switches.injected()["dropped"] >= 1
    assert future.result(LONG) == [0, 1, 4, 9, 16, 25]
    assert len(set(future.job.job_ids)) == 6
    assert {job["jobId"] for job in jobs_named_like(cloud, future.job)} == set(future.job.job_ids)


@pytest.mark.parametrize("faults", [{"throttled": 1}, {"errors": 1, **SUBMIT}])
def test_client_repeats_submission_after_temporary_refusal(cloud, knot_of, switches, faults):
    with switches.on(Faults(limit=2, **faults)):
        future = knot_of(square).map([4, 5])
    assert future.result(LONG) == [16, 25]
    assert len(jobs_named_like(cloud, future.job)) == 1


def test_submission_without_any_answer_raises_error_and_keeps_stored_objects(cloud, knot_of, switches):
    knot = knot_of(square)
    done = knot.map([1])
    before = len(knot.jobs)
    keys = ck.BatchJob(done.job.job_id, cloud=cloud).keys
    submission, waited, undone = Submission(keys, done.job.manifest, round=9), [], []
    request = array_request(submission, [])
    with switches.on(Faults(errors=1, **SUBMIT)), pytest.raises(ck.CloudError, match="batch:submit_job"):
        submit(cloud, submission, [request], lambda: undone.append(True), waited.append)
    assert waited == [seconds for pause in PAUSES for seconds in (pause, LISTING_LAG)]
    # A job may still exist, so the client keeps the objects stored for it.
    assert undone == []
    assert batch.find_by_name(cloud.door, done.job.job_queue, submission.name) == []
    assert len(knot.jobs) == before


def test_refused_submission_is_undone(cloud, knot_of):
    done = knot_of(square).map([1])
    submission, undone = Submission(done.job.keys, done.job.manifest, round=8), []
    request = {"jobName": submission.name, "jobQueue": done.job.job_queue, "jobDefinition": "no-such-definition"}
    with pytest.raises(ck.CloudError, match="no-such-definition"):
        submit(cloud, submission, [request], lambda: undone.append(True))
    assert undone == [True]


def test_partly_refused_submission_is_terminated_and_undone(cloud, knot_of):
    done = knot_of(square).map([1])
    submission, undone = Submission(done.job.keys, done.job.manifest, round=7), []
    good = {
        "jobName": submission.name,
        "jobQueue": done.job.job_queue,
        "jobDefinition": done.job.job_definition,
    }
    with pytest.raises(ck.CloudError):
        submit(cloud, submission, [good, good, {**good, "jobQueue": "nowhere"}], lambda: undone.append(True))
    jobs = batch.find_by_name(cloud.door, done.job.job_queue, submission.name)
    assert len(jobs) == 2
    states = itertools.chain(*(batch.describe_jobs(cloud.door, [job["jobId"]]) for job in jobs))
    assert all(state["isTerminated"] or state["isCancelled"] or state["status"] == "FAILED" for state in states)
    assert undone == [True]


def test_collector_waits_for_job_that_batch_does_not_describe_yet(cloud, knot_of, tmp_path):
    flags = [tmp_path / "there", tmp_path / "later"]
    flags[0].touch()
    elements = [(str(flags[x // 2]), x) for x in range(3)]
    submitted = knot_of(wait_for).map(elements, starmap=True, job_type="independent")
    late, described = submitted.job.job_ids[2], []

    def lag(parsed, **_):
        described.append([job["status"] for job in parsed["jobs"] if job["jobId"] != late])
        if not flags[1].exists():
            parsed["jobs"] = [job for job in parsed["jobs"] if job["jobId"] != late]

    other_session = ck.LocalCloud(cloud.directory)
    other_session.client("batch").meta.events.register("after-call.batch.DescribeJobs", lag)
    future = ck.BatchJob(submitted.job.job_id, cloud=other_session, keys=submitted.job.keys).future()
    until(lambda: future.done() or described.count(["SUCCEEDED"] * 2) > 3)
    assert not future.done()
    flags[1].touch()
    assert future.result(LONG) == [0, 1, 2]
