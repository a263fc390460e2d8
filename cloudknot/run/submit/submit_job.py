"""SubmitJob, which AWS may carry out without our hearing of it: submitted once, found again by name, recorded in S3.

A run is submitted in rounds: round 0 is the map, the later ones are what `retry_failed` submits. The jobs of a round
have a name that no other job has and that is made before they are. An answer that was lost, or a session that ended
in the middle, thus leaves a job that can be found: in the queue by its name, in S3 by the record that the client
writes, or else the first child, of which independent jobs have one too.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Final

from cloudknot.aws import batch
from cloudknot.errors import CloudError, CloudknotError, ResourceDoesNotExistException
from cloudknot.worker.s3.retries import trouble_of
from cloudknot.worker.wire.container import CHILD_VARIABLE, COMMAND, MANIFEST_VARIABLE
from cloudknot.worker.wire.keys import RunKeys
from cloudknot.worker.wire.manifest import Manifest, Record, submission_record

if TYPE_CHECKING:
    from types_boto3_batch.type_defs import KeyValuePairTypeDef, SubmitJobRequestTypeDef

    from cloudknot.aws import Cloud

PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds between tries; SubmitJob is refused above 50 calls a second (Batch user guide, "Service quotas")."""
LISTING_LAG = 3.0
"""Seconds before a second look for a job whose submission was not answered: ListJobs may lag behind SubmitJob."""
MAX_CHILDREN = 10_000
"""Children of an array job (Batch user guide, "Array jobs")."""
CHUNKSIZE_WAS_DEFAULT: Final = "chunksize_unasked"
"""Stored with a map: whether its elements share children though nobody had asked for that."""
RECORD_EVERY = 50
"""Independent jobs after which the record is written anew."""
REFUSED_FOR_NOW = {"TooManyRequestsException", "ThrottlingException", "Throttling", "RequestLimitExceeded"}


