"""The first snippet of the README runs as it is pasted, in each place where people paste it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import cloudknot as ck
from tests.helpers.notebooks import environment
from tests.helpers.paths import ROOT

SNIPPET = re.search(r"## A first map.*?```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]  # type: ignore[index]
PRINTED = "pi is about 3.142348"
WAYS = {
    "script": ([sys.executable, "quickstart.py"], ""),
    "command": ([sys.executable, "-c", SNIPPET], ""),
    "standard input": ([sys.executable, "-"], SNIPPET),
    # A person who pastes presses Enter at the end.
    "interactive": ([sys.executable, "-i", "-q"], f"{SNIPPET}\n"),
}


@pytest.mark.parametrize("way", WAYS)
def test_first_snippet_runs_as_pasted(cloud: ck.LocalCloud, tmp_path: Path, way: str) -> None:
    command, pasted = WAYS[way]
    if way == "script":
        (tmp_path / "quickstart.py").write_text(SNIPPET)
    environment = {**os.environ, "CLOUDKNOT_LOCAL_DIR": str(cloud.directory)}
    done = subprocess.run(
        command, input=pasted, capture_output=True, text=True, timeout=400, cwd=tmp_path, env=environment
    )
    assert PRINTED in done.stdout, done.stderr
    assert "Traceback" not in done.stderr


def test_first_snippet_runs_in_notebook_cell(cloud: ck.LocalCloud, tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SNIPPET)])
    client = NotebookClient(notebook, timeout=400, resources={"metadata": {"path": str(tmp_path)}})
    executed = client.execute(env=environment(cloud))
    printed = [output.text for output in executed.cells[0].outputs if output.get("name") == "stdout"]
    assert PRINTED in "".join(printed)
