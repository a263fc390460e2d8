"""`cloudknot.seed` draws numpy's own streams, and `cloudknot.element_index` is none outside of a job."""

import pickle
import random

import numpy as np
import pytest

import cloudknot as ck
from cloudknot.worker.program import seeds
from cloudknot.worker.program.stand_in import cloudknot as stand_in

ROOTS = (0, 1, 2**32 - 1, 2**32, 12345678901234567890, 2**127 + 5, 2**200 + 7)


@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("index", [0, 1, 255, 2**32 - 1, 2**32, 2**40])
def test_seed_has_stream_of_numpys_sequence_with_spawn_key(root, index):
    expected = np.random.SeedSequence(root, spawn_key=(index,))
    assert list(np.random.SeedSequence(ck.seed(root, index)).generate_state(9)) == list(expected.generate_state(9))
    drawn = np.random.default_rng(ck.seed(root, index)).random(5)
    assert list(drawn) == list(np.random.default_rng(expected).random(5))


def test_seed_of_element_is_that_of_spawned_sequence():
    for index, spawned in enumerate(np.random.SeedSequence(7).spawn(5)):
        assert np.random.default_rng(ck.seed(7, index)).random() == np.random.default_rng(spawned).random()


def test_all_seeds_differ_and_fit_128_bits():
    found = {ck.seed(root, index) for root in range(30) for index in range(300)}
    assert len(found) == 30 * 300
    assert all(0 <= seed < 2**128 for seed in found)
    # The standard library takes them, too.
    assert len({random.Random(seed).random() for seed in found}) == len(found)


def test_seed_takes_numbers_of_numpy_and_gives_one_of_python():
    assert ck.seed(np.int64(3), np.uint8(2)) == ck.seed(3, 2)
    assert type(ck.seed(np.int64(3), 2)) is int


@pytest.mark.parametrize("arguments", [(-1, 0), (1, -2)])
def test_negative_numbers_are_refused(arguments):
    with pytest.raises(ValueError, match=r"is negative\. Pass a whole number from 0"):
        ck.seed(*arguments)


@pytest.mark.parametrize("root", [None, 1.5, "1", [1, 2]])
def test_other_types_are_refused(root):
    with pytest.raises(TypeError):
        ck.seed(root, 0)


def test_outside_of_job_there_is_no_element_and_no_seed():
    assert ck.element_index() is None
    with pytest.raises(
        RuntimeError, match=r"To get the seed of element 0 elsewhere, call cloudknot.seed\(7, index=0\)"
    ):
        ck.seed(7)


def test_element_is_that_of_the_environment(monkeypatch):
    monkeypatch.setenv(seeds.ELEMENT_VARIABLE, "12")
    assert (ck.element_index(), ck.seed(4)) == (12, ck.seed(4, 12))
    seeds.set_element(3)
    assert ck.element_index() == 3
    seeds.set_element(None)
    assert ck.element_index() is None


def test_functions_travel_by_the_name_that_stand_in_has_too():
    for function in (ck.seed, ck.element_index):
        assert b"cloudknot\x94" in pickle.dumps(function)
        assert getattr(stand_in, function.__name__).__module__ == "cloudknot"
    assert stand_in.seed(2, 3) == ck.seed(2, 3)