@dataclass(frozen=True)
class Submission:
    """Which jobs are submitted: of which run and round, what its manifest says, and the tags that they get."""

    keys: RunKeys
    manifest: Manifest
    round: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What Batch calls its jobs."""
        return self.keys.job_name(self.round)

    @property
    def record_key(self) -> str:
        """Where the record of it is."""
        return self.keys.submission_of(self.round)

    @property
    def jobs(self) -> int:
        """How many Batch jobs it has."""
        return self.manifest.children if self.manifest.job_type == "independent" else 1


def array_request(submission: Submission, variables: Sequence[KeyValuePairTypeDef]) -> SubmitJobRequestTypeDef:
    """The SubmitJob call of an array, or of a plain job where there is but one child."""
    request, children = request_of(submission, variables), submission.manifest.children
    if children > 1:
        request["arrayProperties"] = {"size": children}
    return request


def request_of(submission: Submission, variables: Sequence[KeyValuePairTypeDef]) -> SubmitJobRequestTypeDef:
    """What the SubmitJob calls of a submission have in common, with environment variables for the jobs."""
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
    """Submit the jobs, store the record of it, and return that.

    What fails or is interrupted leaves no jobs behind, as far as the cloud can be told; if it is certain that there
    are none, ``undo`` is called.

    Raises
    ------
    CloudError
        Refused, or not answered; after no answer there may be a job all the same, which `read_record` finds.
    """
    job_ids: list[str | None] = []
    certain = True
    try:
        for child, request in enumerate(requests):
            certain = False
            job_ids.append(_submit_one(cloud, submission, child, request, sleep))
            certain = True
            if len(job_ids) % RECORD_EVERY == 0:
                _record(cloud, submission, job_ids)
        return _record(cloud, submission, job_ids)
    except BaseException as error:
        certain = certain or _refused(error)
        with suppress(CloudknotError):
            listed = [] if certain else chain.from_iterable(_listed(cloud, submission).values())
            end_jobs(cloud, submission, [*job_ids, *listed], "Its map could not be submitted whole")
            if certain:
                undo()
        raise


def _refused(error: BaseException) -> bool:
    """Whether an error of SubmitJob says that there is no job."""
    return isinstance(error, CloudknotError) and not _is_unknown(error)


def _is_unknown(error: CloudknotError) -> bool:
    """Whether it may have been carried out: there was no answer, or one that does not tell."""
    if not isinstance(error, CloudError):
        return False
    trouble = trouble_of(error.__cause__) if error.__cause__ else None
    return trouble.may_be_done if trouble is not None else not error.code


def end_jobs(cloud: Cloud, submission: Submission, job_ids: Iterable[str | None], reason: str) -> None:
    """End jobs of a submission, with their children."""
    is_array = submission.jobs == 1 and submission.manifest.children > 1
    kind: batch.Job = {"arrayProperties": {}} if is_array else {}
    jobs: list[batch.Job] = [{"jobId": job_id, **kind} for job_id in filter(None, dict.fromkeys(job_ids))]
    batch.terminate(cloud.door, jobs, reason)


def _submit_one(
    cloud: Cloud, submission: Submission, child: int, request: SubmitJobRequestTypeDef, sleep: Callable[[float], None]
) -> str:
    """Submit one job, and find out whether it is there when no answer says so."""
    unanswered: list[CloudknotError] = []
    for pause in (*PAUSES, None):
        try:
            job_id = _submit_job(cloud, submission, request)
        except CloudknotError as error:
            unknown = _is_unknown(error)
            if pause is None or not (unknown or _is_for_now(error)):
                if unanswered and not unknown:
                    # What is refused now may have been carried out before.
                    raise _not_known(unanswered[0], error) from error
                raise
            sleep(pause)
            if not unknown:
                continue
            unanswered.append(error)
            if found := _found_again(cloud, submission, child, error, sleep):
                return found if len(unanswered) == 1 else _only_one(cloud, submission, child, found, sleep)
        else:
            return job_id if not unanswered else _only_one(cloud, submission, child, job_id, sleep)
    raise AssertionError("unreachable: the last try returns or raises")


def _submit_job(cloud: Cloud, submission: Submission, request: SubmitJobRequestTypeDef) -> str:
    try:
        return str(cloud.door.call_once("batch", "submit_job", **request)["jobId"])
    except CloudError as error:
        if error.code == "ClientException" and re.search(
            r"(queue|definition).*(does not exist|not )", str(error), re.I
        ):
            knot = submission.manifest.knot
            raise ResourceDoesNotExistException(
                f"The knot {knot!r} cannot be used: its job queue or job definition was deleted, or switched off. If "
                f"the knot was clobbered, make it anew and map again: its results stay, but jobs of before can not be "
                f"run again. If not, clobber it (`cloudknot clobber {knot}`) first. {error}",
                code=error.code,
                operation=error.operation,
            ) from error
        raise


def _not_known(unanswered: CloudknotError, then: CloudknotError) -> CloudError:
    return CloudError(
        f"{unanswered} It is not known whether the job was submitted all the same; if so, the knot's `jobs` will show "
        f"it. What was asked then failed, too: {then}",
        operation="batch:submit_job",
    )


def _is_for_now(error: CloudknotError) -> bool:
    return isinstance(error, CloudError) and error.code in REFUSED_FOR_NOW


def _found_again(
    cloud: Cloud, submission: Submission, child: int, unanswered: CloudknotError, sleep: Callable[[float], None]
) -> str | None:
    """The job whose SubmitJob was not answered, if it is there, or is a while later."""
    for lag in (LISTING_LAG, 0.0):
        try:
            found = _listed(cloud, submission).get(child)
        except CloudknotError as error:
            # Not to know is not to submit again.
            raise _not_known(unanswered, error) from error
        if found:
            return found[0]
        if lag:
            sleep(lag)
    return None


def _only_one(cloud: Cloud, submission: Submission, child: int, job_id: str, sleep: Callable[[float], None]) -> str:
    """Of a child's jobs, end all but one: unanswered calls may have submitted some that Batch did not list so far.

    Gives the one that is left, which is the same one for all who look.
    """
    sleep(LISTING_LAG)
    with suppress(CloudknotError):
        job_ids = _listed(cloud, submission).get(child) or [job_id]
        _end_others(cloud, submission, [job_ids])
        return job_ids[0]
    return job_id


def _end_others(cloud: Cloud, submission: Submission, listed: Iterable[Sequence[str]]) -> None:
    """Of several jobs of one child, end all but the first."""
    others = chain.from_iterable(job_ids[1:] for job_ids in listed)
    end_jobs(cloud, submission, others, "It was submitted twice, because no answer told of the first time")


def _listed(cloud: Cloud, submission: Submission) -> dict[int, list[str]]:
    """The jobs that Batch has of each child: those that have not failed first, and of them the oldest.

    That is one for each, but for answers that got lost. Batch forgets a job some days after its end.
    """
    found = batch.find_by_name(cloud.door, submission.manifest.job_queue, submission.name)
    found.sort(key=lambda summary: summary.get("status") == "FAILED")
    ids = [summary["jobId"] for summary in found]
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


def _record(cloud: Cloud, submission: Submission, job_ids: Sequence[str | None]) -> Record:
    record = submission_record(submission.name, submission.manifest, job_ids)
    cloud.storage.put(submission.record_key, _to_json(record))
    return record


def _to_json(record: Record) -> bytes:
    return json.dumps(record, sort_keys=True).encode()


def _stored(cloud: Cloud, key: str) -> Record | None:
    try:
        record: Record = json.loads(cloud.storage.get(key))
    except ResourceDoesNotExistException:
        return None
    return record


def read_record(cloud: Cloud, submission: Submission) -> Record | None:
    """The record of a submission; what the session that submitted it did not write, Batch or the first child knows.

    None when nothing was submitted.
    """
    stored = _stored(cloud, submission.record_key)
    record = stored or submission_record(submission.name, submission.manifest, [])
    known = record["job_ids"] + [None] * (submission.jobs - len(record["job_ids"]))
    if None in known:
        listed = {child: ids for child, ids in _listed(cloud, submission).items() if known[child] is None}
        with suppress(CloudknotError):
            # Who may not end jobs may read results all the same.
            _end_others(cloud, submission, listed.values())
        known = [job_id or next(iter(listed.get(child, ())), None) for child, job_id in enumerate(known)]
    if known[0] is None and (started := _stored(cloud, submission.keys.started_of(submission.round))):
        known[0] = started["job_ids"][0]
    if not any(known):
        return None
    record["job_ids"] = known
    if stored is None:
        cloud.storage.put_new(submission.record_key, _to_json(record))
    return record
