"""The same maps under each fault of the embedded cloud end with the right list."""

import pytest

from tests.faults import trials


@pytest.mark.parametrize("trial", trials.TRIALS, ids=lambda trial: trial.name)
def test_maps_end_with_the_right_list(knot_of, switches, trial):
    outcome = trials.run(trial, knot_of(trials.work, retries=trials.RETRIES), switches)
    for name in trial.injected:
        assert outcome.injected.get(name), outcome.injected
    assert outcome.checked == sum(len(inputs) for inputs, _ in trials.MAPS)
    assert outcome.lost == 0
