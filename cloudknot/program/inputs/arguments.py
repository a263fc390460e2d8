"""CallCheck: check by its signature that the function takes the arguments of a map, before anything is submitted.

The number of arguments decides, with the names in ``kwargs``. Types are not checked.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence, Sized
from typing import TYPE_CHECKING

from cloudknot.errors import CloudknotInputError, refuse
from cloudknot.options import streams

if TYPE_CHECKING:
    from cloudknot.program.program import Program

LONGEST_DEFAULT = 20
"""Characters of a default value in a message. A longer one is shown as ``...``."""
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_FOR_ELEMENT = (*_POSITIONAL, inspect.Parameter.VAR_POSITIONAL)
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
ANY = inspect.signature(lambda *args, **kwargs: None)
"""A signature that takes all arguments."""


class CallCheck:
    """The calls of one map.

    Parameters
    ----------
    program : Program or None
        None if another session created the knot: its function is unknown here, and nothing is checked.
    kwargs : mapping
        The keyword arguments of all calls.
    starmap : bool
        Whether each element is a sequence of arguments.
    """

    def __init__(self, program: Program | None, kwargs: Mapping[str, object], starmap: bool) -> None:
        self._kwargs, self._starmap = kwargs, starmap
        self._name = program.name if program else ""
        self._is_script = bool(program and program.script)
        # A signature that takes anything stands for an unknown one.
        self._signature = (program and program.call_signature) or ANY
        self._inside = (program and program.signature) or ANY
        self._fitting: set[int] = set()

    def check_kwargs(self) -> None:
        """Check that the function takes the keyword arguments.

        Raises
        ------
        CloudknotInputError
            The function does not take one of them, or the knot runs a script.
        """
        if not self._kwargs:
            return
        if self._is_script:
            refuse(
                problem="kwargs is not available, because this knot runs a script.",
                fix="Put the values into the elements.",
            )
        # Without a parameter for the element, `check_single` names the fault.
        takes_element = any(p.kind in _FOR_ELEMENT for p in self._signature.parameters.values())
        element = (None,) if takes_element and not self._starmap else ()
        try:
            self._signature.bind_partial(*element, **self._kwargs)
        except TypeError as error:
            raise CloudknotInputError(
                f"kwargs do not fit {self._shown()}: {error}. Nothing was submitted. Correct the name of this "
                "argument, or remove it."
            ) from None

    def check_first(self, element: object) -> None:
        """Check the first element, before anything is stored. Without starmap it stands for all of them.

        Raises
        ------
        CloudknotInputError
            The function cannot be called with it.
        """
        if not self._starmap:
            self.check_single(element)
        elif isinstance(element, Sized):
            # An iterator has no length. Its arguments are counted when the element is pickled.
            self.check_number(0, len(element))

    def check_result(self) -> None:
        """Check that the function can be called with one result of another map.

        Raises
        ------
        CloudknotInputError
            The function cannot be called with it.
        """
        # With starmap, nobody knows yet how many arguments a result has.
        if not self._starmap:
            self.check_single()

    def check_single(self, element: object = None) -> None:
        """Check that the function can be called with one argument. ``element`` is an example for the message.

        Raises
        ------
        CloudknotInputError
            The function cannot be called with it.
        """
        error = self._error(self._signature, 1)
        if error is not None:
            raise CloudknotInputError(
                f"{self._shown()} cannot be called with one element: {error}. map passes each element as one "
                f"argument. Nothing was submitted. {self._fix_of_single(element)}"
            ) from None
        self._warn_of_decorated(1)

    def check_number(self, index: int, number: int) -> None:
        """Check that the function can be called with the ``number`` arguments of the element ``index``.

        Raises
        ------
        CloudknotInputError
            The function cannot be called with them.
        """
        # The number alone decides, so a million elements of one length cost one look at the signature.
        if number in self._fitting:
            return
        error = self._error(self._signature, number)
        if error is not None:
            raise CloudknotInputError(
                f"Element {index} of the input has {_arguments(number)}, and {self._shown()} cannot be called with "
                f"{'it' if number == 1 else 'them'}: {error}. Nothing was submitted. {self._fix_of_number()}"
            ) from None
        if not self._fitting:
            self._warn_of_decorated(number)
        self._fitting.add(number)

    def _error(self, signature: inspect.Signature, number: int, names: Sequence[str] = ()) -> TypeError | None:
        """Return the error of a call with some arguments, with ``kwargs`` and further names; None if it fits."""
        try:
            signature.bind(*[None] * number, **{**self._kwargs, **dict.fromkeys(names)})
        except TypeError as error:
            return error
        return None

    def _warn_of_decorated(self, number: int) -> None:
        """Warn if the function inside a decorator does not take the arguments that its decorator takes."""
        # Most decorators pass their arguments on. Some add one or change them, so this is no error.
        error = self._error(self._inside, number)
        if error is not None:
            streams.logger.warning(
                "The calls of this map may fail: %s%s is decorated, and does not take their arguments: %s. If the "
                "decorator passes them on unchanged, end the map with future.cancel() and correct them.",
                *(self._name, shown(self._inside), error),
            )

    def _fix_of_single(self, element: object) -> str:
        """Return the fix for a function that cannot be called with one argument."""
        if isinstance(element, tuple | list) and self._error(self._signature, len(element)) is None:
            kind = type(element).__name__
            return f"If each element is a {kind} of arguments, pass starmap=True: map(elements, starmap=True)."
        parameters = [p for p in self._signature.parameters.values() if p.default is p.empty]
        missing = [p.name for p in parameters if p.kind in _NAMED and p.name not in self._kwargs]
        if parameters and parameters[0].kind in _FOR_ELEMENT:
            missing = missing[parameters[0].kind in _NAMED :]
        by_name = missing and self._error(self._signature, 1, missing) is None
        numbers = self._numbers()
        fixes = [f"tuples of {numbers} with starmap=True"] if numbers else []
        if by_name:
            fixes.append("a value for all calls, kwargs={" + ", ".join(f"{name!r}: ..." for name in missing) + "}")
        if not fixes:
            return "Define it with one parameter for the element, such as def run(element)."
        return f"Pass {', or '.join(fixes)}."

    def _fix_of_number(self) -> str:
        """Return the fix for an element with a wrong number of arguments."""
        numbers = self._numbers()
        fix = f"Pass tuples of {numbers}" if numbers else "Pass its other arguments as kwargs={...}"
        if self._error(self._signature, 1) is None:
            return f"{fix}, or leave out starmap=True to pass each element as one argument."
        return f"{fix}."

    def _numbers(self) -> str:
        """Return the numbers of positional arguments that fit, such as ``"1 to 3 arguments"``; empty if none do."""
        kinds = [parameter.kind for parameter in self._signature.parameters.values()]
        most = sum(kind in _POSITIONAL for kind in kinds)
        # Nobody means a tuple without an argument.
        fitting = [number for number in range(1, most + 1) if self._error(self._signature, number) is None]
        if not fitting:
            return ""
        if inspect.Parameter.VAR_POSITIONAL in kinds:
            return f"{_arguments(fitting[0])} or more"
        return _arguments(fitting[0]) if len(fitting) == 1 else f"{fitting[0]} to {_arguments(fitting[-1])}"

    def _shown(self) -> str:
        return f"{self._name}{shown(self._signature)}"


def shown(signature: inspect.Signature) -> str:
    """Return a signature for a message: ``(x, y=2)``, without annotations and long defaults."""
    plain = [
        parameter.replace(
            annotation=parameter.empty,
            default=parameter.empty if parameter.default is parameter.empty else _Default(parameter.default),
        )
        for parameter in signature.parameters.values()
    ]
    return str(inspect.Signature(plain))


class _Default:
    """A default value that is short in a message. A user's own ``__repr__`` may be long, or raise."""

    def __init__(self, value: object) -> None:
        try:
            self._text = repr(value)
        except Exception:
            self._text = "..."

    def __repr__(self) -> str:
        return self._text if len(self._text) <= LONGEST_DEFAULT else "..."


def _arguments(number: int) -> str:
    return "1 argument" if number == 1 else f"{number} arguments"
