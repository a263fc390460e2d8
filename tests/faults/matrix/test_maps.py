"""Every kind of map ends with the right list under each fault of the embedded cloud."""

import pytest

from tests.faults.matrix import kinds, trials


@pytest.fixture
def place(knot_of, tmp_path):
    """Knots and a folder for the maps of a trial."""
    return kinds.Place(
        knot_of(kinds.work, retries=trials.RETRIES), knot_of(kinds.needs_a_file, retries=trials.RETRIES), tmp_path
    )


@pytest.mark.parametrize("trial", trials.TRIALS[1:], ids=lambda trial: trial.name)
def test_maps_under_faults_end_with_right_list(place, switches, trial):
    outcome = trials.run(trial, trials.share(trial), place, switches)
    for name in trial.injected:
        assert outcome.injected.get(name), outcome.injected
    assert outcome.lost == []
    # An attempt that is killed may have computed an element and not yet stored it.
    if not trial.faults.kills:
        assert outcome.repeated == 0
    assert outcome.checked >= len(trials.share(trial))


def test_trials_combine_every_switch_with_every_kind_of_map():
    combinations = {(trial.switch, kind.name) for trial in trials.TRIALS for kind in trials.share(trial)}
    assert len(combinations) == len({trial.switch for trial in trials.TRIALS}) * len(kinds.KINDS)
