"""The function of a run: the image's or the run's own, with the keyword arguments that all elements share."""

from __future__ import annotations

from functools import partial
from typing import cast

from .program import Function, load_function, load_travelled
from .stored_run import StoredRun


def function_of(run: StoredRun) -> Function:
    """Load the function. Raises whatever its imports, or the unpickling of its arguments, raise.

    Keyword arguments are read once by each child, and unpickled as they come.
    """
    function = load_travelled(run.read(run.keys.function)) if run.manifest.own_function else load_function()
    if not run.manifest.kwargs:
        return function
    keywords = run.load(run.manifest.kwargs, 0, run.manifest.kwargs_size)
    return partial(function, **cast("dict[str, object]", keywords))
