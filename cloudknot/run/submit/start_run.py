"""One map on its way to Batch: inputs and manifest into S3, then one SubmitJob.

The run's id is made here, before anything is submitted, so that the inputs are in place before the job exists.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from cloudknot.aws.tags import with_own
from cloudknot.deploy.inventory import KNOT
from cloudknot.errors import CloudknotError, CloudknotInputError
from cloudknot.program.input_pickling import pickle_into
from cloudknot.run.submit.chunks import chunksize, is_automatic, measured_seconds
from cloudknot.run.submit.dependencies import Dependencies, Source, dependencies_of, refuse_other_bucket
from cloudknot.run.submit.ids import new_run_id
from cloudknot.run.submit.inputs import InputPacker, StoredInputs, upload_inputs
from cloudknot.run.submit.kwargs import check_kwargs, stored_keywords
from cloudknot.run.submit.overrides import check_overrides, with_overrides
from cloudknot.run.submit.rounds import Run, StoredChoices, first_round
from cloudknot.run.submit.stored_runs import read_manifest
from cloudknot.run.submit.submit_job import CHUNKSIZE_WAS_DEFAULT, Submission, array_request, base_request, submit
from cloudknot.worker.wire.container import CHILD_VARIABLE
from cloudknot.worker.wire.keys import RunKeys
from cloudknot.worker.wire.manifest import Manifest

if TYPE_CHECKING:
    from types_boto3_batch.type_defs import KeyValuePairTypeDef, SubmitJobRequestTypeDef

    from cloudknot.aws import Cloud
    from cloudknot.deploy.knot_stack import KnotResources
    from cloudknot.options.choices import MapOptions
    from cloudknot.program.program import Program


@dataclass(frozen=True)
class Target:
    """Where a map is submitted to: what the earlier stages made."""

    knot: str
    function: str
    image: str
    job_queue: str
    job_definition: str
    attempts: int
    max_vcpus: int
    tags: Mapping[str, str]
    fargate: tuple[int, int] | None = None
    vcpus: float = 1.0
    timeout: int | None = None
    memory_growth: float = 0.0

    @property
    def job_tags(self) -> dict[str, str]:
        """The knot's tags, as its jobs get them."""
        return with_own(self.tags, f"{self.knot}{KNOT}")

    @classmethod
    def of(cls, knot: str, program: Program | None, made: KnotResources, memory_growth: float = 0.0) -> Target:
        """Where the maps of a knot go; its program is None when another session made it."""
        return cls(
            knot=knot,
            function=program.name if program else "",
            image=made.image_uri,
            job_queue=made.job_queue_arn,
            job_definition=made.job_definition_arn,
            attempts=made.retries,
            max_vcpus=made.max_vcpus,
            tags=made.tags,
            fargate=made.fargate,
            vcpus=made.vcpus,
            timeout=made.timeout,
            memory_growth=memory_growth,
        )


def start_run(
    cloud: Cloud,
    target: Target,
    elements: Iterable[object] | Source,
    program: Program | None,
    options: MapOptions,
    depends_on: Sequence[str] = (),
) -> Run | None:
    """Store the inputs and submit the job; return None when there are no elements.

    Where the elements are the results of another run, nothing of them is read or stored here.

    Raises
    ------
    CloudknotInputError
        An element cannot be pickled, or there are too many for the chunk size. Nothing was submitted, and nothing of
        the run is left in S3.
    ResourceDoesNotExistException
        The run whose results are the elements was deleted. Nothing was submitted.
    """
    check_overrides(options.overrides, target.max_vcpus, target.fargate)
    check_kwargs(program, options.kwargs, options.starmap)
    checked = elements if isinstance(elements, Source) else _not_empty(elements)
    if checked is None:
        return None
    cloud.storage.ensure_bucket(target.tags)
    keys = RunKeys.of(cloud.storage.bucket, target.knot, new_run_id())
    dump = partial(pickle_into, program=program)
    with stored_keywords(cloud.storage, keys, target.knot, options.kwargs, dump) as keywords:
        more = {"kwargs": keywords.key, "kwargs_size": keywords.size, "sse": cloud.storage.sse}
        inputs = checked if isinstance(checked, Source) else InputPacker(checked, dump, options.starmap)
        manifest, waits, chosen = _store(cloud, keys, target, inputs, options, depends_on, more)
        submission = Submission(keys, manifest, tags=target.job_tags)
        record = submit(cloud, submission, _requests(submission, options, waits), partial(_discard, cloud, keys))
    return Run.of(first_round(submission, record, chosen))


