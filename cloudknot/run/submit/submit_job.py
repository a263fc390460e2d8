"""SubmitJob: submit each Batch job once, find it again after a lost answer, and record its id in S3.

A run is submitted in rounds: round 0 is the map, and `retry_failed` submits the others. SubmitJob has no idempotency
token. The jobs of a round therefore have a unique name, made before the call. After a lost answer or a killed session
they are found in the queue by that name.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Final, cast

from cloudknot.aws import batch
from cloudknot.deploy.job_definition import ATTEMPTS, RULES_FOR_SEVERAL
from cloudknot.errors import CloudError, CloudknotError, ResourceDoesNotExistException, StoredDataError
from cloudknot.run.submit.stored_documents import get_record
from cloudknot.worker.s3.retries import Trouble, trouble_of
from cloudknot.worker.wire.container import CHILD_VARIABLE, COMMAND, MANIFEST_VARIABLE
from cloudknot.worker.wire.documents import to_document
from cloudknot.worker.wire.keys import RunKeys
from cloudknot.worker.wire.manifest import Manifest, Record, submission_record

if TYPE_CHECKING:
    from types_boto3_batch.type_defs import EvaluateOnExitTypeDef, KeyValuePairTypeDef, SubmitJobRequestTypeDef

    from cloudknot.aws import Cloud

PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds between tries. Batch refuses more than 50 SubmitJob calls a second (Batch user guide, "Service quotas")."""
LISTING_LAG = 3.0
"""Seconds before a second look for a job after a lost answer: ListJobs may lag behind SubmitJob."""
MAX_CHILDREN = 10_000
"""Child jobs of an array job, at most (Batch user guide, "Array jobs")."""
CHUNKSIZE_WAS_DEFAULT: Final = "chunksize_unasked"
"""Manifest key: whether elements share child jobs although the caller of `map` chose no chunk size."""
RECORD_EVERY = 50
"""Number of independent jobs between two writes of the record."""
TEMPORARY_REFUSALS = {"TooManyRequestsException", "ThrottlingException", "Throttling", "RequestLimitExceeded"}


