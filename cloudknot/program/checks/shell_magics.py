"""Find the lines of a notebook's shell in a function: ``!echo hi`` and ``%time``. A job has no such shell."""

from __future__ import annotations

import dis
from collections.abc import Iterator
from types import CodeType, FunctionType

from cloudknot.program import imports

SHELL = "get_ipython"
"""The function that IPython's shell puts in place of its own syntax, and into the variables of a notebook."""
_FORMS = {"system": "!{}", "getoutput": "!{}", "run_line_magic": "%{} {}", "run_cell_magic": "%%{} {}"}
"""The syntax for each method of the shell."""


def shell_line(func: object) -> tuple[str, str]:
    """Return the name of a function that uses the shell, and the line: ``("func", "!echo hi")``.

    The function may be another one that ``func`` calls. Both are empty if no function uses the shell. The line is
    ``get_ipython()`` where the function calls that itself.
    """
    for function in _functions(func):
        if SHELL not in function.__globals__:
            continue
        for code in imports.nested_codes(function.__code__):
            if SHELL in code.co_names:
                return function.__name__, _line(code)
    return "", ""


def _functions(func: object) -> Iterator[FunctionType]:
    """Yield the functions inside a callable, and those that they name."""
    waiting, seen = [func], set()
    while waiting:
        part = waiting.pop()
        if id(part) in seen or not callable(part):
            continue
        seen.add(id(part))
        # Methods, partials and decorated functions hold the function.
        waiting += [getattr(part, name, None) for name in ("__func__", "func", "__wrapped__")]
        if isinstance(part, FunctionType):
            yield part
            names = {name for code in imports.nested_codes(part.__code__) for name in code.co_names}
            waiting += [part.__globals__[name] for name in sorted(names & part.__globals__.keys())]
            waiting += [cell.cell_contents for cell in part.__closure__ or () if _is_full(cell)]
        elif isinstance(part, type):
            waiting += vars(part).values()


def _is_full(cell: object) -> bool:
    try:
        cell.cell_contents  # type: ignore[attr-defined]  # noqa: B018
    except ValueError:
        return False
    return True


def _line(code: CodeType) -> str:
    """Return the first use of the shell in a code object, in the notebook's syntax."""
    steps = list(dis.get_instructions(code))
    for index, step in enumerate(steps):
        if step.argval in _FORMS and step.opname.startswith("LOAD_"):
            form = _FORMS[step.argval]
            texts = [str(later.argval) for later in steps[index + 1 :] if later.opname == "LOAD_CONST"]
            count = form.count("{}")
            return form.format(*(texts + [""] * count)[:count]).partition("\n")[0].strip()
    return f"{SHELL}()"


def without_shell(line: str) -> str:
    """Return the fix for a line of the shell."""
    if line.startswith("!"):
        # The shell replaces {x} by the value of x.
        text = f"{'f' if '{' in line else ''}{line[1:]!r}"
        return f"Use subprocess.run({text}, shell=True, check=True) in the function."
    return "Remove this line from the function, and run it in a cell of its own."
