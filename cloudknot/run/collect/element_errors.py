"""The exception for each element without a value: the user's own where it can be rebuilt, else one of our tree."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

from cloudknot.errors import BatchJobFailedError, CloudknotError, DependencyFailedError, ElementError
from cloudknot.run.collect.job_failures import Ending
from cloudknot.worker.wire.failure import EXITED, NO_INPUT, NOT_LOADED, RAISED, UNPICKLABLE, Failure, add_note, rebuilt

E = TypeVar("E", bound=BatchJobFailedError)


@dataclass(frozen=True)
class Place:
    """Where an element ran, for an error: in which attempt of its job (0: not known), of which knot, in a cloud that
    is still there or not."""

    index: int
    job_id: str
    log_url: str = ""
    attempt: int = 0
    knot: str = ""
    lasting: bool = True

    def __str__(self) -> str:
        return f"element {self.index} (job {self.job_id})"

    def help(self) -> str:
        return f"Its output: future.job.logs({self.index})"

    def story(self) -> str:
        """The same for an exception of the user's own, which has no attributes that tell it."""
        attempt = f", in attempt {self.attempt} of its job" if self.attempt else ""
        return f"{self}{attempt}. {self.help()}"


class RemoteTraceback(Exception):
    """The traceback in the worker, as text: the ``__cause__`` of an exception that an element raised.

    Attributes
    ----------
    text : str
    index, job_id, attempt, log_url
        As a `BatchJobFailedError` has them; the user's own exception has not.
    """

    def __init__(self, text: str, place: Place | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.index = place.index if place else None
        self.job_id = place.job_id if place else ""
        self.attempt = place.attempt if place else 0
        self.log_url = place.log_url if place else ""

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def unreadable(place: Place, error: Exception) -> ElementError:
    """The error of an element whose result cannot be unpickled here, because of ``error``."""
    text = (
        f"has a result that cannot be unpickled in this session: {type(error).__name__}: {error}. Import or "
        "install here what its class needs; the result itself stays stored."
    )
    return _element_error(place, text)


def load_exception(failure: Failure, place: Place) -> BaseException:
    """The exception that stands for a failure: the user's own where it can be rebuilt."""
    place = replace(place, attempt=failure.attempt)
    raised = _rebuild(failure) if failure.kind == RAISED and failure.pickled else None
    if isinstance(raised, Exception):
        # Not by an assignment: it may be a frozen dataclass.
        object.__setattr__(raised, "__cause__", RemoteTraceback(failure.traceback, place))
        by = f"{failure.source}, whose result {place} takes." if failure.source else place.story()
        add_note(raised, f"Raised by {by}")
        return raised
    if failure.kind == NO_INPUT:
        text = f"did not run, because {failure.source}, whose result it takes, has none."
        return _error(DependencyFailedError, place, text, None)
    text = _explain(failure, raised is not None)
    if failure.source:
        text = f"did not run, because {failure.source}, whose result it takes, {text}"
    error = _element_error(place, text, failure.exit_code)
    error.__cause__ = RemoteTraceback(failure.traceback, place)
    return error


def _rebuild(failure: Failure) -> BaseException | None:
    """The exception that the element raised, or None."""
    from cloudknot.program import pickling

    try:
        raised = pickling.loads(failure.pickled)
        return rebuilt(*raised) if isinstance(raised, tuple) else raised
    except Exception:
        return None


def _explain(failure: Failure, ends_session: bool = False) -> str:
    what = f"{failure.type}: {failure.message}" if failure.message else failure.type
    if ends_session:
        return f"raised {what}, which would end this session if it were raised here."
    if failure.kind == EXITED:
        return f"called sys.exit({failure.message}) instead of returning a value (exit code {failure.exit_code})."
    if failure.kind == UNPICKLABLE:
        return f"has a result that cannot be pickled: {what}. Return plain data, or write it to a file in S3."
    if failure.kind == NOT_LOADED:
        absent = failure.type in ("ModuleNotFoundError", "ImportError")
        hint = " Name what the function needs: Knot(..., requirements=[...])." if absent else ""
        return f"did not run, because the program could not be loaded in the job: {what}.{hint}"
    return (
        f"raised {what}. The exception itself cannot be sent back, because its class or its arguments cannot be "
        "pickled in the job, or unpickled in this session."
    )


def _element_error(place: Place, text: str, exit_code: int | None = None) -> ElementError:
    return _error(ElementError, place, text, exit_code)


def _error(kind: type[E], place: Place, text: str, exit_code: int | None, reason: str = "") -> E:
    """An error that begins with the element's place and ends with where its output is."""
    message = f"{place} {text} {place.help()}".strip()
    return kind(
        message[0].upper() + message[1:],
        index=place.index,
        job_id=place.job_id,
        attempt=place.attempt,
        exit_code=exit_code,
        reason=reason,
        log_url=place.log_url,
    )


def given_up(place: Place, cause: Exception) -> BatchJobFailedError:
    """The error for an element about which the cloud does not tell any more."""
    said = str(cause).rstrip(".")
    text = f"Element {place.index} (job {place.job_id}) has no result that can be read: {said}."
    if place.lasting:
        text += (
            " The job is not touched by this, and what it stores stays stored. future.job.result() looks again; in "
            f"another session, the jobs of cloudknot.Knot(name={place.knot!r}) do."
        )
    error = BatchJobFailedError(text, index=place.index, job_id=place.job_id)
    error.__cause__ = cause
    return error


def as_ending(error: CloudknotError, place: Place) -> BaseException:
    """The error of an element whose outcome cannot be read, because of ``error``."""
    return error if isinstance(error, BatchJobFailedError) else given_up(place, error)


def lost(place: Place, end: Ending) -> BatchJobFailedError:
    """Return the error for an element without a stored result, by the ending of its job."""
    tries = f" Attempts: {end.attempt}." if end.attempt > 1 else ""
    unsaid = ": Batch gave no reason" if end.kind is BatchJobFailedError else ""
    text = f"{end.what}{f': {end.reason}'.rstrip('.') if end.reason else unsaid}.{tries}"
    return _error(end.kind, replace(place, attempt=end.attempt), text, end.exit_code, end.reason)
