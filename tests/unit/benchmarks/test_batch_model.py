"""The model of AWS Batch keeps its invariants, and shows the shapes that docs/benchmarks.md claims."""

import subprocess
import sys
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudknot.deploy.job_definition import ATTEMPTS
from cloudknot.errors import CloudknotInputError
from cloudknot.run.collect.timers import LONGEST_PAUSE
from cloudknot.worker.results import FIRST_INTERVAL, LONGEST_INTERVAL
from tests.benchmarks.batch_model import experiments, heat, paper, tables
from tests.benchmarks.batch_model.constants import BatchConstants, LambdaConstants
from tests.benchmarks.batch_model.experiments import QUICK, Scale, run_heat, warm
from tests.benchmarks.batch_model.pywren import simulate_pywren
from tests.benchmarks.batch_model.simulation import HOUR, Environment, last_store, simulate
from tests.benchmarks.batch_model.submission import plan
from tests.helpers.paths import ROOT

DEFAULT = warm(paper.DEFAULT)
SLOTS = experiments.slots(paper.DEFAULT)
CONSTANTS = BatchConstants()
EXACT = replace(CONSTANTS, instance_start_spread=0.0)
"""Machines all take the same time to start."""


def seconds(count, side=10, chunksize=None, environment=DEFAULT):
    return run_heat(count, side, environment, chunksize).seconds


def each(count):
    """Return chunks of one element."""
    return [range(element, element + 1) for element in range(count)]


# The submission, by cloudknot's own code.


@pytest.mark.parametrize(
    ("count", "chunksize", "measured", "children"),
    [
        (1, None, None, 1),
        (5, None, None, 5),
        (10_000, None, None, 10_000),
        (50_000, None, 0.008, 500),
        (10_000, "auto", 0.008, 2),
        (10_000, "auto", None, 250),
        (1_000, "auto", 300.0, 1_000),
        (4_096, 64, None, 64),
    ],
)
def test_plan_has_children_of_cloudknot(count, chunksize, measured, children):
    planned = plan(count, chunksize, measured=measured)
    assert planned.children == children
    assert list(chain.from_iterable(planned.chunks)) == list(range(count))


def test_plan_refuses_more_children_than_an_array_has():
    with pytest.raises(CloudknotInputError, match="10,001 child jobs"):
        plan(10_001, 1)


# One child, and waves of children.


def test_child_on_warm_machine_takes_sum_of_constants():
    outcome = simulate(each(1), lambda _: 7.0, DEFAULT)
    before = CONSTANTS.accept + 1 / CONSTANTS.dispatch_rate
    inside = CONSTANTS.container_start + CONSTANTS.worker_start + 7.0 + CONSTANTS.upload
    assert outcome.seconds == pytest.approx(before + inside)
    assert outcome.seconds == pytest.approx(CONSTANTS.one_child + 7.0)


def test_child_on_new_machine_also_waits_for_look_and_start_and_image():
    outcome = simulate(each(1), lambda _: 7.0, Environment(), EXACT, seed=3)
    child = CONSTANTS.one_child - CONSTANTS.accept + 7.0
    assert outcome.seconds == pytest.approx(outcome.first_look + EXACT.instance_start + EXACT.image_pull + child)
    assert CONSTANTS.accept <= outcome.first_look <= CONSTANTS.accept + CONSTANTS.scaling_interval


def test_child_beyond_slots_waits_for_first_free_slot():
    inside = CONSTANTS.one_child - CONSTANTS.accept + 7.0
    outcome = simulate(each(SLOTS + 1), lambda _: 7.0, DEFAULT)
    assert outcome.seconds == pytest.approx(CONSTANTS.accept + 2 * inside + CONSTANTS.slot_turnaround)


def test_first_child_on_machine_pulls_image_once():
    outcome = simulate(each(200), lambda _: 1.0, replace(DEFAULT, has_image=False))
    first = [attempt for attempt in outcome.attempts if attempt.ended - attempt.started > CONSTANTS.image_pull]
    assert sorted(attempt.instance for attempt in first) == list(range(SLOTS))


