"""A notebook maps functions from its cells, and each cell shows its progress bars. The kernel is real."""

import json
import textwrap

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

CELLS = [
    """
    import cloudknot as ck
    import math

    class Point:
        def __init__(self, x):
            self.x = x

    def root(point):
        return Point(math.sqrt(point.x))
    """,
    """
    knot = ck.Knot(name="notebook", func=root)
    points = knot.map([Point(4), Point(9)]).result(60)
    print([(type(p) is Point, p.x) for p in points])
    """,
    """
    def root(point):
        return -math.sqrt(point.x)

    print(ck.Knot(name="notebook", func=root).map([Point(4)]).result(60))
    """,
    """
    futures = [knot.map([Point(n)]) for n in range(5)]
    for number in range(50):
        print("line", number)
    print([future.result(60)[0].x ** 2 for future in futures])
    """,
    """
    import time

    def held(number):
        time.sleep(0.3)
        return number

    knot = ck.Knot(name="notebook-3", func=held)
    early, late = knot.map(range(9), chunksize=3), knot.map(range(4))
    """,
    """
    print(early.result(60), late.result(60), knot.map([7], progress=False).result(60))
    """,
    """
    def fail(x):
        raise KeyError(x)

    try:
        ck.Knot(name="notebook-2", func=fail).map(["gone"]).result(60)
    except KeyError as error:
        print(type(error).__name__, error.__notes__[0][:19], "in fail" in str(error.__cause__))
    """,
]


END_CELLS = [
    """
    import pathlib
    import time
    import cloudknot as ck

    def follow(gate):
        while not pathlib.Path(gate).exists():
            time.sleep(0.02)
        return gate

    knot = ck.Knot(name="notebook-4", func=follow)
    """,
    """
    print("before")
    future = knot.map(["never", "/", "never"])
    print("after")
    future[1].result(60)
    future.cancel()
    """,
    """
    print([element.result(60) for element in knot.map(["/"] * 3)])
    """,
]


class Frontend(nbclient.NotebookClient):
    """A client that runs a notebook and counts the updates of outputs that a browser would receive."""

    updates = 0

    def process_message(self, msg, cell, cell_index):
        self.updates += msg["msg_type"] == "update_display_data"
        return super().process_message(msg, cell, cell_index)


@pytest.fixture
def run(cloud, tmp_path, monkeypatch):
    """Return a function that runs cells in a kernel. It returns the cells as saved, and the number of updates."""
    monkeypatch.setenv("CLOUDKNOT_CLOUD", "local")
    monkeypatch.setenv("CLOUDKNOT_LOCAL_DIR", str(cloud.directory))

    def execute(sources):
        notebook = nbformat.v4.new_notebook()
        notebook.cells = [nbformat.v4.new_code_cell(textwrap.dedent(source).strip()) for source in sources]
        client = Frontend(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}})
        return json.loads(json.dumps(client.execute()))["cells"], client.updates

    return execute


def text_of(cell):
    """Return the cell's output on stdout."""
    return "".join(output["text"] for output in cell["outputs"] if output.get("name") == "stdout")


def bars_of(cell):
    """Return the texts of the cell's progress bars, and check that the HTML of each shows the same text."""
    shown = [output["data"] for output in cell["outputs"] if output["output_type"] == "display_data"]
    # On a slow machine, the stages of a knot are shown, too.
    bars = [data for data in shown if "━" in data["text/html"]]
    for bar in bars:
        name, text = bar["text/plain"].splitlines()[0].split(": ", 1)
        assert name in bar["text/html"]
        assert text in bar["text/html"]
    return [bar["text/plain"] for bar in bars]


def test_saved_notebook_shows_final_state_of_each_map(run):
    """The state is final although the cell ends with its map. A notebook saves no later update."""
    cells, updates = run(END_CELLS)
    kinds = [output["output_type"] for output in cells[1]["outputs"]]
    assert kinds == ["stream", "display_data", "stream", "execute_result"]
    assert text_of(cells[1]) == "before\nafter\n"
    assert bars_of(cells[1]) == ["notebook-4: 3/3, 2 cancelled"]
    assert bars_of(cells[2]) == ["notebook-4 #2: 3/3"]
    assert updates >= 2


def test_notebook_maps_functions_of_cells_and_shows_their_progress(run):
    cells, _ = run(CELLS)
    assert text_of(cells[1]) == "[(True, 2.0), (True, 3.0)]\n"
    assert text_of(cells[2]) == "[-2.0]\n"
    assert text_of(cells[3]).splitlines()[:50] == [f"line {number}" for number in range(50)]
    assert [round(x) for x in json.loads(text_of(cells[3]).splitlines()[-1])] == [0, 1, 2, 3, 4]
    assert bars_of(cells[1]) == ["notebook: 2/2"]
    assert bars_of(cells[3]) == [f"notebook #{number}: 1/1" for number in range(2, 7)]
    assert bars_of(cells[4]) == ["notebook-3: 9/9", "notebook-3 #2: 4/4"]
    assert text_of(cells[5]) == "[0, 1, 2, 3, 4, 5, 6, 7, 8] [0, 1, 2, 3] [7]\n"
    assert [output["output_type"] for output in cells[5]["outputs"]] == ["stream"]
    assert text_of(cells[6]) == "KeyError Raised by element 0 True\n"
    assert bars_of(cells[6]) == ["notebook-2: 1/1, 1 failed\nelement 0 failed: KeyError: 'gone'"]
    # Text on stderr would be a red box.
    assert [output for cell in cells for output in cell["outputs"] if output.get("name") == "stderr"] == []
