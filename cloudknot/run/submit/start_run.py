"""Start a run: store inputs and manifest in S3, then submit its jobs to Batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from cloudknot.aws.tags import KNOT, with_own
from cloudknot.errors import CloudknotError, CloudknotInputError, refuse
from cloudknot.image.context import is_outdated
from cloudknot.options.choices import DEFAULT_TIMEOUT
from cloudknot.program.inputs.arguments import CallCheck
from cloudknot.program.inputs.input_pickling import pickle_into
from cloudknot.program.inputs.needs import ImagePackages, InputNeeds
from cloudknot.program.inputs.random_state import warn_of_shared
from cloudknot.run.submit.chunks import chunksize, is_automatic, measured_seconds
from cloudknot.run.submit.dependencies import Dependencies, Source, dependencies_of, refuse_other_bucket
from cloudknot.run.submit.ids import new_run_id
from cloudknot.run.submit.inputs import InputPacker, StoredInputs, upload_inputs
from cloudknot.run.submit.kwargs import stored_keywords
from cloudknot.run.submit.overrides import check_overrides, with_overrides
from cloudknot.run.submit.rounds import Run, StoredChoices, first_round
from cloudknot.run.submit.stored_runs import read_manifest
from cloudknot.run.submit.submit_job import CHUNKSIZE_WAS_DEFAULT, Submission, array_request, base_request, submit
from cloudknot.worker.wire.by_value import PYTHON
from cloudknot.worker.wire.container import CHILD_VARIABLE
from cloudknot.worker.wire.keys import RUNS, RunKeys
from cloudknot.worker.wire.manifest import Manifest, function_seed
from cloudknot.worker.wire.seal import FORMAT, sealed

if TYPE_CHECKING:
    from types_boto3_batch.type_defs import KeyValuePairTypeDef, SubmitJobRequestTypeDef

    from cloudknot.aws import Cloud
    from cloudknot.deploy.knot_stack import KnotResources
    from cloudknot.options.choices import MapOptions
    from cloudknot.program.program import Program


@dataclass(frozen=True)
class Target:
    """The resources that a map runs on, as the earlier stages made them."""

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
    packages: ImagePackages | None = None

    @property
    def job_tags(self) -> dict[str, str]:
        """The tags for the jobs: those of the knot, and cloudknot's own."""
        return with_own(self.tags, f"{self.knot}{KNOT}")

    @classmethod
    def of(cls, knot: str, program: Program | None, resources: KnotResources, memory_growth: float = 0.0) -> Target:
        """Return the target for maps of a knot; ``program`` is None if another session created the knot."""
        return cls(
            knot=knot,
            function=program.name if program else "",
            image=resources.image_uri,
            job_queue=resources.job_queue_arn,
            job_definition=resources.job_definition_arn,
            attempts=resources.retries,
            max_vcpus=resources.max_vcpus,
            tags=resources.tags,
            fargate=resources.fargate,
            vcpus=resources.vcpus,
            timeout=resources.timeout,
            memory_growth=memory_growth,
            packages=ImagePackages.from_text(resources.packages),
        )