@dataclass(frozen=True)
class Submission:
    """One round of a run on its way to Batch: keys, manifest, number of the round, and tags for its jobs."""

    keys: RunKeys
    manifest: Manifest
    round: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of its jobs in Batch."""
        return self.keys.job_name(self.round)

    @property
    def record_key(self) -> str:
        """The key of its record in S3."""
        return self.keys.submission_of(self.round)

    @property
    def jobs(self) -> int:
        """Its number of Batch jobs. An array job counts once."""
        return self.manifest.children if self.manifest.job_type == "independent" else 1


def array_request(submission: Submission, variables: Sequence[KeyValuePairTypeDef]) -> SubmitJobRequestTypeDef:
    """Return the SubmitJob request for an array job, or for a plain job if there is only one child."""
    request, children = base_request(submission, variables), submission.manifest.children
    # Batch refuses an array of one.
    if children > 1:
        request["arrayProperties"] = {"size": children}
    return request


def base_request(submission: Submission, variables: Sequence[KeyValuePairTypeDef]) -> SubmitJobRequestTypeDef:
    """Return a SubmitJob request for one plain job, with environment variables for its container."""
    manifest: KeyValuePairTypeDef = {"name": MANIFEST_VARIABLE, "value": submission.manifest.for_worker()}
    request: SubmitJobRequestTypeDef = {
        "jobName": submission.name,
        "jobQueue": submission.manifest.job_queue,
        "jobDefinition": submission.manifest.job_definition,
        "containerOverrides": {
            "command": [*COMMAND, submission.keys.url],
            "environment": [manifest, *variables],
        },
    }
    if submission.manifest.attempts > 1:
        rules = cast("list[EvaluateOnExitTypeDef]", list(RULES_FOR_SEVERAL))
        request["retryStrategy"] = {"attempts": ATTEMPTS, "evaluateOnExit": rules}
    if submission.tags:
        request["tags"] = dict(submission.tags)
    return request


def submit(
    cloud: Cloud,
    submission: Submission,
    requests: Iterable[SubmitJobRequestTypeDef],
    undo: Callable[[], None],
    sleep: Callable[[float], None] = time.sleep,
) -> Record:
    """Submit all jobs of a round, store their record, and return it.

    After an error or an interrupt, the jobs submitted so far are ended.

    Parameters
    ----------
    cloud : Cloud
    submission : Submission
    requests : iterable of dict
        One SubmitJob request for each job.
    undo : callable
        Called after an error if certainly no job needs the stored objects of the round.
    sleep : callable

    Raises
    ------
    CloudError
        Batch refused a job or did not answer. Without an answer a job may exist; `read_record` finds it later.
    """
    job_ids: list[str | None] = []
    # False while a SubmitJob call has no answer: it may have made a job, whatever comes next.
    is_certain = True
    try:
        for child, request in enumerate(requests):
            is_certain = False
            job_ids.append(_submit_one(cloud, submission, child, request, sleep))
            is_certain = True
            # The record of a killed session names its jobs up to here. The others are found by name.
            if len(job_ids) % RECORD_EVERY == 0:
                _store_record(cloud, submission, job_ids)
        return _store_record(cloud, submission, job_ids)
    except BaseException as error:
        is_certain = is_certain or _was_refused(error)
        with suppress(CloudknotError):
            unanswered = [] if is_certain else chain.from_iterable(_list_by_child(cloud, submission).values())
            end_jobs(cloud, submission, [*job_ids, *unanswered], "The submission of its map failed")
            if is_certain:
                undo()
        raise


def _was_refused(error: BaseException) -> bool:
    """Return whether an error of SubmitJob proves that it made no job."""
    return isinstance(error, CloudknotError) and not _may_have_succeeded(error)


def _may_have_succeeded(error: CloudknotError) -> bool:
    """Return whether the failed call may have made a job: the answer was lost, or says nothing about it."""
    if not isinstance(error, CloudError):
        return False
    trouble = _trouble_behind(error)
    return trouble.may_be_done if trouble is not None else not error.code


def _trouble_behind(error: CloudknotError) -> Trouble | None:
    return trouble_of(error.__context__) if error.__context__ else None


def end_jobs(cloud: Cloud, submission: Submission, job_ids: Iterable[str | None], reason: str) -> None:
    """End jobs of a submission, with their child jobs."""
    is_array = submission.jobs == 1 and submission.manifest.children > 1
    kind: batch.Job = {"arrayProperties": {}} if is_array else {}
    jobs: list[batch.Job] = [{"jobId": job_id, **kind} for job_id in filter(None, dict.fromkeys(job_ids))]
    batch.terminate(cloud.door, jobs, reason)


def _submit_one(
    cloud: Cloud, submission: Submission, child: int, request: SubmitJobRequestTypeDef, sleep: Callable[[float], None]
) -> str:
    """Submit one job and return its id. After a lost answer, look for the job before another try."""
    unanswered: list[CloudknotError] = []
    for pause in (*PAUSES, None):
        try:
            job_id = _submit_job(cloud, submission, request)
        except CloudknotError as error:
            is_unanswered = _may_have_succeeded(error)
            is_worth_a_try = (is_unanswered or _is_temporary(error)) and _trouble_behind(error) is not Trouble.BUG
            if pause is None or not is_worth_a_try:
                if unanswered and not is_unanswered:
                    # The refusal is of this try. An earlier try may have made a job.
                    raise _unknown_submission(unanswered[0], error) from error
                raise
            sleep(pause)
            if not is_unanswered:
                continue
            unanswered.append(error)
            if listed_id := _find_by_name(cloud, submission, child, error, sleep):
                # After one try there is one job. After several, late ones may still appear in the listing.
                return (
                    listed_id if len(unanswered) == 1 else _end_duplicates(cloud, submission, child, listed_id, sleep)
                )
        else:
            return job_id if not unanswered else _end_duplicates(cloud, submission, child, job_id, sleep)
    raise AssertionError("unreachable: the last try returns or raises")


def _submit_job(cloud: Cloud, submission: Submission, request: SubmitJobRequestTypeDef) -> str:
    """Call SubmitJob once and return the id of the job.

    Raises
    ------
    ResourceDoesNotExistException
        The queue or the job definition of the knot was deleted or disabled.
    """
    try:
        return str(cloud.door.call_once("batch", "submit_job", **request)["jobId"])
    except CloudError as error:
        # Batch has no error code for this, only ClientException and a text.
        if error.code == "ClientException" and re.search(
            r"(queue|definition).*(does not exist|not )", str(error), re.I
        ):
            knot = submission.manifest.knot
            raise ResourceDoesNotExistException(
                f"The knot {knot!r} cannot run jobs, because its job queue or job definition was deleted or disabled. "
                f"Its results are still stored. Create the knot again with Knot(name={knot!r}, func=...), and map "
                f"again, or run the failed elements of an earlier map: retry_failed(knot={knot!r}). If "
                f"`{cloud.command('list')}` shows the knot, somebody may have created it again: Knot(name={knot!r}) "
                "connects to it. Only if its queue was deleted by hand, run "
                f"`{cloud.command(f'clobber {knot}')}` first. {error}",
                code=error.code,
                operation=error.operation,
                resource_id=knot,
            ) from error
        raise


def _unknown_submission(unanswered: CloudknotError, later: CloudknotError) -> CloudError:
    return CloudError(
        "AWS did not answer the submission, so it is not known whether the job exists. Look at knot.jobs before you "
        f"map again. The first error: {unanswered} The next call failed, too: {later}",
        operation="batch:submit_job",
    )


def _is_temporary(error: CloudknotError) -> bool:
    return isinstance(error, CloudError) and error.code in TEMPORARY_REFUSALS


def _find_by_name(
    cloud: Cloud, submission: Submission, child: int, unanswered: CloudknotError, sleep: Callable[[float], None]
) -> str | None:
    """Return the id of a child's job after a lost answer; None if Batch does not list one."""
    for lag in (LISTING_LAG, 0.0):
        try:
            listed = _list_by_child(cloud, submission).get(child)
        except CloudknotError as error:
            # Another try without this search could make a second job.
            raise _unknown_submission(unanswered, error) from error
        if listed:
            return listed[0]
        if lag:
            sleep(lag)
    return None


