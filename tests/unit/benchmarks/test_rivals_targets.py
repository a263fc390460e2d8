"""The benchmark beside other libraries finds the best rival, and says whether a target is met."""

import json

from tests.benchmarks.rivals.contestants import CHUNKS, FRESH, SINGLE
from tests.benchmarks.rivals.measuring.supervisor import End, Measurement, Outcome, Start
from tests.benchmarks.rivals.plan import FULL
from tests.benchmarks.rivals.reporting.tables import render
from tests.benchmarks.rivals.results import LIBRARIES, Results


def results_with(*measurements):
    """Return results in which each contestant has the seconds of its measurements: name, group, workload, way."""
    results = Results(FULL)
    for name, group, workload, way, count, seconds in measurements:
        measured = Measurement(group, name, workload, way, count, seconds, 1.0, 10**8, 10**8, "same")
        results.add(
            Outcome(Start(group, name, 1.0, 1.0), (measured,), End(dict.fromkeys(LIBRARIES, "1.0"), {way: "call"}))
        )
    return results


def verdicts(results):
    """Return the rows of the table of targets: title, cost, best rival, ratio and verdict."""
    lines = render(results).partition("### Won and lost")[2].partition("###")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return rows[2:]


def test_overhead_in_chunks_is_compared_with_each_rival():
    results = results_with(
        ("cloudknot", "trivial", "trivial", CHUNKS, 1000, 0.2),
        ("dask", "trivial", "trivial", CHUNKS, 1000, 0.4),
        ("spark", "trivial", "trivial", CHUNKS, 1000, 0.1),
    )
    assert [row[2:] for row in verdicts(results)] == [
        ["Dask: 0.4 ms", "x 0.50 (0.50 to 0.50)", "yes"],
        ["Spark: 0.1 ms", "x 2.00 (2.00 to 2.00)", "no"],
    ]


def test_elements_of_second_may_take_five_percent_more_than_best_rival():
    for seconds, verdict in ((10.4, "yes"), (10.6, "no")):
        results = results_with(
            ("cloudknot", "science", "heat", FRESH, FULL.heat, seconds),
            ("stdlib", "science", "heat", SINGLE, FULL.heat, 10.0),
            ("dask", "science", "heat", SINGLE, FULL.heat, 20.0),
        )
        ((title, ours, best, _, met),) = verdicts(results)
        assert title.startswith("heat equation")
        assert (ours, best, met) == (f"{seconds} s", "ProcessPoolExecutor: 10 s", verdict)


def test_bounds_are_numbers_for_cloudknot_alone():
    results = results_with(
        ("cloudknot", "fresh", "trivial", FRESH, FULL.fresh, 1.5),
        ("cloudknot", "short", "short", CHUNKS, FULL.short, 0.65),
        ("cloudknot", "short", "short", FRESH, FULL.short, 0.8),
        ("stdlib", "short", "short", SINGLE, FULL.short, 0.5),
    )
    text = render(results)
    assert "| a trivial element in a process of its own | 5 ms | 6 ms | yes |" in text
    assert "| overhead of 40 elements of 12 ms, 4 chunks | 0.15 s | 0.1 s | no |" in text
    # 40 processes of 6 ms each take 0.24 s.
    assert "| overhead of 40 elements of 12 ms, one process for each | 0.3 s | 0.34 s | yes |" in text


def test_figures_from_before_a_workload_are_drawn_without_it(tmp_path):
    results_with(("cloudknot", "trivial", "trivial", CHUNKS, 1000, 0.2)).write(tmp_path / "old.json")
    old = json.loads((tmp_path / "old.json").read_text())
    del old["sizes"][0]["arrays"], old["sizes"][0]["short"]
    (tmp_path / "old.json").write_text(json.dumps(old))
    text = render(Results.read(tmp_path / "old.json"))
    assert "### Overhead of an element" in text
    assert "arrays of 8 MB" not in text.partition("### Overhead of an element")[2]


def test_target_without_measured_rival_has_no_verdict():
    assert verdicts(results_with(("cloudknot", "trivial", "trivial", CHUNKS, 1000, 0.2))) == []
