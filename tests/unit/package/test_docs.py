"""The pages agree with the code: snippets are parts of examples, and commands, settings, names and links exist."""

import inspect
import re
import shlex
import textwrap
from configparser import ConfigParser
from pathlib import Path

import click
import pytest

import cloudknot as ck
from cloudknot.aws.images.codebuild import CONTEXTS
from cloudknot.cli.main import main
from cloudknot.options import config, variables
from cloudknot.worker.__main__ import _parser as worker_parser
from cloudknot.worker.wire.keys import RUNS
from tests.helpers.paths import ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]
EXAMPLES = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "examples").rglob("*.py")}
SOURCE = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "cloudknot").rglob("*.py"))
GLOSSARY = ROOT / "docs" / "glossary.md"
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
SETUP = (ROOT / "setup.py").read_text(encoding="utf-8")

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LANGUAGES = {"python", "sh", "ini", "json", "text", "yaml"}
PLAIN_COMMANDS = {".", "apt", "cd", "export", "git", "jupyter"}
INDENTS = ("", " " * 4, " " * 8)


def name_of(page):
    """Return the path of a page in the repository. Examples have pages of the same name."""
    return page.relative_to(ROOT).as_posix()


def text_of(page):
    return page.read_text(encoding="utf-8")


def prose_of(page):
    return FENCE.sub("", text_of(page))


def snippets(language):
    """Yield every snippet of a language, as a parameter."""
    for page in PAGES:
        for number, (fence_language, body) in enumerate(FENCE.findall(text_of(page)), 1):
            if fence_language == language:
                yield pytest.param(body, id=f"{name_of(page)}-{number}")


def shell_commands():
    """Yield every command of the shell snippets, and every command that the prose names, as parameters."""
    for page in PAGES:
        for language, body in FENCE.findall(text_of(page)):
            if language == "sh":
                yield from (
                    pytest.param(line, id=f"{name_of(page)}: {line}") for line in body.splitlines() if line.strip()
                )
        for line in re.findall(r"`((?:make|cloudknot|pip) [^`]+)`", prose_of(page)):
            yield pytest.param(line, id=f"{name_of(page)}: {line}")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_code_fence_names_its_language(page):
    fences = re.findall(r"^```(.*)$", text_of(page), re.MULTILINE)
    assert len(fences) % 2 == 0
    assert set(fences[::2]) <= LANGUAGES
    assert set(fences[1::2]) <= {""}


@pytest.mark.parametrize("snippet", list(snippets("python")))
def test_python_snippet_is_part_of_example(snippet):
    pieces = [textwrap.indent(snippet, indent) for indent in INDENTS]
    assert any(f"\n{piece}" in f"\n{example}" for piece in pieces for example in EXAMPLES.values())


@pytest.mark.parametrize("line", list(shell_commands()))
def test_shell_command_exists(line):
    inner = re.fullmatch(r'eval "\$\((.*)\)"', line)
    check_command(shlex.split(inner[1] if inner else line, comments=True))


def check_command(words):
    """Assert that a command exists, with its targets, options or files."""
    while words and re.match(r"\w+=", words[0]):
        check_variable(words.pop(0))
    if not words:
        return
    program, *arguments = words
    if program == "make":
        assert all(re.search(rf"^{target}:", MAKEFILE, re.MULTILINE) for target in arguments if "=" not in target)
    elif program == "cloudknot":
        check_subcommand(main, arguments)
    elif program == "pip":
        assert arguments[0] == "install"
        lists = re.findall(r"\[([\w,]+)\]", " ".join(arguments))
        assert all(f'"{extra}": ' in SETUP for extras in lists for extra in extras.split(","))
    elif program.endswith(("python", "python3")):
        check_script(arguments)
    else:
        assert program in PLAIN_COMMANDS
        [check_variable(word) for word in arguments if program == "export"]


def check_variable(assignment):
    """Assert that the code reads a variable, if it is one of cloudknot's."""
    name = assignment.partition("=")[0]
    assert not name.startswith("CLOUDKNOT_") or f'"{name}"' in SOURCE


