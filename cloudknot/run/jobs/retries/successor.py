"""Successor: the present function of a run's knot, which a retry runs in place of the earlier one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cloudknot.deploy.job_definition import active_revisions, image_of, memory_of, revision_of
from cloudknot.deploy.knot_stack import find_knot
from cloudknot.errors import CloudknotError, CloudknotInputError, refuse
from cloudknot.options import streams
from cloudknot.program.inputs.arguments import CallCheck, shown
from cloudknot.run.submit.overrides import check_overrides
from cloudknot.run.submit.start_run import Target, check_image, warn_of_copies

if TYPE_CHECKING:
    from cloudknot.aws import Cloud
    from cloudknot.options.choices import Overrides
    from cloudknot.program.program import Program
    from cloudknot.run.submit.rounds import Run


@dataclass(frozen=True)
class Successor:
    """The target of the knot that runs a further round, and its program; None if another session created the knot."""

    target: Target
    program: Program | None

    def own_memory(self, cloud: Cloud) -> int:
        """Return the MiB that the knot's job definition requests; 0 if it cannot be read."""
        revision = revision_of(cloud, self.target.job_definition)
        return memory_of(revision) if revision else 0

    def check(self, overrides: Overrides) -> None:
        """Raise `CloudknotInputError` if the machines of the knot cannot run jobs with these choices."""
        check_overrides(overrides, self.target.max_vcpus, self.target.fargate)


def successor_of(knot: Any, run: Run, cloud: Cloud) -> Successor:
    """Return the successor for a run.

    Parameters
    ----------
    knot : Knot or str
        The knot, or its name.
    run : Run
    cloud : Cloud
        The cloud of the run, with the run's bucket.

    Raises
    ------
    CloudknotInputError
        It is not the knot of the run, stores in another place, or its function cannot take the elements.
    ResourceClobberedException, ResourceDoesNotExistException
        The knot was clobbered, or there is none of this name.
    """
    # Only a Knot has this method. Its class is on a floor above, so it cannot be imported for isinstance.
    read: Callable[[], tuple[Cloud, Target, Program | None]] | None = getattr(knot, "_as_successor", None)
    if isinstance(knot, str):
        _refuse_other_name(knot, run)
        resources = find_knot(cloud, knot)
        there = cloud.in_bucket(resources.bucket, resources.bucket_owner)
        successor = Successor(Target.of(knot, None, resources), None)
    elif read is not None:
        there, target, program = read()
        _refuse_other_name(target.knot, run)
        successor = Successor(target, program)
    else:
        refuse(
            problem=f"knot={knot!r} is not a knot. Nothing was submitted.",
            fix="Pass a Knot, or its name: retry_failed(knot=cloudknot.Knot(name=..., func=...)).",
        )
    _refuse_other_place(successor.target.knot, there, cloud)
    check_image(successor.target, ())
    _check_arguments(successor.program, run)
    warn_of_copies(successor.target, successor.program)
    return successor


def _refuse_other_name(name: str, run: Run) -> None:
    own = run.manifest.knot
    if name != own:
        refuse(
            problem=f"The failed elements belong to a map of the knot {own!r}, and knot= is the knot {name!r}. "
            "Nothing was submitted.",
            cause="The jobs of a knot may not write the results of another one.",
            fix=f"Create the knot of the map with the new function: retry_failed(knot=cloudknot.Knot(name={own!r}, "
            "func=...)).",
        )


def _refuse_other_place(name: str, there: Cloud, here: Cloud) -> None:
    places = [(cloud.endpoint_url or "", cloud.region, cloud.bucket) for cloud in (there, here)]
    if places[0] != places[1]:
        other = " in another cloud" if places[0][0] != places[1][0] else ""
        refuse(
            problem=f"The knot {name!r} uses the bucket {there.bucket} in {there.region}{other}, and the failed "
            f"elements are in {here.bucket} in {here.region}. Nothing was submitted.",
            cause="Jobs can read only the bucket of their own knot.",
            fix="Create the knot in the cloud, region and bucket of the map, or map these elements again.",
        )


def _check_arguments(program: Program | None, run: Run) -> None:
    """Raise `CloudknotInputError` if the function cannot be called as the map calls it."""
    choices, manifest = run.rounds.first.stored_choices, run.manifest
    keywords: Mapping[str, None] = dict.fromkeys(choices.get("keywords") or ())
    CallCheck(program, keywords, manifest.starmap).check_kwargs()
    # An earlier version stored neither the names of the keywords nor the number of arguments.
    is_known = "keywords" in choices or not manifest.kwargs
    if program is None or program.script or program.call_signature is None or not is_known:
        return
    for number in (choices.get("lengths") or ()) if manifest.starmap else (1,):
        try:
            program.call_signature.bind(*[None] * number, **keywords)
        except TypeError as error:
            arguments = "1 positional argument" if number == 1 else f"{number} positional arguments"
            raise CloudknotInputError(
                f"{program.name}{shown(program.call_signature)} cannot be called with {arguments}, as the map does: "
                f"{error}. Nothing was submitted. Give the new function the parameters of the earlier one, or map the "
                "elements again."
            ) from None


def report_newer_function(cloud: Cloud, run: Run) -> None:
    """Log a warning if a retry is about to run an earlier function than the knot has now."""
    newest = run.rounds.newest.submission.manifest
    # The function of a reduce travels with the run, and not with the knot.
    if newest.own_function:
        return
    name = newest.job_definition.rpartition("/")[2].rpartition(":")[0]
    try:
        revisions = active_revisions(cloud, name)
    except CloudknotError:
        # The credentials may not allow it. The retry needs no answer.
        return
    if revisions and image_of(revisions[0]) != newest.image:
        streams.logger.warning(
            "The retry runs the function of %s, not the newer one of the knot %r. To run that one: "
            "retry_failed(knot=%r).",
            "the map" if run.rounds.newest.number == 0 else "the previous round",
            newest.knot,
            newest.knot,
        )
