"""Reduce: submit one job that calls a function with the list of all results of a map.

The function travels with the run, in the image of the map, so no image is built. Functions that need more than that
image has are refused before anything is submitted.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from cloudknot.aws.tags import without_own
from cloudknot.deploy.job_definition import packages_of, revision_of
from cloudknot.errors import CloudknotInputError, refuse
from cloudknot.image.render import WORKER_NEEDS
from cloudknot.options.choices import MapOptions
from cloudknot.program.inputs.arguments import shown
from cloudknot.program.inputs.needs import ImagePackages
from cloudknot.program.program import Program, make_program
from cloudknot.program.requirements import name_of, with_dependencies
from cloudknot.run.submit.dependencies import Source
from cloudknot.run.submit.rounds import Run
from cloudknot.run.submit.start_run import Target, start_run

if TYPE_CHECKING:
    from cloudknot.run.collect.run_view import RunView

NO_LIMIT = 10**9
"""vCPU limit for a knot of another session: Batch enforces the real limit, which this session does not know."""


class Reduce:
    """The submitter of a job that calls a function with the list of all results of a run.

    Parameters
    ----------
    run : Run
        The map with the results.
    view : RunView
        The view of the same run.
    program : Program or None
        The program in the image of the map; None if another session built it.
    target : Target or None
        The target of the map; None if another session submitted it.
    """

    def __init__(self, run: Run, view: RunView, program: Program | None, target: Target | None) -> None:
        self._run, self._view, self._program, self._target = run, view, program, target

    def submit(self, func: Callable[..., Any], requirements: Iterable[str] | None, options: MapOptions) -> Run:
        """Submit the job, and return its run.

        Parameters
        ----------
        func : callable
        requirements : iterable of str, optional
            The packages that the function needs. Default: found from its imports.
        options : MapOptions

        Raises
        ------
        CloudknotInputError
            The function cannot be pickled, does not take one argument, or needs packages that the image may lack.
        """
        program = make_program(func, requirements)
        _check_arguments(program, options.kwargs)
        base = self._target or _target_of(self._run)
        if self._target is None and (program.requirements or options.kwargs):
            # Another session submitted the map, and the manifest does not name the packages.
            base = dataclasses.replace(base, packages=self._stored_packages())
        _check_image(program, self._program, base.packages)
        source = Source(self._run, self._view.live_job_ids, gather=True, function=_serialize(program))
        target = dataclasses.replace(base, function=program.name)
        retries = options.overrides.retries or target.attempts
        options = dataclasses.replace(options, overrides=dataclasses.replace(options.overrides, retries=retries))
        started = start_run(self._view.cloud, target, source, program, options)
        # Only a map without elements is not started, and this one has one: the list.
        assert started is not None
        return started

    def _stored_packages(self) -> ImagePackages | None:
        """Return the packages of the image of the map, from its job definition."""
        revision = revision_of(self._view.cloud, _target_of(self._run).job_definition)
        return ImagePackages.from_text(packages_of(revision)) if revision else None


def _target_of(run: Run) -> Target:
    """Return the target of the newest round of a map that another session submitted, from its manifest."""
    # The earlier queue or job definition may be gone, if a retry runs in a knot that was created again.
    manifest = run.rounds.newest.submission.manifest
    return Target(
        knot=manifest.knot,
        function="",
        image=manifest.image,
        job_queue=manifest.job_queue,
        job_definition=manifest.job_definition,
        attempts=manifest.attempts,
        max_vcpus=NO_LIMIT,
        tags=without_own(run.rounds.newest.stored_choices.get("tags") or {}),
    )


def _check_arguments(program: Program, kwargs: Mapping[str, object]) -> None:
    """Raise `CloudknotInputError` if the function cannot be called with one list and ``kwargs``."""
    if program.call_signature is None:
        return
    try:
        program.call_signature.bind(None, **kwargs)
    except TypeError as error:
        # The list goes to the function as a whole, because most functions that gather take one: sum, max,
        # numpy.mean, pandas.concat. A fold is one partial away.
        raise CloudknotInputError(
            f"{program.name}{shown(program.call_signature)} cannot be called with one list: {error}. reduce calls the "
            "function once, with the list of all results. Nothing was submitted. To combine the results two by two, "
            f"pass functools.partial(functools.reduce, {_expression(program)})."
        ) from None


def _check_image(program: Program, image: Program | None, packages: ImagePackages | None) -> None:
    """Raise `CloudknotInputError` if a function needs packages or modules that the image lacks, or may lack."""
    if packages:
        installed = packages.names
    else:
        # Every image has the worker's own packages. The dependencies of a requirement are in the image, too.
        direct = [*map(name_of, image.requirements), *image.local_packages] if image else []
        installed = frozenset(with_dependencies([*WORKER_NEEDS, *direct]))
    lacking = [line for line in program.requirements if name_of(line) not in installed]
    lacking += [name for name in program.local_packages if name not in installed]
    files = image.modules if image else {}
    other_files = [path for path, source in program.modules.items() if files.get(path) != source]
    if not lacking and not other_files:
        return
    is_known = image is not None or (packages is not None and packages.complete and not other_files)
    refuse(
        problem=f"The function {program.name!r} needs {', '.join([*lacking, *other_files])}, which the image of the "
        f"map {'does' if is_known else 'may'} not have. Nothing was submitted.",
        cause="" if is_known else "Another session built that image, so its content is not known here.",
        fix=f"Create a knot for the function and pass that: reduce(Knot(name=..., func={_expression(program)})). If "
        f"the image has everything that the function needs, call reduce({_expression(program)}, requirements=[]).",
    )


def _expression(program: Program) -> str:
    """Return an expression for the function that the reader of an error can paste."""
    # The name of a lambda is no expression.
    return program.name if program.name.isidentifier() else "func"


def _serialize(program: Program) -> bytes:
    """Return a function in the format that the worker's ``load_travelled`` reads."""
    from importlib.metadata import version

    # The worker compares the versions before it unpickles, and shows the source lines in tracebacks.
    header = {
        "python": program.python,
        "cloudpickle": version("cloudpickle"),
        "filename": program.filename,
        "firstlineno": program.firstlineno,
        "source": program.source,
        "paths": program.paths,
        "names": program.names,
    }
    return json.dumps(header).encode() + b"\n" + program.pickled