@pytest.mark.parametrize(
    ("environment", "constants"),
    [(Environment(max_vcpus=3), CONSTANTS), (Environment(), replace(CONSTANTS, job_memory=16_000))],
)
def test_map_without_room_for_a_job_is_refused(environment, constants):
    with pytest.raises(ValueError, match="can run"):
        simulate(each(1), lambda _: 1.0, environment, constants)


def test_session_sees_last_result_at_its_next_poll():
    outcome = run_heat(1_000, 10, DEFAULT)
    assert outcome.seconds <= outcome.collected <= outcome.seconds + LONGEST_PAUSE


# Invariants, also under Spot losses.

environments = st.builds(
    Environment,
    min_vcpus=st.sampled_from([0, 8]),
    max_vcpus=st.sampled_from([8, 64, 256]),
    max_instances=st.sampled_from([1, 3, 200]),
    warm_vcpus=st.sampled_from([0, 4, 8]),
    has_image=st.booleans(),
    losses_per_hour=st.sampled_from([0.0, 1.0, 30.0]),
)


@given(
    environment=environments,
    count=st.integers(1, 200),
    chunksize=st.integers(1, 60),
    element=st.floats(0.001, 40.0),
    seed=st.integers(0, 2**32),
)
def test_map_conserves_work_and_keeps_limits(environment, count, chunksize, element, seed):
    environment = replace(environment, warm_vcpus=min(environment.warm_vcpus, 4 * environment.max_instances))
    planned = plan(count, chunksize)
    outcome = simulate(planned.chunks, lambda _: element, environment, seed=seed)
    stored = sorted(chain.from_iterable(attempt.stored for attempt in outcome.attempts))
    missing = set(chain.from_iterable(planned.chunks[child] for child in outcome.failed))
    assert len(stored) == len(set(stored)), "an element has two results"
    assert set(range(count)) - set(stored) <= missing, "an element of a successful child has no result"
    useful = sum(attempt.seconds - attempt.lost for attempt in outcome.attempts)
    assert useful == pytest.approx(element * len(stored))
    assert all(attempt.lost >= -1e-9 for attempt in outcome.attempts)
    assert max(attempt.number for attempt in outcome.attempts) <= ATTEMPTS
    assert outcome.most_vcpus <= min(environment.max_vcpus, 4 * environment.max_instances)
    assert most_at_once(outcome.attempts) <= outcome.most_vcpus // CONSTANTS.instance_vcpus * CONSTANTS.slots
    assert simulate(planned.chunks, lambda _: element, environment, seed=seed) == outcome


def most_at_once(attempts):
    """Return the largest number of attempts at the same time."""
    # An end comes before a start at the same time.
    events = sorted(chain.from_iterable(((a.started, 1), (a.ended, -1)) for a in attempts))
    running = most = 0
    for _, change in events:
        running += change
        most = max(most, running)
    return most


def test_retried_child_continues_after_stored_results():
    environment = replace(DEFAULT, losses_per_hour=6.0)
    outcome = simulate([range(100)], lambda _: 10.0, environment, seed=1)
    assert len(outcome.attempts) > 1
    bounds = [(attempt.stored.start, attempt.stored.stop) for attempt in outcome.attempts]
    assert bounds[0][1] > 0
    assert [begin for begin, _ in bounds[1:]] == [end for _, end in bounds[:-1]]
    assert bounds[-1][1] == 100
    assert all(attempt.lost <= LONGEST_INTERVAL + 10.0 for attempt in outcome.attempts)


def test_child_of_days_uses_up_its_attempts():
    environment = replace(DEFAULT, losses_per_hour=6.0)
    outcome = simulate([range(1)], lambda _: 48 * HOUR, environment)
    assert outcome.failed == (0,)
    assert [attempt.number for attempt in outcome.attempts] == list(range(1, ATTEMPTS + 1))


def test_worker_has_stored_all_but_last_interval():
    assert last_store(0.9 * FIRST_INTERVAL) == 0
    assert last_store(FIRST_INTERVAL) == FIRST_INTERVAL
    for took in (3.0, 60.0, 600.0, 24 * HOUR):
        assert 0 <= took - last_store(took) <= min(LONGEST_INTERVAL, max(FIRST_INTERVAL, 0.05 * took))