def _end_duplicates(
    cloud: Cloud, submission: Submission, child: int, job_id: str, sleep: Callable[[float], None]
) -> str:
    """End all jobs of a child but one, and return the id of that one."""
    # ListJobs may lag longer than `_find_by_name` waits. Then a second try has made a second job.
    sleep(LISTING_LAG)
    with suppress(CloudknotError):
        job_ids = _list_by_child(cloud, submission).get(child) or [job_id]
        _end_all_but_first(cloud, submission, [job_ids])
        return job_ids[0]
    return job_id


def _end_all_but_first(cloud: Cloud, submission: Submission, lists: Iterable[Sequence[str]]) -> None:
    """End all jobs but the first in each list of jobs of one child."""
    duplicates = chain.from_iterable(job_ids[1:] for job_ids in lists)
    end_jobs(cloud, submission, duplicates, "Submitted twice, because the answer to the first submission was lost")


def _list_by_child(cloud: Cloud, submission: Submission) -> dict[int, list[str]]:
    """Return the ids of the jobs that Batch lists for each child.

    Jobs that have not failed come first, then the oldest. A child has several only after lost answers.
    """
    # Every session keeps the first of the list and ends the others, so all keep the same one.
    summaries = batch.find_by_name(cloud.door, submission.manifest.job_queue, submission.name)
    summaries.sort(key=lambda summary: summary.get("status") == "FAILED")
    ids = [summary["jobId"] for summary in summaries]
    if submission.manifest.job_type != "independent":
        return {0: ids} if ids else {}
    children = {job["jobId"]: _child_of(job) for job in batch.describe_jobs(cloud.door, ids)}
    listed: dict[int, list[str]] = {}
    for job_id in (job_id for job_id in ids if job_id in children):
        listed.setdefault(children[job_id], []).append(job_id)
    return listed


def _child_of(job: batch.Job) -> int:
    variables = {item["name"]: item["value"] for item in job.get("container", {}).get("environment", ())}
    return int(variables.get(CHILD_VARIABLE, 0))


def _store_record(cloud: Cloud, submission: Submission, job_ids: Sequence[str | None]) -> Record:
    record = submission_record(submission.name, submission.manifest, job_ids)
    cloud.storage.put(submission.record_key, to_document(record, submission.record_key))
    return record


def _stored_record(cloud: Cloud, key: str) -> tuple[Record | None, StoredDataError | None]:
    """Return a record, or the error of a damaged one, or neither."""
    try:
        return get_record(cloud.storage, key), None
    except ResourceDoesNotExistException:
        return None, None
    except StoredDataError as error:
        return None, error


def read_record(cloud: Cloud, submission: Submission) -> Record | None:
    """Return the record of a round; None if the round was never submitted.

    Ids that the submitting session did not store are found in Batch, or in the record of the first child.

    Raises
    ------
    StoredDataError
        The record is damaged, and the jobs are not found elsewhere.
    """
    stored, damage = _stored_record(cloud, submission.record_key)
    record = stored or submission_record(submission.name, submission.manifest, [])
    job_ids = record["job_ids"] + [None] * (submission.jobs - len(record["job_ids"]))
    if None in job_ids:
        listed = {child: ids for child, ids in _list_by_child(cloud, submission).items() if job_ids[child] is None}
        with suppress(CloudknotError):
            # Credentials without the right to end jobs may still read results.
            _end_all_but_first(cloud, submission, listed.values())
        job_ids = [job_id or next(iter(listed.get(child, ())), None) for child, job_id in enumerate(job_ids)]
    # Batch forgets a job some days after its end. The record of the first child stays.
    if job_ids[0] is None:
        started, _ = _stored_record(cloud, submission.keys.started_of(submission.round))
        job_ids[0] = started["job_ids"][0] if started and started["job_ids"] else None
    if not any(job_ids):
        if damage:
            raise damage
        return None
    record["job_ids"] = job_ids
    if stored is None:
        # Another session may have stored the same record in the meantime.
        cloud.storage.put_new(submission.record_key, to_document(record, submission.record_key))
    return record
