"""Packages that elements, keyword arguments and functions of reduce need: a map without them is not submitted."""

import dataclasses
import enum
import pickle

import numpy as np
import pytest

import cloudknot as ck
from cloudknot.errors import CloudknotInputError
from tests.helpers.functions import double, square

LONG = 120


def mean(array):
    return float(array.mean())


def mean_with_import(array):
    import numpy

    return float(numpy.mean(array))


def shifted(x, by=0):
    return x + by


@dataclasses.dataclass
class Scan:
    voxels: object


class Scale(enum.Enum):
    ONE = np.float32(1)


class Rebuilt:
    """An object that pickles as a call of a function of numpy."""

    def __reduce__(self):
        return np.full, (3, 1)


@pytest.mark.parametrize(
    ("elements", "options", "subject"),
    [
        ([1, 2, np.arange(3)], {}, "Element 2 of the input"),
        ([np.float64(1)], {}, "Element 0 of the input"),
        ((x for x in np.arange(2)), {}, "Element 0 of the input"),
        (["a", {"deep": [(1, np.ones(2))]}], {}, "Element 1 of the input"),
        ([np.add], {}, "Element 0 of the input"),
        ([np], {}, "Element 0 of the input"),
        ([np.dtype("f4")], {}, "Element 0 of the input"),
        ([np.linalg.norm], {}, "Element 0 of the input"),
        ([Scan(np.zeros(2))], {}, "Element 0 of the input"),
        ([Scale.ONE], {}, "Element 0 of the input"),
        ([Rebuilt()], {}, "Element 0 of the input"),
        ([(1, 2), (1, np.ones(2))], {"starmap": True}, "Element 1 of the input"),
        ([1], {"kwargs": {"by": np.ones(2)}}, "A value of kwargs"),
        ([np.ones(3_000_000), 1], {}, "Element 0 of the input"),
    ],
)
def test_map_refuses_input_with_package_that_image_lacks(process_knot_of, elements, options, subject):
    knot = process_knot_of(shifted)
    before = len(knot.jobs)
    with pytest.raises(CloudknotInputError, match=subject) as caught:
        knot.map(elements, **options)
    message = str(caught.value)
    assert f"{subject} needs numpy, which the image of the knot {knot.name!r} does not have." in message
    assert "`import numpy` inside its function" in message
    assert f"Knot(name={knot.name!r}, func=shifted, requirements=['numpy=={np.__version__}'])" in message
    assert len(knot.jobs) == before


def test_later_session_knows_packages_of_image_without_request(cloud, process_knot_of):
    name = process_knot_of(shifted).name
    found = ck.Knot(name=name, cloud=cloud)
    with pytest.raises(CloudknotInputError, match=r"Element 0 .* needs numpy.*requirements=\[\.\.\., 'numpy=="):
        found.map([np.arange(3)])


@pytest.mark.parametrize(("func", "choices"), [(mean_with_import, {}), (mean, {"requirements": ("numpy",)})])
def test_image_with_package_takes_input(process_knot_of, cloud, func, choices):
    knot = process_knot_of(func, **choices)
    assert knot.map([np.arange(4), np.ones(2)]).result(LONG) == [1.5, 1.0]
    assert ck.Knot(name=knot.name, cloud=cloud).map([np.arange(4)]).result(LONG) == [1.5]


def test_values_of_standard_library_and_own_modules_need_no_package(process_knot_of):
    import datetime
    import decimal
    import pathlib

    values = [datetime.date(2024, 1, 2), decimal.Decimal(3), pathlib.PurePosixPath("a"), Scan(1), square, pickle.loads]
    assert process_knot_of(type_name).map(values).result(LONG) == [type(value).__name__ for value in values]


def type_name(value):
    return type(value).__name__


def test_image_that_may_have_more_gets_warning_once(docker_place, knot_on):
    knot = knot_on(docker_place, shifted)
    with pytest.warns(
        UserWarning, match=r"needs numpy, because a job imports numpy .* unless the base image"
    ) as caught:
        future = knot.map([np.float64(1), np.float64(2), 3])
    assert sum("needs numpy" in str(warning.message) for warning in caught) == 1
    assert future[2].result(LONG) == 3
    with pytest.raises(ModuleNotFoundError, match="numpy"):
        future[0].result(LONG)


def test_reduce_in_later_session_knows_packages_of_image(cloud, process_knot_of):
    bare, full = process_knot_of(double).map([1, 2]), process_knot_of(mean_with_import).map([np.ones(2)])
    with pytest.raises(CloudknotInputError, match=r"needs numpy==.*the map does not have\. Nothing was submitted\."):
        ck.BatchJob(bare.job.job_id, cloud=cloud).reduce(np.mean)
    assert ck.BatchJob(full.job.job_id, cloud=cloud).reduce(np.mean).result(LONG) == 1
