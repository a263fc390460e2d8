"""Every text that the package reads or writes names its encoding: on Windows the default is that of the country."""

import ast

import pytest

from tests.unit.test_architecture import MODULES, tree_of

TEXT_CALLS = {"read_text", "write_text", "fdopen", "open", "NamedTemporaryFile", "TemporaryFile", "TextIOWrapper"}
PROCESSES = {"run", "Popen", "check_output"}


def without_encoding(tree):
    """Yield the calls that open a text in the default encoding of the machine."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        name = node.func.attr if owner is not None else getattr(node.func, "id", "")
        names = {keyword.arg for keyword in node.keywords}
        is_text_process = name in PROCESSES and {"text", "universal_newlines", "errors"} & names
        if (is_text_process or (name in TEXT_CALLS and _is_text(node, name, owner))) and "encoding" not in names:
            yield node.lineno, ast.unparse(node)


def _is_text(node, name, owner):
    if name.endswith("_text") or name == "TextIOWrapper":
        # A distribution's read_text("METADATA") is in UTF-8.
        return not (name == "read_text" and node.args)
    texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
    texts += [
        word.value.value for word in node.keywords if word.arg == "mode" and isinstance(word.value, ast.Constant)
    ]
    modes = [text for text in texts if text and set(text) <= set("rwxabt+")]
    if name == "open" and owner is not None and not modes:
        # Path.open() opens a text. Many other objects have a method of that name, with arguments.
        return not node.args and not node.keywords
    return "b" not in next(iter(modes), "b" if name.endswith("TemporaryFile") else "r")


def test_texts_have_an_encoding():
    found = {module: list(without_encoding(tree_of(path))) for path, module in MODULES.items()}
    assert {module: calls for module, calls in found.items() if calls} == {}


@pytest.mark.parametrize(
    "code",
    [
        *("path.read_text()", "path.write_text(x)", "open(p)", "path.open()", "open(p, 'w')", "os.fdopen(n, 'w')"),
        *("subprocess.run(c, text=True)", "Popen(c, errors='replace')", "NamedTemporaryFile('w')"),
    ],
)
def test_the_rule_finds(code):
    assert list(without_encoding(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        *("path.read_text(encoding='utf-8')", "open(p, 'rb')", "path.open('wb')", "os.open(p, flags)", "run(c)"),
        *("subprocess.run(c, text=True, encoding='utf-8')", "NamedTemporaryFile()", "file.read_text('METADATA')"),
    ],
)
def test_the_rule_accepts(code):
    assert not list(without_encoding(ast.parse(code)))


def test_temporary_folders_may_outlive_a_virus_scanner():
    # On Windows, a file that another program has open cannot be deleted. That must not lose the work done with it.
    client = [path for path, name in MODULES.items() if not name.startswith(("cloudknot.local", "cloudknot.worker"))]
    calls = [
        (MODULES[path], ast.unparse(node))
        for path in client
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("TemporaryDirectory")
    ]
    assert len(calls) > 1
    assert [call for call in calls if "ignore_cleanup_errors=True" not in call[1]] == []
