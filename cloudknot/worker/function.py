"""Load the function of a run: the image's or the run's own, with the keyword arguments of all elements."""

from __future__ import annotations

from functools import partial
from typing import cast

from .program.load import Function, load_function, load_travelled
from .stored_run import StoredRun
from .wire.manifest import KEYWORD_SEED


def function_of(run: StoredRun) -> Function:
    """Load the function of a run.

    Raises any exception that its imports, or the unpickling of its keyword arguments, raise. Raises `UnusableError` if
    the function or the arguments are damaged, or do not suit this image.
    """
    run.manifest.check_version()
    function = load_travelled(run.read_function()) if run.manifest.own_function else load_function()
    if not run.manifest.kwargs:
        return function
    # Once for each child, and unpickled while they arrive, because they may be large.
    keywords = run.load(run.manifest.kwargs, 0, run.manifest.kwargs_size, KEYWORD_SEED)
    return partial(function, **cast("dict[str, object]", keywords))
