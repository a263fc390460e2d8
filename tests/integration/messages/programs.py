"""Functions, scripts and requirements that cannot be sent to a job."""

from __future__ import annotations

import importlib
import random
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cloudknot.program.checks.changed_modules import warn_of_later_changes
from cloudknot.program.inputs.random_state import SharedGenerators, warn_of_shared
from cloudknot.program.program import make_program
from cloudknot.program.script import make_script
from tests.helpers.functions import square
from tests.integration.messages.catalogue import Area, World

AREA = Area("program")

AREA.refuses(
    lambda requirements: make_program(square, requirements),
    {"requirements": "no-such-file.txt"},
    {"requirements": [3]},
    {"requirements": ["numpy=="]},
    {"requirements": Path("no-such-file.txt")},
)


@AREA.case
def text_in_place_of_function(world: World) -> object:
    return make_program("square")  # type: ignore[arg-type]


@AREA.case
def async_function(world: World) -> object:
    async def wait() -> None: ...

    return make_program(wait)


@AREA.case
def async_generator_function(world: World) -> object:
    async def count() -> AsyncIterator[int]:
        yield 1

    return make_program(count)


@AREA.case
def generator_function(world: World) -> object:
    def count() -> Iterator[int]:
        yield 1

    return make_program(count)


@AREA.case
def function_with_connection(world: World) -> object:
    connection = sqlite3.connect(":memory:")
    return make_program(lambda x: (connection, x))


def _notebook_cell(line: str) -> Callable[..., object]:
    """Return a function of a notebook, after IPython has translated a line of its shell."""
    shell = SimpleNamespace(history=sqlite3.connect(":memory:"), system=print, run_line_magic=print)
    variables: dict[str, Any] = {"get_ipython": lambda: shell}
    exec(f"def steps(x):\n    {line}\n    return x", variables)
    steps: Callable[..., object] = variables["steps"]
    return steps


AREA.refuses(
    lambda line: make_program(_notebook_cell(line)),
    {"line": "get_ipython().system('echo hi')"},
    {"line": "get_ipython().run_line_magic('time', 'run(x)')"},
    {"line": "print(get_ipython())"},
)


@AREA.case
def function_with_generator_of_random_numbers(world: World) -> object:
    generator = random.Random(1)
    return make_program(lambda x: generator.random() + x)


@AREA.case
def generator_of_random_numbers_for_all_elements(world: World) -> None:
    warn_of_shared({"generator": random.Random(1)})


@AREA.case
def generator_in_two_elements(world: World) -> None:
    generator, shared = random.Random(1), SharedGenerators()
    shared.check(0, (1, generator))
    shared.check(1, (2, generator))


@AREA.case
def import_of_missing_package(world: World) -> object:
    def use() -> None:
        import no_such_tool  # type: ignore[import-not-found]  # noqa: F401

    return make_program(use)


@AREA.case
def import_that_image_may_have(world: World) -> None:
    def use() -> None:
        import no_such_tool  # noqa: F401

    make_program(use, image_has_more=True)


@AREA.case
def import_known_only_to_pipreqs(world: World) -> None:
    def use() -> None:
        import bs4  # type: ignore[import-not-found]  # noqa: F401

    make_program(use)


def _module(world: World, name: str, content: str) -> object:
    world.patch.syspath_prepend(str(world.path))
    world.path.joinpath(name).write_text(content)
    importlib.invalidate_caches()
    return importlib.import_module(name.partition(".")[0])


@AREA.case
def compiled_local_module(world: World) -> object:
    import py_compile

    source = world.path / "compiled_tool.py"
    source.write_text("def work(x):\n    return x\n")
    py_compile.compile(str(source), cfile=str(world.path / "compiled_tool.pyc"))
    source.unlink()
    world.patch.syspath_prepend(str(world.path))
    importlib.invalidate_caches()
    tool = importlib.import_module("compiled_tool")
    return make_program(lambda x: tool.work(x))


@AREA.case
def changed_value_that_cannot_travel(world: World) -> None:
    tool = _module(world, "changed_tool.py", "LEVEL = 1\n\ndef work(x):\n    return x\n")
    tool.LEVEL = sqlite3.connect(":memory:")  # type: ignore[attr-defined]
    make_program(lambda x: tool.work(x))  # type: ignore[attr-defined]


@AREA.case
def value_that_changes_after_knot(world: World) -> None:
    tool = _module(world, "later_tool.py", "LEVEL = 1\n\ndef work(x):\n    return x\n")
    program = make_program(lambda x: tool.work(x))  # type: ignore[attr-defined]
    tool.LEVEL = 2  # type: ignore[attr-defined]
    assert program.state
    warn_of_later_changes(program.state, "pi-calc")


@AREA.case
def module_whose_file_has_changed(world: World) -> None:
    tool = _module(world, "edited_tool.py", "def work(x):\n    return x\n")
    world.path.joinpath("edited_tool.py").write_text("def work(x):\n    return 2 * x\n")
    make_program(lambda x: tool.work(x))  # type: ignore[attr-defined]


@AREA.case
def deleted_local_module(world: World) -> object:
    tool = _module(world, "gone_tool.py", "def work(x):\n    return x\n")
    world.path.joinpath("gone_tool.py").unlink()
    world.path.joinpath("gone_tool.py").mkdir()
    try:
        return make_program(lambda x: tool.work(x))  # type: ignore[attr-defined]
    finally:
        sys.modules.pop("gone_tool")


@AREA.case
def missing_script(world: World) -> object:
    return make_script(world.path / "no-such-script.py")


@AREA.case
def script_without_interpreter(world: World) -> object:
    script = world.path / "run"
    script.write_text("echo hello")
    return make_script(script)


@AREA.case
def script_with_syntax_error(world: World) -> object:
    script = world.path / "run.py"
    script.write_text("def (:")
    return make_script(script)
