"""Every example is a folder with a page, a picture, its requirements and a test, and the index shows it."""

import ast
import re

import pytest

from tests.helpers.notebooks import NOTEBOOKS, imports
from tests.helpers.paths import EXAMPLES, ROOT

SNIPPETS = {"guide", "settings"}
"""Folders with the snippets of the guide. They have no page of their own."""
FOLDERS = sorted(
    path.name for path in EXAMPLES.iterdir() if (path / "README.md").exists() or any(path.glob("[a-z]*.py"))
)
NAMES = [name for name in FOLDERS if name not in SNIPPETS]
INDEX = (EXAMPLES / "README.md").read_text(encoding="utf-8")
PICTURE = re.compile(r"!\[([^\]]+)\]\(([^)]+)\)")
DISTRIBUTIONS = {"PIL": "pillow", "skimage": "scikit-image"}
"""The distributions of modules that have another name."""
LARGEST = 300_000
"""Bytes of a picture."""


def page_of(name):
    return (EXAMPLES / name / "README.md").read_text(encoding="utf-8")


def requirements(name):
    """Return the names of the packages that the file of an example lists."""
    lines = (EXAMPLES / name / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [re.match(r"[\w.-]+", line)[0].lower() for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("name", NAMES)
def test_page_shows_pictures_of_example(name):
    shown = PICTURE.findall(page_of(name))
    assert shown != []
    for _, file in shown:
        assert (EXAMPLES / name / file).stat().st_size < LARGEST
    pictures = {path.name for kind in ("*.png", "*.svg") for path in (EXAMPLES / name).glob(kind)}
    assert pictures == {file for _, file in shown}


@pytest.mark.parametrize("name", NAMES)
def test_page_shows_commands_and_mentions_docker(name):
    scripts = {path.name for path in (EXAMPLES / name).glob("*.py")}
    run = {word for body in re.findall(r"```sh\n(.*?)```", page_of(name), re.DOTALL) for word in body.split()}
    assert scripts & run
    assert "Docker" in page_of(name)


@pytest.mark.parametrize("name", NAMES)
def test_requirements_are_imports_of_third_parties(name):
    folder = EXAMPLES / name
    scripts = list(folder.glob("*.py"))
    own = {path.stem for path in scripts} | {"cloudknot"}
    imported = set().union(*(imports(path.read_text(encoding="utf-8")) for path in scripts))
    assert sorted(requirements(name)) == sorted(DISTRIBUTIONS.get(module, module) for module in imported - own)


@pytest.mark.parametrize("name", NAMES)
def test_example_has_test(name):
    assert (ROOT / "tests" / "integration" / "examples" / f"test_{name}.py").exists()


@pytest.mark.parametrize("name", NAMES)
def test_every_script_has_docstring(name):
    for path in (EXAMPLES / name).glob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path.name


@pytest.mark.parametrize("name", NAMES)
def test_index_links_example_and_shows_its_picture(name):
    assert f"]({name}/)" in INDEX
    assert any(file.startswith(f"{name}/") for _, file in PICTURE.findall(INDEX))


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_index_links_notebook(path):
    assert f"](notebooks/{path.name})" in INDEX


def test_index_links_every_snippet():
    scripts = [path for folder in SNIPPETS for path in (EXAMPLES / folder).glob("*.py")]
    assert [path.name for path in scripts if f"]({path.parent.name}/{path.name})" not in INDEX] == []
