"""Reduce: one job that calls a function with the list of all results of a map.

The function travels by value with the run, not in an image, so nothing is built for it; what it imports must be in the
image that the map ran in. That is checked before anything is submitted.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from cloudknot.aws.tags import without_own
from cloudknot.errors import CloudknotInputError
from cloudknot.options.choices import MapOptions
from cloudknot.program.program import Program, make_program
from cloudknot.program.requirements import name_of
from cloudknot.run.submit.dependencies import Source
from cloudknot.run.submit.rounds import Run
from cloudknot.run.submit.start_run import Target, start_run

if TYPE_CHECKING:
    from cloudknot.run.collect.run_view import RunView

NO_LIMIT = 10**9
"""vCPUs of a job of a knot that another session made: Batch knows the limit, this session does not."""


class Reduce:
    """Submits one job that calls a function with the list of all results of a run.

    Parameters
    ----------
    run : Run
        The map whose results are gathered.
    view : RunView
        Of the same run.
    program : Program or None
        The program in the image of the map; None when another session made it.
    target : Target or None
        Where the map was submitted to; None when another session did.
    """

    def __init__(self, run: Run, view: RunView, program: Program | None, target: Target | None) -> None:
        self._run, self._view, self._program, self._target = run, view, program, target

    def submit(self, func: Callable[..., Any], requirements: Iterable[str] | None, options: MapOptions) -> Run:
        """Submit the job.

        Parameters
        ----------
        func : callable
        requirements : iterable of str, optional
            What it needs, in place of what is found.
        options : MapOptions

        Raises
        ------
        CloudknotInputError
            The function cannot travel, does not take one argument, or needs what the image may not have.
        """
        own = make_program(func, requirements)
        _refuse_other_arguments(own, options.kwargs)
        _refuse_missing(own, self._program)
        source = Source(self._run, self._view.live_job_ids, gather=True, function=_travelling(own))
        target = dataclasses.replace(self._target or _target_of(self._run), function=own.name)
        retries = options.overrides.retries or target.attempts
        options = dataclasses.replace(options, overrides=dataclasses.replace(options.overrides, retries=retries))
        started = start_run(self._view.cloud, target, source, own, options)
        assert started is not None
        return started


def _target_of(run: Run) -> Target:
    """Where a map was submitted to, from its manifest."""
    said = run.manifest
    return Target(
        knot=said.knot,
        function="",
        image=said.image,
        job_queue=said.job_queue,
        job_definition=said.job_definition,
        attempts=said.attempts,
        max_vcpus=NO_LIMIT,
        tags=without_own(run.tags),
    )


def _refuse_other_arguments(program: Program, kwargs: Mapping[str, object]) -> None:
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