def start_run(
    cloud: Cloud,
    target: Target,
    elements: Iterable[object] | Source,
    program: Program | None,
    options: MapOptions,
    depends_on: Sequence[str] = (),
) -> Run | None:
    """Store the inputs of a map and submit its jobs.

    Parameters
    ----------
    cloud : Cloud
    target : Target
    elements : iterable or Source
        The elements, read once; or another run, whose results stay in S3.
    program : Program or None
        None if another session created the knot.
    options : MapOptions
    depends_on : sequence of str
        Ids of the Batch jobs to wait for.

    Returns
    -------
    Run or None
        None without elements.

    Raises
    ------
    CloudknotInputError
        The function does not take an element, it cannot be pickled, there are too many for the chunk size, or the
        image is of an earlier version of cloudknot. Nothing was submitted, and no object of the run is left in S3.
    ResourceDoesNotExistException
        The source run was deleted. Nothing was submitted.
    """
    check_image(target, elements)
    check_overrides(options.overrides, target.max_vcpus, target.fargate)
    warn_of_copies(target, program, options.kwargs)
    calls = CallCheck(program, options.kwargs, options.starmap)
    source_or_elements = _checked(elements, calls)
    if source_or_elements is None:
        return None
    cloud.storage.ensure_bucket(target.tags, f"{RUNS}/{target.knot}/")
    # The run id is not Batch's job id, so the inputs can be stored before the job exists.
    keys = RunKeys.of(cloud.storage.bucket, target.knot, new_run_id())
    dump = partial(pickle_into, program=program, needs=InputNeeds(target.packages, target.knot, program))
    with stored_keywords(cloud.storage, keys, target.knot, options.kwargs, dump) as keywords:
        fields = {"kwargs": keywords.key, "kwargs_size": keywords.size, "sse": cloud.storage.sse}
        fields["owner"] = cloud.bucket_owner
        inputs = (
            source_or_elements
            if isinstance(source_or_elements, Source)
            else InputPacker(source_or_elements, dump, options.starmap, calls, type(elements) in (list, tuple))
        )
        manifest, dependencies, choices = _store(cloud, keys, target, inputs, options, depends_on, fields)
        submission = Submission(keys, manifest, tags=target.job_tags)
        record = submit(
            cloud, submission, _requests(submission, options, dependencies), partial(_discard, cloud, keys)
        )
    return Run.of(first_round(submission, record, choices))


def warn_of_copies(target: Target, program: Program | None, kwargs: Mapping[str, object] | None = None) -> None:
    """Issue warnings about values that each job gets as a copy, and that may not be those of this session."""
    warn_of_shared(kwargs or {})
    if program and program.state:
        from cloudknot.program.checks.changed_modules import warn_of_later_changes

        warn_of_later_changes(program.state, target.knot)


def check_image(target: Target, elements: Iterable[object] | Source) -> None:
    """Raise `CloudknotInputError` if the worker in the image cannot read the inputs of this version."""
    # Such a worker may read small inputs without an error, and all its results would be refused.
    if not is_outdated(target.image):
        return
    cause = "The worker in its image cannot read the inputs that this version stores. Nothing was submitted."
    if isinstance(elements, Source) and elements.function:
        refuse(
            problem=f"The map was started in the knot {target.knot!r} by an earlier version of cloudknot.",
            cause=cause,
            fix="Create a knot for the function and pass that: reduce(Knot(name=..., func=...)).",
        )
    refuse(
        problem=f"The knot {target.knot!r} was created with an earlier version of cloudknot.",
        cause=cause,
        fix=f"Create it again with its function: Knot(name={target.knot!r}, func=...). Stored results are kept.",
    )


def _store(
    cloud: Cloud,
    keys: RunKeys,
    target: Target,
    inputs: InputPacker | Source,
    options: MapOptions,
    depends_on: Sequence[str],
    fields: Mapping[str, object],
) -> tuple[Manifest, Dependencies, StoredChoices]:
    """Store inputs and manifest, or after an error nothing. Return the manifest, dependencies and choices.

    ``fields`` are further fields of the manifest.
    """
    source = inputs if isinstance(inputs, Source) else None
    try:
        if isinstance(inputs, Source):
            refuse_other_bucket(inputs, keys.bucket)
            # Only for its error: jobs could not read the results of a deleted source run.
            read_manifest(cloud, inputs.run.keys, inputs.run.job_id)
            stored, fields = StoredInputs(inputs.count, 0), {**fields, **inputs.manifest_fields()}
            if inputs.function:
                cloud.storage.put(keys.function, b"".join(sealed([inputs.function], function_seed(keys.run_id))))
        else:
            stored = upload_inputs(cloud.storage, keys, inputs)
        size = _chunksize(cloud, keys, target, stored.count, options, source)
        manifest = _manifest(keys, target, stored, options, size, **fields)
        dependencies = dependencies_of(depends_on, source, manifest)
        choices: StoredChoices = {
            "overrides": asdict(options.overrides),
            "env_vars": options.env_vars,
            "tags": dict(target.job_tags),
            CHUNKSIZE_WAS_DEFAULT: options.chunksize is None and source is None and size > 1,
            "depends_on": [dependencies.of(child) for child in range(len(dependencies.per_child) or 1)],
            "keywords": sorted(options.kwargs),
            "lengths": [] if isinstance(inputs, Source) else inputs.lengths,
        }
        # The manifest comes last: inputs without one are an unfinished upload, not a run.
        cloud.storage.put(keys.manifest, manifest.to_document(keys.manifest, **choices))
    except BaseException:
        _discard(cloud, keys)
        raise
    return manifest, dependencies, choices


