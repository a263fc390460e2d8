"""Make the exception for an element without a value: the user's own where it can be rebuilt, else one of our tree."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

from cloudknot.errors import BatchJobFailedError, CloudknotError, DependencyFailedError, ElementError, JobTraceback
from cloudknot.run.collect.job_failures import Ending
from cloudknot.worker.wire import by_value
from cloudknot.worker.wire.by_value import OtherPythonError
from cloudknot.worker.wire.failure import (
    EXITED,
    NO_INPUT,
    NOT_LOADED,
    RAISED,
    RESULT_OF,
    UNPICKLABLE,
    UNREADABLE,
    Failure,
    add_note,
    rebuilt,
)
from cloudknot.worker.wire.seal import DamagedError, NewerFormatError, UnusableError

UNUSABLE = {error.__name__ for error in (DamagedError, NewerFormatError, OtherPythonError)}
"""The type names of stored failures whose message is a clause about the data."""
CONTAINER_ENDED = "Essential container in task exited"
# The worker's error for another Python or cloudpickle in the image names cause and fix itself.
OTHER_VERSION = "The function was pickled by "
"""The beginning of an error whose last sentence is its fix."""
BRIEF = 160
"""Characters of a failure in one line, at most."""
E = TypeVar("E", bound=BatchJobFailedError)


@dataclass(frozen=True)
class Place:
    """The place where an element ran, for its error.

    Attributes
    ----------
    index : int
        The element.
    job_id : str
        Batch's id of its job, or of its child job.
    log_url : str
        The address of the job's output; empty if unknown.
    attempt : int
        The attempt of the job, from 1; 0 if unknown.
    knot : str
        The name of the knot.
    show_log : str
        The command that shows the output of the element, in any shell.
    """

    index: int
    job_id: str
    log_url: str = ""
    attempt: int = 0
    knot: str = ""
    show_log: str = ""

    def __str__(self) -> str:
        return f"element {self.index} (job {self.job_id})"

    def log_hint(self) -> str:
        """Return a sentence with the command that shows the output of the element; empty without one."""
        return f"Its output: {self.show_log}." if self.show_log else ""

    def description(self) -> str:
        """Return the place with the attempt, for an exception class that has no attributes for them."""
        attempt = f", in attempt {self.attempt} of its job" if self.attempt else ""
        return f"{self}{attempt}. {self.log_hint()}".rstrip(" .")


class RemoteTraceback(JobTraceback):
    """The traceback in the job, as text: the ``__cause__`` of an exception that an element raised.

    Attributes
    ----------
    text : str
        The traceback.
    index, job_id, attempt, log_url
        The same as in `BatchJobFailedError`, because the user's own exception does not have them.
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


def load_error(place: Place, error: Exception) -> ElementError:
    """Return the error for an element whose stored result raised ``error`` when it was read."""
    return unusable_error(place, error) if isinstance(error, UnusableError) else unpickling_error(place, error)


def unusable_error(place: Place, error: UnusableError) -> ElementError:
    """Return the error for an element whose stored result must not be unpickled."""
    if isinstance(error, NewerFormatError):
        fix = "Upgrade cloudknot: pip install --upgrade cloudknot."
    elif isinstance(error, OtherPythonError):
        fix = f"Read it with Python {error.python}, or return plain data, such as numbers, lists and arrays."
    else:
        fix = "Run the element again: future.retry_failed(), or map its input again if that submits nothing."
    return _error(ElementError, place, f"has a stored result that {error}.", fix)


def unpickling_error(place: Place, error: Exception) -> ElementError:
    """Return the error for an element whose result could not be unpickled in this session, because of ``error``."""
    problem = (
        f"has a result that cannot be unpickled in this session: {type(error).__name__}: {error}. The result stays "
        "stored."
    )
    fix = "Install or import here the modules that its class needs, then ask for the result again."
    return _error(ElementError, place, problem, fix)


def load_exception(failure: Failure, place: Place) -> BaseException:
    """Return the exception for a stored failure: the user's own where it can be rebuilt."""
    place = replace(place, attempt=failure.attempt)
    raised, held = _rebuild(failure) if failure.kind == RAISED and failure.pickled else (None, None)
    if isinstance(raised, Exception):
        # An assignment would fail for an exception that is a frozen dataclass.
        object.__setattr__(raised, "__cause__", RemoteTraceback(failure.traceback, place))
        by = f"{failure.source}, whose result is the input of {place}." if failure.source else place.description()
        add_note(raised, f"Raised by {by}")
        return raised
    if failure.kind == NO_INPUT:
        problem = f"did not run, because its input is the result of {failure.source}, which has no result."
        fix = "Call retry_failed() for that map first, then future.retry_failed()."
        return _error(DependencyFailedError, place, problem, fix)
    problem, fix = _explain(failure, ends_session=raised is not None, held=held)
    if failure.source:
        problem = f"did not run, because its input is the result of {failure.source}, which {problem}"
    error = _error(ElementError, place, problem, fix, failure.exit_code)
    error.__cause__ = RemoteTraceback(failure.traceback, place)
    return error


def brief(failure: Failure) -> str:
    """Return a stored failure in one line: ``"KeyError: 'gone'"``."""
    return one_line(f"{failure.type}: {failure.message}" if failure.message else failure.type)


def brief_ending(end: Ending) -> str:
    """Return the ending of a job that left an element without a result, in one line."""
    return one_line(f"{end.kind.__name__}: {end.problem}".rstrip("."))


