"""The surface of the public classes: misspelt keywords are refused with near matches, and errors are short.

An error of cloudknot says problem, cause and fix. Its lines inside cloudknot help nobody but its developers, who set
``CLOUDKNOT_TRACEBACK=1``. Nor do they for an exception of the user's function, whose cause is the traceback in the
job. All other exceptions keep all lines.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, cast

from cloudknot.errors import CloudknotError, JobTraceback, UnknownArgumentError
from cloudknot.options.validators import near_matches

C = TypeVar("C", bound=type)
F = TypeVar("F", bound=Callable[..., Any])

VARIABLE = "CLOUDKNOT_TRACEBACK"
_LIBRARIES = (str(Path(__file__).parents[1]), str(Path(inspect.__file__).parent))
"""The folders of cloudknot and of the standard library."""
_parameters: dict[str, list[str]] = {}
"""The names of public functions by each of their parameters."""


def public(cls: C) -> C:
    """Return the class with its constructor, public methods and properties as `public_function` makes them."""
    for name, value in list(vars(cls).items()):
        if name.startswith("_") and name != "__init__":
            continue
        if inspect.isfunction(value):
            setattr(cls, name, public_function(value))
        elif type(value) is property and value.fget is not None:
            setattr(cls, name, property(public_function(value.fget), value.fset, value.fdel, value.__doc__))
    return cls


def public_function(function: F) -> F:
    """Return a function that refuses unknown keywords with near matches, and whose errors are short."""
    code, name = function.__code__, function.__qualname__.removesuffix(".__init__")
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    for parameter in names:
        _parameters.setdefault(parameter, []).append(name)
    takes_any = bool(code.co_flags & inspect.CO_VARKEYWORDS)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not takes_any and not kwargs.keys() <= set(names):
            _refuse_keyword(next(key for key in kwargs if key not in names), name, names)
        try:
            return function(*args, **kwargs)
        except CloudknotError as error:
            if os.environ.get(VARIABLE):
                raise
            raise _shortened(error)  # noqa: B904 - the same error
        except Exception as error:
            if os.environ.get(VARIABLE) or not isinstance(error.__cause__, JobTraceback):
                raise
            # A notebook shows ten lines of code for each function of cloudknot that the error passes.
            raise error.with_traceback(None)  # noqa: B904 - the same error

    return cast("F", call)


def _refuse_keyword(keyword: str, function: str, names: tuple[str, ...]) -> None:
    near = near_matches(keyword, (name for name in names if name != "self"))
    # Knot(chunksize=...) is a parameter of Knot.map.
    family = function.partition(".")[0]
    others = [other for other in _parameters.get(keyword, ()) if other.partition(".")[0] == family]
    if near:
        fix = f"Near matches: {', '.join(near)}. Pass {near[0]}= in its place, or see help(cloudknot.{function})."
    elif others:
        fix = f"It is a parameter of {others[0]}. Pass it there."
    else:
        fix = f"Remove it. The parameters are in help(cloudknot.{function})."
    raise UnknownArgumentError(f"{function} has no parameter {keyword!r}. {fix}")


def _shortened(error: CloudknotError) -> CloudknotError:
    """Return the error without the lines of cloudknot and of libraries, its own and those of its causes.

    A cause keeps its lines if one of them is the user's, for example in a method ``__reduce__``. Any other cause shows
    only its message, and nothing before it. An error that no code named as a cause is not shown, unless it is one of
    cloudknot or the user's.
    """
    shown: BaseException | None = error
    # A user's code can make a ring of causes, and so can `raise error from error`.
    seen: set[int] = set()
    while shown is not None and id(shown) not in seen:
        seen.add(id(shown))
        if shown is not error and _passes_user(shown.__traceback__):
            break
        shown.__traceback__ = None
        if not isinstance(shown, CloudknotError):
            shown.__cause__, shown.__suppress_context__ = None, True
        elif _is_internal(shown.__context__):
            shown.__suppress_context__ = True
        shown = shown.__cause__ or (None if shown.__suppress_context__ else shown.__context__)
    return error


def _is_internal(context: BaseException | None) -> bool:
    """Return whether an error that was being handled is of no use to a user: it arose inside cloudknot."""
    return (
        isinstance(context, Exception)
        and not isinstance(context, CloudknotError)
        and not _passes_user(context.__traceback__)
    )


def _passes_user(traceback: TracebackType | None) -> bool:
    """Return whether a traceback has a line outside cloudknot, installed packages and the standard library."""
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if not file.startswith((*_LIBRARIES, "<frozen ")) and "site-packages" not in file:
            return True
        traceback = traceback.tb_next
    return False