def _discard(cloud: Cloud, keys: RunKeys) -> None:
    """Delete the stored objects of a run that was not submitted."""
    # The error that led here is more useful than one of the clean-up, and `discard_abandoned` deletes the rest.
    with suppress(CloudknotError):
        cloud.storage.delete_prefix(f"{keys.prefix}/")


def _checked(elements: Iterable[object] | Source, calls: CallCheck) -> Iterator[object] | Source | None:
    """Return the source, or an iterator over the elements; None without elements. Check the calls.

    Raises
    ------
    CloudknotInputError
        The function does not take the arguments.
    """
    calls.check_kwargs()
    if isinstance(elements, Source):
        calls.check_result()
        return elements
    return _not_empty(elements, calls)


def _not_empty(elements: Iterable[object], calls: CallCheck) -> Iterator[object] | None:
    """Return an iterator over the elements; None without elements.

    Raises
    ------
    CloudknotInputError
        ``elements`` is not iterable, or the function cannot be called with the first element.
    """
    # The habit from the built-in map(function, elements).
    if callable(elements) and not isinstance(elements, Iterable):
        refuse(
            problem="map takes the elements only, not a function.",
            cause="The function belongs to the Knot.",
            fix="Write knot.map(elements).",
        )
    try:
        iterator = iter(elements)
    except TypeError as error:
        raise CloudknotInputError(
            f"iterdata is of type {type(elements).__name__}, which is not iterable. Pass a list, a range or a "
            "generator, with one element for each call of the function."
        ) from error
    # The first element is read before anything is stored, because an empty map makes no run.
    for first in iterator:
        calls.check_first(first)
        return _prepend([first], iterator)
    return None


def _prepend(first: list[object], rest: Iterator[object]) -> Iterator[object]:
    """Yield the one element of ``first``, then the rest."""
    # Removed from its list, because it may be large: the caller alone decides how long it lives.
    yield first.pop()
    yield from rest


def _manifest(
    keys: RunKeys, target: Target, stored: StoredInputs, options: MapOptions, chunksize: int, **fields: Any
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
        version=FORMAT,
        python=PYTHON,
        job_type=options.job_type,
        job_queue=target.job_queue,
        job_definition=target.job_definition,
        memory_growth=target.memory_growth,
        **fields,
    )


def _chunksize(
    cloud: Cloud, keys: RunKeys, target: Target, count: int, options: MapOptions, source: Source | None
) -> int:
    """Return the number of elements for each child job."""
    if options.job_type == "independent":
        return 1
    # The chunk size of the source run lets each child wait for one child of it.
    default = source.run.manifest.chunksize if source and not source.gather else 1
    automatic = is_automatic(count, options.chunksize, default)
    seconds = measured_seconds(cloud, keys, target.image) if automatic else None
    slots = int(target.max_vcpus // (options.overrides.vcpus or target.vcpus))
    timeout = options.overrides.timeout or target.timeout
    # The default of a week bounds the cost of a function that hangs. It says nothing about the length of a call.
    timeout = None if timeout == DEFAULT_TIMEOUT else timeout
    return chunksize(count, options.chunksize, default, seconds, slots, timeout, cloud.shortest_child)


def _requests(
    submission: Submission, options: MapOptions, dependencies: Dependencies
) -> Iterator[SubmitJobRequestTypeDef]:
    """Yield the SubmitJob requests of a run: one, or with independent jobs one for each element."""
    variables = options.container_environment
    if submission.manifest.job_type == "independent":
        for child in range(submission.jobs):
            child_variables: list[KeyValuePairTypeDef] = [*variables, {"name": CHILD_VARIABLE, "value": str(child)}]
            request = base_request(submission, child_variables)
            request["dependsOn"] = dependencies.of(child)
            yield with_overrides(request, options.overrides)
    else:
        request = array_request(submission, variables)
        request["dependsOn"] = dependencies.of(0)
        yield with_overrides(request, options.overrides)
