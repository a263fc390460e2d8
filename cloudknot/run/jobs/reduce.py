"""Gathering: one job that calls a function with the list of all results of a map.

The function travels by value with the run, not in an image, so nothing is built for it; what it imports must be in the
image that the map ran in. That is checked before anything is submitted.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cloudknot.aws.tags import without_own
from cloudknot.errors import CloudknotInputError
from cloudknot.options.choices import MapOptions
from cloudknot.program.program import Program, make_program
from cloudknot.program.requirements import name_of
from cloudknot.run.submit.dependencies import Job, Source
from cloudknot.run.submit.rounds import Round
from cloudknot.run.submit.start import Target, start_run

if TYPE_CHECKING:
    from cloudknot.aws import Cloud

NO_LIMIT = 10**9
"""vCPUs of a job of a knot that another session made: Batch knows the limit, this session does not."""


def start_reduce(
    cloud: Cloud,
    job: Job,
    func: Callable[..., Any],
    requirements: Iterable[str] | None,
    options: MapOptions,
    program: Program | None,
    target: Target | None,
) -> Round:
    """Submit the job.

    Parameters
    ----------
    cloud : Cloud
    job : BatchJob
        The map whose results are gathered.
    func : callable
    requirements : iterable of str, optional
        What it needs, in place of what is found.
    options : MapOptions
    program : Program or None
        What the image of the map holds; None when another session made it.
    target : Target or None
        Where the map was submitted to; None when another session did.

    Raises
    ------
    CloudknotInputError
        The function cannot travel, does not take one argument, or needs what the image may not have.
    """
    own = make_program(func, requirements)
    _refuse_other_arguments(own, options.kwargs)
    _refuse_missing(own, program)
    source = Source(job, gather=True, function=_travelling(own))
    target = target or _target_of(job)
    target = dataclasses.replace(target, function=own.name)
    retries = options.overrides.retries or target.attempts
    options = dataclasses.replace(options, overrides=dataclasses.replace(options.overrides, retries=retries))
    started = start_run(cloud, target, source, own, options)
    assert started is not None
    return started


def _target_of(job: Job) -> Target:
    """Where a map was submitted to, from its manifest."""
    said = job.manifest
    return Target(
        knot=said.knot,
        function="",
        image=said.image,
        job_queue=said.job_queue,
        job_definition=said.job_definition,
        attempts=said.attempts,
        max_vcpus=NO_LIMIT,
        tags=without_own(job.tags),
    )


def _refuse_other_arguments(program: Program, kwargs: Mapping[str, Any]) -> None:
    if program.signature is None:
        return
    try:
        program.signature.bind(None, **kwargs)
    except TypeError as error:
        raise CloudknotInputError(
            f"reduce calls the function once, with the list of all results, and {program.name}{program.signature} "
            f"does not take that: {error}. To fold the results two by two, give "
            f"functools.partial(functools.reduce, {program.name}). Nothing was submitted."
        ) from error


def _refuse_missing(own: Program, image: Program | None) -> None:
    """Refuse a function that needs what the image lacks, or is not known to have."""
    there = {name_of(line) for line in image.requirements} if image else set()
    missing = [line for line in own.requirements if name_of(line) not in there]
    files = image.modules if image else {}
    missing += [path for path, source in own.modules.items() if files.get(path) != source]
    if not missing:
        return
    why = "does not have it" if image else "was made by another session, so what it has is not known here"
    raise CloudknotInputError(
        f"{own.name} needs {', '.join(missing)}, and the image of the map {why}. Make a knot of the function and give "
        f"that: reduce(Knot(name=..., func={own.name})). If the image has it all the same, say so by requirements=[]. "
        "Nothing was submitted."
    )


def _travelling(program: Program) -> bytes:
    """A function as the worker's ``load_travelled`` reads it."""
    from importlib.metadata import version

    about = {
        "python": program.python,
        "cloudpickle": version("cloudpickle"),
        "filename": program.filename,
        "firstlineno": program.firstlineno,
        "source": program.source,
    }
    return json.dumps(about).encode() + b"\n" + program.pickled


class Gathering:
    """What can be gathered: the base of `cloudknot.BatchJob`."""

    cloud: Any
    program: Program | None = None
    target: Target | None = None

    def reduce(
        self,
        func: Any,
        *,
        kwargs: Mapping[str, Any] | None = None,
        env_vars: Mapping[str, str] | Sequence[Mapping[str, str]] | None = None,
        requirements: Iterable[str] | None = None,
        progress: bool | None = None,
        memory: int | None = None,
        vcpus: int | None = None,
        timeout: int | None = None,
        retries: int | None = None,
    ) -> Any:
        """Call a function once with the list of all results, in a job of its own that waits for the map.

        Parameters
        ----------
        func : callable or Knot
            Called as ``func(results, **kwargs)``. It travels by value and runs in the image of the map, which must
            have what it imports; or the function of a Knot, in that one's image.
        kwargs, env_vars, progress, memory, vcpus, timeout, retries : optional
            As of `Knot.map`. The job holds all results in memory.
        requirements : sequence of str, optional
            What the function needs, as pip takes it, in place of what is found; ``[]`` if the image has it all.

        Returns
        -------
        ReducedFuture
            Its result is what the function returned.

        Raises
        ------
        CloudknotInputError
            The function cannot be called so, or needs what the image does not have. Nothing was submitted.
        """
        options = MapOptions.of_map(**locals())
        by_knot = getattr(func, "_gather", None)
        if by_knot is not None:
            return by_knot(Source(self, gather=True), options)  # type: ignore[arg-type]
        return self._reduce(func, requirements, options)

    def _reduce(self, func: Any, requirements: Iterable[str] | None, options: MapOptions) -> Any:
        raise NotImplementedError
