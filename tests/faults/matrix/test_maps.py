"""Every kind of map under each fault of the embedded cloud ends with the right list."""

import pytest

from tests.faults.matrix import kinds, trials


@pytest.fixture
def place(knot_of, tmp_path):
    return kinds.Place(
        knot_of(kinds.work, retries=trials.RETRIES), knot_of(kinds.needs_a_file, retries=trials.RETRIES), tmp_path
    )


@pytest.mark.parametrize("trial", trials.TRIALS[1:], ids=lambda trial: trial.name)
def test_maps_end_with_the_right_list(place, switches, trial):
    outcome = trials.run(trial, trials.share(trial), place, switches)
    for name in trial.injected:
        assert outcome.injected.get(name), outcome.injected
    assert outcome.lost == []
    assert outcome.checked >= len(trials.share(trial))


def test_every_switch_meets_every_kind():
    met = {(trial.switch, kind.name) for trial in trials.TRIALS for kind in trials.share(trial)}
    assert len(met) == len({trial.switch for trial in trials.TRIALS}) * len(kinds.KINDS)
