"""Functions whose job finds their own module, local modules named as text, and a lock. On both runners."""

import importlib
import multiprocessing
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

LONG = 120
LOCK = threading.Lock()
calls = 0


class Box:
    def __init__(self, x):
        self.x = x


def doubled(box):
    return Box(2 * box.x)


def pools(x):
    global calls
    found = []
    with LOCK:
        calls += 1
        for method in ("fork", "spawn"):
            with multiprocessing.get_context(method).Pool(2) as pool:
                (box,) = pool.map(doubled, [Box(x)])
                found.append((box.x, type(box) is Box))
            # The end of the block does not wait for the pool's threads, and a fork beside them may copy their locks.
            pool.join()
        with ProcessPoolExecutor(1) as pool:
            found.append(pool.submit(doubled, Box(x)).result().x)
        copy = pickle.loads(pickle.dumps(Box(x)))
        return found, type(copy) is Box, sys.modules[__name__].calls, Box(x)


def test_pools_of_processes_find_functions_and_classes_of_own_module(knot_of):
    before = calls
    future = knot_of(pools).map([3, 4], chunksize=2)
    found, is_same, count, box = future[0].result(LONG)
    assert (found, is_same, count - before) == ([(6, True), (6, True), 6], True, 1)
    # Results hold the class by value, and this session has it.
    assert type(box) is Box
    # Both elements ran in one process, and share the state of their module.
    assert future[1].result(LONG)[2] - before == 2


def pooled_sum(boxes):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return sum(box.x for box in pool.map(doubled, boxes))


def boxed(x):
    return Box(x), len(multiprocessing.get_context("fork").Pool(1).map(doubled, [Box(x)]))


def just_box(x):
    return doubled(Box(x))


def test_pools_work_in_reduce_and_in_further_attempts(process_knot_of):
    future = process_knot_of(just_box).map([1, 2], retries=2)
    assert future.reduce(pooled_sum).result(LONG) == 12
    assert process_knot_of(boxed).map([1], retries=2).result(LONG)[0][1] == 1


def named(x):
    command = "from tests.helpers.functions import double; print(double(21))"
    run = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    return run.stdout, run.stderr, importlib.import_module("tests.helpers.functions").cube(x)


def test_modules_named_as_text_travel_and_subprocesses_find_them(knot_of):
    assert knot_of(named).map([2]).result(LONG) == [("42\n", "", 8)]


def reads_table(x):
    return Path(__file__).with_name("table.csv").read_text()


def reads_elsewhere(x):
    return Path("/no/such/table.csv").read_text()


def test_missing_file_beside_module_is_explained(process_knot_of):
    with pytest.raises(FileNotFoundError) as caught:
        process_knot_of(reads_table).map([1])[0].result(LONG)
    assert any("data files do not travel" in note for note in caught.value.__notes__)
    with pytest.raises(FileNotFoundError) as caught:
        process_knot_of(reads_elsewhere).map([1])[0].result(LONG)
    assert not any("data files do not travel" in note for note in caught.value.__notes__)