# Children are alike and the queue is first in first out. So more machines, and fewer or shorter elements, never delay
# the end of a map on warm on-demand machines.


def test_time_never_falls_with_more_elements():
    times = [seconds(count) for count in (1, 2, 63, 64, 65, 128, 129, 500)]
    assert times == sorted(times)


def test_time_never_rises_with_more_machines():
    times = [seconds(500, environment=replace(DEFAULT, warm_vcpus=vcpus)) for vcpus in (4, 8, 64, 128, 256)]
    assert times == sorted(times, reverse=True)


def test_time_never_rises_with_faster_dispatch():
    rates = [replace(CONSTANTS, dispatch_rate=rate) for rate in (0.5, 1.0, 5.0, 40.0, 1000.0)]
    times = [simulate(each(300), lambda _: 1.0, DEFAULT, constants).seconds for constants in rates]
    assert times == sorted(times, reverse=True)


# PyWren on Lambda.


def test_pywren_fails_beyond_time_limit():
    limit = LambdaConstants().time_limit
    assert experiments.pywren(5, 125, warm=5) < limit
    assert experiments.pywren(5, 150, warm=5) is None
    assert simulate_pywren(2, lambda _: 1.0, memory=1_537.0) is None


def test_pywren_runs_no_more_than_concurrency():
    three_waves = simulate_pywren(3_000, lambda _: 100.0 / LambdaConstants().slowdown)
    assert three_waves > 300.0
    assert simulate_pywren(1_000, lambda _: 100.0 / LambdaConstants().slowdown) < 200.0


# The work.


@pytest.mark.parametrize("side", [10, 15, 25])
def test_sweeps_are_those_of_the_paper(side):
    grid = np.full((side, side), 25.0)
    grid[-1, :], grid[0, :], grid[:, -1], grid[:, 0] = 100.0, 0.0, 0.0, 0.0
    values, sweeps = grid.tolist(), 0
    while True:
        old, sweeps = np.array(values), sweeps + 1
        for row in range(1, side - 1):
            above, here, below = values[row - 1 : row + 2]
            for column in range(1, side - 1):
                here[column] = 0.25 * (below[column] + above[column] + here[column + 1] + here[column - 1])
        if np.allclose(values, old):
            break
    assert sweeps == heat.SWEEPS[side]


# The shapes of the paper's figures.


@pytest.fixture(scope="module")
def lines():
    """Both figures of the paper, up to 1,024 arguments."""
    scale = Scale(arguments=tuple(paper.ARGUMENTS[:10]), sides=tuple(paper.SIDES), seeds=2)
    return experiments.figure_2(scale), experiments.figure_3(scale)


def test_model_agrees_with_published_points(lines):
    agree = [*tables.agreement(lines[0], paper.FIGURE_2), *tables.agreement(lines[1], paper.FIGURE_3)]
    assert len(agree) == tables.published_points() - 6
    assert sum(agree) >= 0.9 * len(agree)


def test_pywren_is_faster_for_any_number_of_arguments_and_flat_at_first(lines):
    default, custom, pywren = (lines[0][name] for name in ("default", "custom", "pywren"))
    for place in range(len(pywren.x)):
        assert pywren.low[place] < custom.low[place] <= default.low[place] <= default.high[place]
    flat = [time for count, time in zip(pywren.x, pywren.low, strict=True) if 4 <= count <= 512]
    assert max(flat) < 2 * min(flat)


def test_time_grows_linearly_with_arguments_beyond_slots():
    for settings in (paper.DEFAULT, paper.CUSTOM):
        assert seconds(4_096, environment=warm(settings)) == pytest.approx(
            2 * seconds(2_048, environment=warm(settings)), rel=0.1
        )


def test_custom_settings_are_several_times_faster_beyond_slots():
    assert seconds(4_096) > 2.5 * seconds(4_096, environment=warm(paper.CUSTOM))