def _store(
    cloud: Cloud,
    keys: RunKeys,
    target: Target,
    inputs: InputPacker | Source,
    options: MapOptions,
    depends_on: Sequence[str],
    more: Mapping[str, object],
) -> tuple[Manifest, Dependencies, StoredChoices]:
    """Store inputs and manifest, or nothing; find out what to wait for. The last is stored with the manifest."""
    source = inputs if isinstance(inputs, Source) else None
    try:
        if isinstance(inputs, Source):
            refuse_other_bucket(inputs, keys.bucket)
            read_manifest(cloud, inputs.run.keys, inputs.run.job_id)
            stored, more = StoredInputs(inputs.count, 0), {**more, **inputs.manifest_fields()}
            if inputs.function:
                cloud.storage.put(keys.function, inputs.function)
        else:
            stored = upload_inputs(cloud.storage, keys, inputs)
        size = _chunksize(cloud, keys, target, stored.count, options, source)
        manifest = _manifest(keys, target, stored, options, size, **more)
        waits = dependencies_of(depends_on, source, manifest)
        chosen: StoredChoices = {
            "overrides": asdict(options.overrides),
            "env_vars": options.env_vars,
            "tags": dict(target.job_tags),
            CHUNKSIZE_WAS_DEFAULT: options.chunksize is None and source is None and size > 1,
            "depends_on": [waits.of(child) for child in range(len(waits.own) or 1)],
        }
        cloud.storage.put(keys.manifest, manifest.to_json(**chosen).encode())
    except BaseException:
        _discard(cloud, keys)
        raise
    return manifest, waits, chosen


def _discard(cloud: Cloud, keys: RunKeys) -> None:
    """Delete what was stored of a run; what went wrong before is what its caller wants to hear of."""
    with suppress(CloudknotError):
        cloud.storage.delete_prefix(f"{keys.prefix}/")


def _not_empty(elements: Iterable[object]) -> Iterator[object] | None:
    if callable(elements) and not isinstance(elements, Iterable):
        raise CloudknotInputError("map takes the elements only: the function is the Knot's. Write knot.map(elements).")
    try:
        iterator = iter(elements)
    except TypeError as error:
        raise CloudknotInputError(
            f"iterdata is {type(elements).__name__}, which is not iterable. Pass a list, a range, a generator: one "
            "element for each call of the function."
        ) from error
    for first in iterator:
        return _beginning_with([first], iterator)
    return None


def _beginning_with(first: list[object], rest: Iterator[object]) -> Iterator[object]:
    """The only element of ``first``, and then the rest. The first may be large, and is not held afterwards."""
    yield first.pop()
    yield from rest


def _manifest(
    keys: RunKeys, target: Target, stored: StoredInputs, options: MapOptions, chunksize: int, **more: Any
) -> Manifest:
    return Manifest(
        knot=target.knot,
        run_id=keys.run_id,
        count=stored.count,
        stride=stored.stride,
        chunksize=chunksize,
        starmap=options.starmap,
        attempts=options.overrides.retries or target.attempts,
        function=target.function,
        image=target.image,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        job_type=options.job_type,
        job_queue=target.job_queue,
        job_definition=target.job_definition,
        memory_growth=target.memory_growth,
        **more,
    )


def _chunksize(
    cloud: Cloud, keys: RunKeys, target: Target, count: int, options: MapOptions, source: Source | None
) -> int:
    """The chunk size asked for, else that of the source, else one that makes an array of all."""
    if options.job_type == "independent":
        return 1
    usual = source.run.manifest.chunksize if source and not source.gather else 1
    automatic = is_automatic(count, options.chunksize, usual)
    seconds = measured_seconds(cloud, keys, target.image) if automatic else None
    slots = int(target.max_vcpus // (options.overrides.vcpus or target.vcpus))
    timeout = options.overrides.timeout or target.timeout
    return chunksize(count, options.chunksize, usual, seconds, slots, timeout)


def _requests(submission: Submission, options: MapOptions, waits: Dependencies) -> Iterator[SubmitJobRequestTypeDef]:
    """The SubmitJob calls of a run: one, or with independent jobs one for each element."""
    variables = options.container_environment
    if submission.manifest.job_type == "independent":
        for child in range(submission.jobs):
            own: list[KeyValuePairTypeDef] = [*variables, {"name": CHILD_VARIABLE, "value": str(child)}]
            request = base_request(submission, own)
            request["dependsOn"] = waits.of(child)
            yield with_overrides(request, options.overrides)
    else:
        request = array_request(submission, variables)
        request["dependsOn"] = waits.of(0)
        yield with_overrides(request, options.overrides)
