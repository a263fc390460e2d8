"""Execute the notebooks of examples/ in a copy of the folder, on an embedded cloud.

``python -m tests.helpers.notebooks examples/notebooks/pi.ipynb`` executes a notebook, and saves it with its outputs.
"""

import ast
import importlib.util
import os
import re
import shutil
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import nbformat
from nbclient import NotebookClient

import cloudknot as ck
from tests.helpers.paths import EXAMPLES, ROOT

NOTEBOOKS = EXAMPLES / "notebooks"
UNUSED = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
KERNEL = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
"""The metadata of every saved notebook. They name no version, so that another Python changes nothing."""
CELL_LIMIT = 600
"""Seconds for one cell. The first map of a cell may install large packages for its jobs."""


def execute(path, directory, variables):
    """Return a notebook of examples/, executed in a copy of the examples in the directory.

    ``variables`` are the environment of its kernel.
    """
    shutil.copytree(EXAMPLES, directory / "examples", ignore=UNUSED)
    notebook = nbformat.read(path, as_version=4)
    folder = directory / "examples" / "notebooks"
    client = NotebookClient(
        notebook,
        timeout=CELL_LIMIT,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    return client.execute(env=variables)


def environment(cloud):
    """Return the variables of a kernel that uses this embedded cloud and this clone of cloudknot."""
    return {
        **os.environ,
        "CLOUDKNOT_CLOUD": "local",
        "CLOUDKNOT_LOCAL_DIR": str(cloud.directory),
        "PYTHONPATH": str(ROOT),
    }


def normalised(notebook):
    """Return the notebook with metadata that are the same after each execution, so that differences stay small."""
    notebook.metadata = nbformat.from_dict({**notebook.metadata, **KERNEL})
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
    return notebook


def joined(outputs):
    """Return the outputs with consecutive pieces of one stream joined. Their number varies from run to run."""
    # nbclient's option for this fails on a cell with a progress bar: it finds the bar by its old position.
    whole = []
    for output in outputs:
        if whole and "name" in output and output.name == whole[-1].get("name"):
            whole[-1].text += output.text
        else:
            whole.append(output)
    return whole


def code_cells(notebook):
    """Return the cells with code."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(cell):
    """Return the texts in the outputs of a cell, without those on stderr and the stages of knots."""
    streams = "".join(output.text for output in cell.outputs if output.get("name") == "stdout")
    shown = [
        output.data.get("text/plain", "") for output in cell.outputs if "data" in output and not is_stages(output)
    ]
    return [streams, *shown]


def is_stages(output):
    """Return whether an output has the stages of a new knot, which appear if they take more than a second."""
    html = output.data.get("text/html", "")
    return output.output_type == "display_data" and html.startswith("<pre") and "━" not in html


def images(notebook):
    """Return the type of each image in the outputs."""
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs if "data" in output]
    return [kind for output in outputs for kind in output.data if kind.startswith("image/")]


def differences(committed, executed):
    """Return a line for each cell with other texts than the committed ones, unless the cell has the tag ``varies``."""
    pairs = zip(code_cells(committed), code_cells(executed), strict=True)
    return [
        f"{old.source!r} gives {texts(new)}, not {texts(old)}"
        for old, new in pairs
        if "varies" not in old.metadata.get("tags", []) and texts(old) != texts(new)
    ]


def missing(notebook):
    """Return the packages, commands and files that a notebook needs and this machine lacks.

    The packages are those that its cells import, and the requirements of the examples that it names as ``../example``.
    The list ``needs`` in its metadata under ``cloudknot`` names commands, and files by an absolute path.
    """
    source = "\n".join(cell.source for cell in code_cells(notebook))
    examples = set(re.findall(r"\.\./(\w+)", source))
    listed = [line for name in examples for line in (EXAMPLES / name / "requirements.txt").read_text().splitlines()]
    requirements = [re.match(r"[\w.-]+", line)[0] for line in listed if line.strip() and not line.startswith("#")]
    own = {file.stem for name in examples for file in (EXAMPLES / name).glob("*.py")}
    needs = notebook.metadata.get("cloudknot", {}).get("needs", [])
    return [
        *(name for name in sorted(imports(source) - own) if importlib.util.find_spec(name) is None),
        *(name for name in sorted(set(requirements) - {"cloudknot"}) if not is_installed(name)),
        *(need for need in needs if not (Path(need).exists() if need.startswith("/") else shutil.which(need))),
    ]


def imports(source):
    """Return the top-level names of the modules that a source imports, without those of the standard library."""
    names = set()
    for node in ast.walk(ast.parse(re.sub(r"^[%!].*", "", source, flags=re.MULTILINE))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module)
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names


def is_installed(distribution):
    """Return whether a distribution of PyPI is installed."""
    try:
        metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def main(paths):
    """Execute notebooks on an embedded cloud of their own, and save them with their outputs."""
    cache = Path.home() / ".cache" / "cloudknot-tests" / "environments"
    os.environ.setdefault("CLOUDKNOT_LOCAL_ENVIRONMENTS", str(cache))
    for path in map(Path, paths):
        with tempfile.TemporaryDirectory() as name, ck.LocalCloud(Path(name) / "cloud") as cloud:
            notebook = execute(path, Path(name), environment(cloud))
        nbformat.write(normalised(notebook), path)
        print(f"{path}: {len(code_cells(notebook))} cells with code, {len(images(notebook))} images")


if __name__ == "__main__":
    main(sys.argv[1:])