def test_cloudknot_overtakes_pywren_between_50_and_100_points(lines):
    cloudknot, pywren = lines[1]["custom"], lines[1]["pywren"]
    faster = [x for x, a, b in zip(cloudknot.x, cloudknot.low, pywren.low, strict=True) if b is None or a < b]
    assert faster == [100, 125, 150, 175]


# The effect of the chunk size.


@pytest.mark.parametrize("factor", [0.5, 1.0])
def test_chunks_make_ten_thousand_tiny_arguments_20_times_faster(factor):
    constants = replace(CONSTANTS, slot_turnaround=factor * CONSTANTS.slot_turnaround)
    work = heat.seconds_of(10, 10_000)
    alone, chunks = (
        experiments.run(10_000, work, DEFAULT, chunksize, constants=constants) for chunksize in (1, "auto")
    )
    assert alone.seconds > 20 * chunks.seconds
    assert alone.vcpu_hours > 20 * chunks.vcpu_hours


def test_chunks_make_cloudknot_faster_than_pywren_with_thousands_of_arguments():
    assert seconds(4_096, chunksize="auto") < experiments.pywren(4_096, 10, warm=2) < seconds(4_096)


def test_automatic_chunks_start_few_machines():
    alone, even, automatic = experiments.cold_starts(replace(QUICK, many=2_000))
    assert 10 * automatic.most_vcpus < even.most_vcpus <= alone.most_vcpus == paper.DEFAULT["max_vcpus"]
    assert 10 * automatic.vcpu_hours < even.vcpu_hours < alone.vcpu_hours
    assert max(even.seconds, automatic.seconds) < alone.seconds / 2


def test_chunks_of_all_elements_are_slower_for_long_elements():
    assert seconds(5, side=150, chunksize=5) > 3 * seconds(5, side=150)
    assert seconds(5, side=150, chunksize="auto") == seconds(5, side=150)


def test_spot_losses_cost_more_in_longer_chunks():
    spot = replace(DEFAULT, losses_per_hour=experiments.STRESS)

    def lost(chunksize):
        outcomes = (experiments.run(5_000, lambda _: 10.0, spot, chunksize, seed=seed) for seed in range(3))
        return sum(experiments.lost_share(outcome) for outcome in outcomes)

    assert lost(10) < lost(250)


# The command and its page.


def test_page_has_constants_of_the_model():
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    assert tables.constants_table() in page


def test_quick_command_prints_tables_without_matplotlib():
    code = (
        "import runpy, sys; sys.argv[1:] = ['--quick']; sys.modules['matplotlib'] = None; "
        "runpy.run_module('tests.benchmarks.batch_model', run_name='__main__')"
    )
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed.startswith("A model of AWS Batch, and no measurement.")
    for heading in ("Figure 2 of the paper", "Figure 3 of the paper", "under Spot losses", "Half and twice"):
        assert heading in printed


@pytest.mark.examples
def test_figures_have_same_bytes_each_time(tmp_path):
    pytest.importorskip("matplotlib", reason="needs the extra plots")
    from tests.benchmarks.batch_model import figures

    second, third = experiments.figure_2(QUICK), experiments.figure_3(QUICK)
    chunked = experiments.chunked_figure_2(QUICK), experiments.chunked_figure_3(QUICK)
    sweeps = {
        name: experiments.sweep(QUICK, element) for name, element in (("8 ms", 0.008), ("1 s", 1.0), ("10 s", 10.0))
    }
    files = []
    for name in ("first", "again"):
        folder = tmp_path / name
        folder.mkdir()
        drawn = [figures.draw_paper(second, third, folder), figures.draw_chunks(*chunked, QUICK.several, folder)]
        drawn.append(figures.draw_sweep(sweeps, QUICK.many, folder))
        files.append({path.name: path.read_bytes() for path in drawn})
    assert files[0] == files[1]
    committed = ROOT / "docs" / "figures"
    assert set(files[0]) == {path.name for path in committed.glob("batch_model_*.svg")}
    assert all(path.stat().st_size < 150_000 for path in committed.glob("batch_model_*.svg"))
