"""Every notebook of examples/ is saved with its outputs, and gives the same ones when it is executed again.

The tag ``varies`` of a cell exempts its texts from the comparison.
"""

import re

import nbformat
import pytest

from tests.helpers import notebooks

PATHS = sorted(notebooks.NOTEBOOKS.glob("*.ipynb"))
SELECTS_CLOUD = 'os.environ["CLOUDKNOT_CLOUD"] = "local"  # Delete this line to run on AWS.'


def read(path):
    return nbformat.read(path, as_version=4)


def errors(notebook):
    return [
        output for cell in notebooks.code_cells(notebook) for output in cell.outputs if output.output_type == "error"
    ]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_committed_notebook_has_outputs_and_image(path):
    notebook = read(path)
    nbformat.validate(notebook)
    cells = notebooks.code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any(any(notebooks.texts(cell)) for cell in cells)
    assert notebooks.images(notebook) != []
    assert errors(notebook) == []


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_first_code_cell_selects_embedded_cloud_by_one_line(path):
    """So a reader deletes this line to run the notebook on AWS."""
    first, *others = [cell.source for cell in notebooks.code_cells(read(path))]
    assert first.count("\n" + SELECTS_CLOUD) == 1
    assert [source for source in others if "CLOUDKNOT_CLOUD" in source or re.search(r"Cloud\(|cloud=", source)] == []


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_committed_notebook_is_normalised(path):
    """So a new execution changes only outputs."""
    assert nbformat.writes(notebooks.normalised(read(path))) == path.read_text(encoding="utf-8").rstrip("\n")


@pytest.mark.examples
@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_executed_notebook_gives_committed_outputs(path, cloud, tmp_path):
    committed = read(path)
    if missing := notebooks.missing(committed):
        pytest.skip(f"the notebook needs {', '.join(missing)}: not on this machine")
    executed = notebooks.execute(path, tmp_path, notebooks.environment(cloud))
    assert errors(executed) == []
    assert notebooks.differences(committed, notebooks.normalised(executed)) == []
    assert notebooks.images(executed) == notebooks.images(committed)


def cell(source, text, **metadata):
    output = nbformat.v4.new_output("stream", name="stdout", text=text)
    return nbformat.v4.new_code_cell(source, outputs=[output], metadata=metadata)


def test_comparison_finds_cell_with_other_text():
    old, new = (nbformat.v4.new_notebook(cells=[cell("1 + 1", "2"), cell("2 * n", n)]) for n in ("4", "6"))
    assert notebooks.differences(old, old) == []
    assert notebooks.differences(old, new) == ["'2 * n' gives ['6'], not ['4']"]


def test_comparison_ignores_cell_that_varies():
    old, new = (nbformat.v4.new_notebook(cells=[cell("now()", text, tags=["varies"])]) for text in ("1", "2"))
    assert notebooks.differences(old, new) == []


def test_missing_names_packages_commands_and_files():
    notebook = nbformat.v4.new_notebook(cells=[cell("import json, nosuchmodule, sys\nimport pytest", "")])
    notebook.metadata["cloudknot"] = {"needs": ["sh", "/bin/sh", "no-such-command", "/no/such/file"]}
    assert notebooks.missing(notebook) == ["nosuchmodule", "no-such-command", "/no/such/file"]
