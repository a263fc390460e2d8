"""Random numbers and the index of the element in jobs: rounds, attempts, chunks, chains and gathered results."""

import multiprocessing
import os
import random
import subprocess
import sys
from pathlib import Path
from random import random as draw

import numpy as np

import cloudknot
import cloudknot as ck
from cloudknot import element_index, seed
from cloudknot.errors import CloudknotError

LONG = 120


def look(x):
    """Return the index by all its names, and the first number of numpy and of the standard library."""
    return (
        element_index(),
        ck.element_index(),
        np.random.default_rng(seed(1)).random(),
        random.Random(ck.seed(2)).random(),
    )


def expected(index):
    stream = np.random.default_rng(np.random.SeedSequence(1, spawn_key=(index,)))
    return index, index, stream.random(), random.Random(ck.seed(2, index)).random()


def look_once_more(marks, x):
    """Fail in the first attempt, and in the first round for elements that are odd; then do as `look`."""
    for tries, name in ((2, f"attempt-{x}"),) if x % 2 else ():
        mark = Path(marks) / name
        mark.write_text(mark.read_text() + "x" if mark.exists() else "x")
        if len(mark.read_text()) <= tries:
            raise OSError("again")
    return look(x)


def look_at_both(earlier):
    return cloudknot.element_index(), earlier[0]


def gather(values):
    return cloudknot.element_index(), [value[0] for value in values], cloudknot.seed(1)


def test_each_element_of_a_chunk_has_its_index_on_both_runners(knot_of):
    results = knot_of(look).map(range(100, 105), chunksize=2).result(LONG)
    assert results == [expected(index) for index in range(5)]


def test_independent_jobs_and_single_element_have_their_index(process_knot_of):
    knot = process_knot_of(look)
    assert knot.map("abc", job_type="independent").result(LONG) == [expected(index) for index in range(3)]
    assert knot.map("a").result(LONG) == [expected(0)]


def test_attempts_and_rounds_keep_the_index(process_knot_of, tmp_path):
    future = process_knot_of(look_once_more).map([(str(tmp_path), x) for x in range(4)], starmap=True, retries=2)
    assert isinstance(future.exception(LONG), OSError)
    assert future.retry_failed().result(LONG) == [expected(index) for index in range(4)]


def test_chain_and_reduce_count_their_own_elements(process_knot_of):
    future = process_knot_of(look).map("abcd")
    assert process_knot_of(look_at_both).map(future).result(LONG) == [(index, index) for index in range(4)]
    assert future.reduce(gather).result(LONG) == (0, [0, 1, 2, 3], ck.seed(1, 0))


def index_of(x):
    return ck.element_index()


def in_processes(x):
    """Return the index in a fork, in a new interpreter of multiprocessing, and in a plain one."""
    found = []
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            found += pool.map(index_of, [None])
        pool.join()
    code = "import cloudknot as ck; print(ck.element_index())"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return [*found, int(printed)]


def test_processes_that_function_starts_have_its_index(knot_of):
    assert knot_of(in_processes).map("ab").result(LONG) == [[0, 0, 0], [1, 1, 1]]


def names_of_cloudknot(x):
    """Use names that only a session has."""
    from cloudknot.aws import DockerRepo

    try:
        ck.Knot(name="inner", func=len)
    except RuntimeError as error:
        return DockerRepo is not None, str(error), CloudknotError is not None, os.path.basename(ck.__file__)


def test_job_has_stand_in_for_everything_else(process_knot_of):
    (texts,) = process_knot_of(names_of_cloudknot).map([0]).result(LONG)
    assert "cloudknot.Knot is called inside a job" in texts[1]
    assert texts[3] == "cloudknot.py"


def draw_globally(x):
    return draw(), random.random(), np.random.rand(), np.random.normal()


def test_global_generators_have_fresh_state_in_each_child(process_knot_of):
    random.seed(0)
    np.random.seed(0)
    results = process_knot_of(draw_globally).map(range(3)).result(LONG)
    random.seed(0)
    np.random.seed(0)
    numbers = [number for result in [*results, draw_globally(0)] for number in result]
    assert len(set(numbers)) == len(numbers) == 16
