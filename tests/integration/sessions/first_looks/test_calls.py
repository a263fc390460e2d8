"""A map whose calls the function cannot take is refused before anything is stored or submitted."""

import pytest

from cloudknot.errors import CloudknotInputError
from cloudknot.worker.wire.keys import RUNS
from tests.helpers.functions import square


def add(x, y):
    return x + y


def stored(knot):
    """Return the keys of all objects of the knot, and the ids of its jobs."""
    # Jobs of other knots may store their results meanwhile.
    return list(knot.cloud.storage.keys(f"{RUNS}/{knot.name}/")), knot.job_ids


@pytest.mark.parametrize(
    ("elements", "choices", "words"),
    [
        ([1, 2], {}, "cannot be called with one element"),
        ([(1, 2), (3, 4)], {}, r"pass starmap=True: map\(elements, starmap=True\)"),
        ([(1, 2, 3)], {"starmap": True}, "Element 0 of the input has 3 arguments"),
        ([(1, 2), (3, 4), (5,)], {"starmap": True}, "Element 2 of the input has 1 argument"),
        ([iter((1, 2)), iter((1, 2, 3))], {"starmap": True}, "Element 1 of the input has 3 arguments"),
        ([(1, 2)], {"starmap": True, "kwargs": {"y": 1}}, "multiple values for argument 'y'"),
    ],
)
def test_wrong_number_of_arguments_is_refused_and_leaves_nothing(process_knot_of, elements, choices, words):
    knot = process_knot_of(add)
    # The bucket exists, and a first map of this knot has stored its objects.
    knot.map([(1, 2)], starmap=True).result(60)
    before = stored(knot)
    with pytest.raises(CloudknotInputError, match=words):
        knot.map(iter(elements), **choices)
    assert stored(knot) == before


def test_results_of_another_map_are_one_argument_each(process_knot_of):
    source = process_knot_of(square).map([1, 2])
    with pytest.raises(CloudknotInputError, match="cannot be called with one element"):
        process_knot_of(add).map(source)
    with pytest.raises(CloudknotInputError, match="cannot be called with one"):
        source.reduce(process_knot_of(add))
    assert process_knot_of(add).map(source, kwargs={"y": 1}).result(60) == [2, 5]


def test_fitting_calls_run_and_elements_are_read_once(process_knot_of):
    knot, read = process_knot_of(add), []

    def pairs():
        for number in range(3):
            read.append(number)
            yield (number, 10)

    assert knot.map(pairs(), starmap=True).result(60) == [10, 11, 12]
    assert read == [0, 1, 2]
    assert knot.map([]).result() == []