def brief_damage(error: UnusableError) -> str:
    """Return the reason why a stored outcome cannot be used, in one line."""
    return one_line(f"{ElementError.__name__}: its stored outcome {error}")


def one_line(text: str) -> str:
    """Return the first line of a text, without its end if it is long."""
    lines = text.strip().splitlines()
    first = lines[0] if lines else ""
    return first if len(first) <= BRIEF else f"{first[: BRIEF - 1]}…"


def _rebuild(failure: Failure) -> tuple[BaseException | None, OtherPythonError | None]:
    """Return the exception that the element raised, or None, and the reason if the reason is another Python."""
    from cloudknot.program import pickling

    is_other, python = by_value.is_other(failure.python), failure.python
    try:
        raised = by_value.loads(failure.pickled, python) if is_other else pickling.loads(failure.pickled)
        return rebuilt(*raised) if isinstance(raised, tuple) else raised, None
    except OtherPythonError as error:
        return None, error
    except Exception:
        return None, None


def _explain(failure: Failure, *, ends_session: bool, held: OtherPythonError | None) -> tuple[str, str]:
    """Return the problem and the fix for a failure that has no exception of its own.

    ``held`` is the reason if the exception holds code of another Python.
    """
    cause = f"{failure.type}: {failure.message}" if failure.message else failure.type
    if ends_session:
        return f"raised {cause}, which would end this session if it were raised here.", "Raise an Exception instead."
    if failure.kind == EXITED:
        call = f"sys.exit({failure.message})"
        return f"called {call} (exit code {failure.exit_code}).", "Return a value or raise an exception instead."
    if failure.kind == UNPICKLABLE:
        return f"has a result that cannot be pickled: {cause}.", "Return plain data, or write it to a file in S3."
    if failure.kind == UNREADABLE:
        return f"did not run, because its input {failure.message}.", _fix_of_input(failure)
    if held is not None:
        return (
            f"raised {cause}. The exception {held}.",
            f"Read it with Python {held.python}, or raise a built-in exception, such as RuntimeError(str(error)).",
        )
    if failure.kind == NOT_LOADED:
        fix = "Find the cause in its traceback and output."
        if failure.type in ("ModuleNotFoundError", "ImportError"):
            fix = "Name the packages that the function needs: Knot(..., requirements=[...])."
        elif failure.type in UNUSABLE:
            problem = f"did not run, because an object of its map, the function or kwargs, {failure.message}."
            return problem, _fix_of_input(failure)
        elif failure.message.startswith(OTHER_VERSION):
            cause, _, fix = f"{cause}.".partition(". ")
        return f"did not run, because its program could not be loaded in the job: {cause}.", fix
    problem = (
        f"raised {cause}. The exception itself cannot be sent back: its class or its arguments cannot be pickled in "
        "the job, or unpickled in this session."
    )
    return problem, "Raise one with plain arguments, such as RuntimeError(str(error))."


def _fix_of_input(failure: Failure) -> str:
    """Return the fix for an input, or keyword arguments, that the job must not unpickle."""
    if failure.type == DamagedError.__name__:
        is_result = failure.source or failure.message.startswith(RESULT_OF)
        first = "Call retry_failed() for that map first, then future.retry_failed()."
        return first if is_result else "Map its input again."
    here = "create the knot again in this session, and map again: Knot(name=..., func=...).map(...)."
    if failure.type == NewerFormatError.__name__:
        return f"To use this cloudknot, {here}"
    return f"Pass plain data, such as numbers, lists and arrays, or {here}"


def _error(kind: type[E], place: Place, problem: str, fix: str, exit_code: int | None = None, reason: str = "") -> E:
    """Return an error that begins with the element and ends with the fix, after the expression for its output."""
    message = " ".join(filter(None, (str(place), problem, place.log_hint(), fix)))
    return kind(
        message[0].upper() + message[1:],
        index=place.index,
        job_id=place.job_id,
        attempt=place.attempt,
        exit_code=exit_code,
        reason=reason,
        log_url=place.log_url,
    )


def given_up_error(place: Place, cause: Exception) -> BatchJobFailedError:
    """Return the error for an element with an outcome that could not be read, because of ``cause``."""
    reason = str(cause).rstrip(".")
    text = (
        f"Element {place.index} (job {place.job_id}) has no result that could be read: {reason}. The job and its "
        "results are kept. Read them with future.job.result(), or in another session with "
        f"cloudknot.Knot(name={place.knot!r}).jobs."
    )
    error = BatchJobFailedError(text, index=place.index, job_id=place.job_id)
    error.__cause__ = cause
    return error


def as_element_error(error: CloudknotError, place: Place) -> BaseException:
    """Return the error for an element whose outcome could not be read, because of ``error``."""
    return error if isinstance(error, BatchJobFailedError) else given_up_error(place, error)


def lost_error(place: Place, end: Ending) -> BatchJobFailedError:
    """Return the error for an element without a stored result, from the ending of its job."""
    # Amazon ECS gives this reason for every container that ended, so it explains nothing to a reader.
    quoted = "; ".join(reason for reason in end.reasons if reason != CONTAINER_ENDED).rstrip(".")
    reason = f'AWS Batch reports: "{quoted}".' if quoted else ""
    if not end.reasons and end.kind is BatchJobFailedError:
        reason = "AWS Batch gave no reason."
    attempts = f"Attempts: {end.attempt}." if end.attempt > 1 else ""
    problem = " ".join(filter(None, (end.problem, reason, attempts)))
    place = replace(place, attempt=end.attempt)
    return _error(end.kind, place, problem, end.fix, end.exit_code, "; ".join(end.reasons))
