"""SubmitJob under faults: one job for each submission, whatever becomes of the answer."""

import itertools
import os
import time
from dataclasses import replace

import pytest
from botocore.exceptions import ClientError, SSLError

import cloudknot as ck
from cloudknot.aws import batch
from cloudknot.local import Faults
from cloudknot.run.submit.submit_job import LISTING_LAG, PAUSES, Submission, array_request, read_record, submit
from tests.helpers.functions import square
from tests.helpers.waiting import LONG, until

SUBMIT = {"services": ("batch",), "only": "POST /v1/submitjob"}


def wait_for(path, x):
    while not os.path.exists(path):
        time.sleep(0.02)
    return x


def jobs_named(cloud, job):
    return batch.find_by_name(cloud.door, job.job_queue, job.name)


def test_a_submission_whose_answer_is_lost_is_found_again(cloud, knot_of, switches):
    with switches.on(Faults(dropped=1, limit=1, **SUBMIT)):
        future = knot_of(square).map([1, 2, 3])
        assert switches.injected() == {"dropped": 1}
    assert future.result(LONG) == [1, 4, 9]
    assert [job["jobId"] for job in jobs_named(cloud, future.job)] == [future.job.job_id]


def test_a_submission_is_found_again_though_the_listing_lags(cloud, knot_of, switches):
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
    assert [job["jobId"] for job in jobs_named(cloud, future.job)] == [future.job.job_id]
    assert future.result(LONG) == [1, 4, 9]


@pytest.fixture
def gate(tmp_path):
    """What `wait_for` waits for; open at the end, however the test ends."""
    path = tmp_path / "gate"
    yield path
    path.touch()


@pytest.fixture
def lagging(cloud):
    """ListJobs does not tell, for so many calls, of jobs that are there; it may lag longer than anybody waits."""
    left = []

    def lag(parsed, **_):
        if left:
            left.pop()
            parsed["jobSummaryList"] = []

    events = cloud.client("batch").meta.events
    events.register("after-call.batch.ListJobs", lag)
    yield lambda calls: left.extend(range(calls))
    events.unregister("after-call.batch.ListJobs", lag)


def left_of(cloud, job_queue, name):
    """The jobs of a name that go on."""
    found = batch.find_by_name(cloud.door, job_queue, name)
    described = batch.describe_jobs(cloud.door, [job["jobId"] for job in found])
    return [job["jobId"] for job in described if not job.get("isTerminated")]


@pytest.mark.parametrize("lost", [1, 2])
@pytest.mark.parametrize("job_type", ["array", "independent"])
def test_of_jobs_that_were_submitted_twice_one_goes_on(cloud, knot_of, switches, lagging, gate, job_type, lost):
    knot = knot_of(wait_for)
    elements = [(str(gate), x) for x in range(2)]
    lagging(2)
    with switches.on(Faults(dropped=1, limit=lost, **SUBMIT)):
        future = knot.map(elements, starmap=True, job_type=job_type)
    assert len(jobs_named(cloud, future.job)) > len(future.job.job_ids)
    assert sorted(left_of(cloud, future.job.job_queue, future.job.name)) == sorted(future.job.job_ids)
    gate.touch()
    assert future.result(LONG) == [0, 1]


def held_submission(knot, gate, round):
    """A submission as of a map that waits for the gate, and its call; nothing is submitted."""
    done = knot.map([(str(gate), 0)], starmap=True).job
    submission = Submission(done.keys, done.manifest, round)
    return submission, array_request(submission, [])


def test_ctrl_c_while_it_is_found_out_leaves_no_job(cloud, knot_of, switches, lagging, gate):
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
    assert left_of(cloud, submission.manifest.job_queue, submission.name) == []


def test_a_later_session_ends_what_was_submitted_twice(cloud, knot_of, gate):
    """The session that had submitted it was killed before it found that out."""
    submission, request = held_submission(knot_of(wait_for), gate, 6)
    ids = [cloud.call("batch", "submit_job", **request)["jobId"] for _ in range(3)]
    record = read_record(cloud, submission)
    assert record["job_ids"][0] in ids
    assert left_of(cloud, submission.manifest.job_queue, submission.name) == record["job_ids"]
    assert read_record(cloud, submission) == record


def test_who_may_not_end_jobs_can_read_what_was_submitted_twice(cloud, knot_of, gate):
    submission, request = held_submission(knot_of(wait_for), gate, 5)
    ids = [cloud.call("batch", "submit_job", **request)["jobId"] for _ in range(2)]
    other = ck.LocalCloud(cloud.directory)
    for operation in ("TerminateJob", "TerminateJobs"):
        other.client("batch").meta.events.register(f"before-call.batch.{operation}", refuse)
    assert read_record(other, submission)["job_ids"][0] in ids
    assert sorted(left_of(cloud, submission.manifest.job_queue, submission.name)) == sorted(ids)


def refuse(**_):
    raise answer("AccessDeniedException", 403)


def answer(code, status):
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "SubmitJob")


class Answers:
    """What a session of its own gets instead of the answers of Batch, which does what it was asked for."""

    def __init__(self, cloud):
        self.cloud = ck.LocalCloud(cloud.directory)
        self.events = self.cloud.client("batch").meta.events

    def instead(self, operation, *answers, when="after"):
        left = list(answers)

        def other(parsed=None, **_):
            if left and isinstance(left[0], Exception):
                raise left.pop(0)
            if left:
                parsed.update(left.pop(0))

        self.events.register(f"{when}-call.batch.{operation}", other)