def check_subcommand(command, arguments):
    """Assert that a `cloudknot` command accepts these arguments."""
    words, parent = list(arguments), click.Context(command, **command.context_settings)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        command = command.get_command(parent, name)
        assert command is not None, f"there is no command {name}"
    # With the parent of a real call: a command keeps the names of its help option from its first context.
    with command.make_context("cloudknot", list(words), parent, resilient_parsing=True) as context:
        assert not context.args
    options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    assert {word for word in words if word.startswith("--")} <= options


def check_script(arguments):
    """Assert that the arguments of Python are an example, a worker's command line, or a module of this repository."""
    if arguments[:2] == ["-m", "cloudknot_worker"]:
        assert worker_parser().parse_args(arguments[2:]).run.startswith("s3://")
    elif arguments[0] == "-m" and arguments[1] != "venv":
        assert (ROOT / arguments[1].replace(".", "/")).with_suffix(".py").exists()
        assert all((ROOT / word).exists() for word in arguments[2:] if "/" in word)
    elif arguments[0] != "-m":
        assert Path(arguments[0]).name in EXAMPLES


@pytest.mark.parametrize("snippet", list(snippets("ini")))
def test_config_snippet_has_only_settings_that_code_reads(snippet):
    parser = ConfigParser()
    parser.read_string(snippet)
    assert parser.sections() == [config.SECTION]
    assert [key for key in parser[config.SECTION] if f'"{key}"' not in SOURCE] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_of_page_lead_to_existing_files_and_headings(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(file), f"{page.name} links to {target}"


def anchors(page):
    """Return the anchors that GitHub makes of the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def names_in_tables(page):
    """Return the code words in the first cells of all tables of a page."""
    cells = re.findall(r"^\|([^|]*)\|", text_of(page), re.MULTILINE)
    return {word for cell in cells for word in re.findall(r"`(\w+)`", cell)}


@pytest.mark.parametrize("function", [ck.Knot, ck.Knot.map])
def test_guide_lists_every_parameter(function):
    assert set(inspect.signature(function).parameters) - {"self"} <= names_in_tables(ROOT / "docs" / "guide.md")


def test_guide_mentions_every_public_name():
    guide = text_of(ROOT / "docs" / "guide.md")
    assert [name for name in ck.__all__ if not re.search(rf"\b{name}\b", guide)] == []


def test_guide_lists_every_environment_variable():
    assert {*variables.OF_SETTINGS.values(), *variables.OTHERS} <= names_in_tables(ROOT / "docs" / "guide.md")


def test_source_names_only_variables_that_are_not_refused():
    known = {*variables.OF_SETTINGS.values(), *variables.OTHERS, *variables.OF_JOBS, *variables.OF_AWS}
    prefixes = {variables.PREFIX, *variables.OF_TESTS}
    assert set(re.findall(r"\bCLOUDKNOT_\w+", SOURCE)) - known - prefixes == set()


def test_readme_shows_make_demo_and_make_test_first():
    commands = [
        line
        for body in re.findall(r"^```sh\n(.*?)^```$", text_of(PAGES[0]), re.M | re.S)
        for line in body.splitlines()
    ]
    assert [command.split("#")[0].strip() for command in commands[:2]] == ["make demo", "make test"]


def test_readme_has_at_most_150_lines():
    assert len(text_of(PAGES[0]).splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_page_names_only_actual_s3_prefixes(page):
    """Administrators write IAM policies from these pages, so a wrong prefix would lock people out."""
    assert set(re.findall(r"cloudknot\.[a-z_.]+/", page.read_text())) <= {f"{RUNS}/", f"{CONTEXTS}/"}


def terms():
    """Return the terms of the glossary, in its order."""
    return re.findall(r"^\*\*(.+?)\*\*", text_of(GLOSSARY), re.MULTILINE)


def test_glossary_lists_each_term_once_in_alphabetical_order():
    names = [term.lower() for term in terms()]
    assert len(names) > 30
    assert names == sorted(set(names))


@pytest.mark.parametrize("term", terms())
def test_code_or_another_page_uses_term_of_glossary(term):
    texts = [SOURCE, *(text_of(page) for page in PAGES if page != GLOSSARY)]
    words = r"\s+".join(map(re.escape, term.split()))
    assert any(re.search(rf"\b{words}s?\b", text, re.IGNORECASE) for text in texts)