@pytest.mark.parametrize(
    "error",
    [
        answer("504", 504),
        answer("Unheard", 500),
        answer("RequestTimeout", 400),
        SSLError(endpoint_url="https://batch", error="bad record mac"),
    ],
    ids=str,
)
def test_what_may_have_been_submitted_is_looked_for(cloud, knot_of, error):
    done = knot_of(square).map([1]).job
    answers = Answers(cloud)
    answers.instead("SubmitJob", error)
    submission = Submission(done.keys, done.manifest, round=4)
    submission = replace(submission, keys=replace(done.keys, prefix=f"{done.keys.prefix}-{abs(hash(str(error)))}"))
    record = submit(answers.cloud, submission, [array_request(submission, [])], lambda: None)
    (job,) = batch.find_by_name(cloud.door, submission.manifest.job_queue, submission.name)
    assert record["job_ids"] == [job["jobId"]]


def test_what_was_not_answered_and_then_refused_is_not_undone_but_ended(cloud, knot_of, gate):
    submission, request = held_submission(knot_of(wait_for), gate, 3)
    answers, undone = Answers(cloud), []
    answers.instead("SubmitJob", answer("503", 503))
    answers.instead("ListJobs", {"jobSummaryList": []}, {"jobSummaryList": []})
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
    assert left_of(cloud, submission.manifest.job_queue, submission.name) == []


def test_what_was_not_answered_is_not_undone_when_credentials_end(cloud, knot_of, gate):
    """Those that are found then are used to look again, and to end it."""
    submission, request = held_submission(knot_of(wait_for), gate, 2)
    answers, undone = Answers(cloud), []
    answers.instead("SubmitJob", answer("503", 503))
    answers.instead("ListJobs", answer("ExpiredTokenException", 403))
    with pytest.raises(ck.CloudError, match=r"not known .*503.*, too: .*credentials"):
        submit(answers.cloud, submission, [request], lambda: undone.append(True), lambda seconds: None)
    assert undone == []
    assert len(batch.find_by_name(cloud.door, submission.manifest.job_queue, submission.name)) == 1
    assert left_of(cloud, submission.manifest.job_queue, submission.name) == []


def test_independent_jobs_are_submitted_once_each(cloud, knot_of, switches):
    with switches.on(Faults(dropped=0.3, seed=3, **SUBMIT)):
        future = knot_of(square).map(range(6), job_type="independent")
        assert switches.injected()["dropped"] >= 1
    assert future.result(LONG) == [0, 1, 4, 9, 16, 25]
    assert len(set(future.job.job_ids)) == 6
    assert {job["jobId"] for job in jobs_named(cloud, future.job)} == set(future.job.job_ids)


@pytest.mark.parametrize("faults", [{"throttled": 1}, {"errors": 1, **SUBMIT}])
def test_a_submission_that_is_refused_for_now_is_tried_again(cloud, knot_of, switches, faults):
    with switches.on(Faults(limit=2, **faults)):
        future = knot_of(square).map([4, 5])
    assert future.result(LONG) == [16, 25]
    assert len(jobs_named(cloud, future.job)) == 1


def test_a_submission_that_is_never_answered_is_an_error_and_the_job_is_found_later(cloud, knot_of, switches):
    knot = knot_of(square)
    done = knot.map([1])
    before = len(knot.jobs)
    keys = ck.BatchJob(done.job.job_id, cloud=cloud).keys
    submission, waited, undone = Submission(keys, done.job.manifest, round=9), [], []
    request = array_request(submission, [])
    with switches.on(Faults(errors=1, **SUBMIT)), pytest.raises(ck.CloudError, match="batch:submit_job"):
        submit(cloud, submission, [request], lambda: undone.append(True), waited.append)
    assert waited == [seconds for pause in PAUSES for seconds in (pause, LISTING_LAG)]
    # It is not certain that there is no job, so what was stored for it stays.
    assert undone == []
    assert batch.find_by_name(cloud.door, done.job.job_queue, submission.name) == []
    assert len(knot.jobs) == before


def test_a_submission_that_is_refused_is_undone(cloud, knot_of):
    done = knot_of(square).map([1])
    submission, undone = Submission(done.job.keys, done.job.manifest, round=8), []
    request = {"jobName": submission.name, "jobQueue": done.job.job_queue, "jobDefinition": "no-such-definition"}
    with pytest.raises(ck.CloudError, match="no-such-definition"):
        submit(cloud, submission, [request], lambda: undone.append(True))
    assert undone == [True]


def test_what_cannot_be_submitted_whole_is_ended(cloud, knot_of):
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


def test_a_job_that_batch_does_not_describe_yet_is_not_lost(cloud, knot_of, tmp_path):
    flags = [tmp_path / "there", tmp_path / "later"]
    flags[0].touch()
    elements = [(str(flags[x // 2]), x) for x in range(3)]
    submitted = knot_of(wait_for).map(elements, starmap=True, job_type="independent")
    late, told = submitted.job.job_ids[2], []

    def lag(parsed, **_):
        told.append([job["status"] for job in parsed["jobs"] if job["jobId"] != late])
        if not flags[1].exists():
            parsed["jobs"] = [job for job in parsed["jobs"] if job["jobId"] != late]

    other = ck.LocalCloud(cloud.directory)
    other.client("batch").meta.events.register("after-call.batch.DescribeJobs", lag)
    future = ck.BatchJob(submitted.job.job_id, cloud=other, keys=submitted.job.keys).future()
    until(lambda: future.done() or told.count(["SUCCEEDED"] * 2) > 3)
    assert not future.done()
    flags[1].touch()
    assert future.result(LONG) == [0, 1, 2]
