"""Futures and jobs of a process go on working in its forks. Batch and S3 are embedded, the processes real."""

import multiprocessing
import os
import threading
import time

import pytest

import cloudknot as ck
from cloudknot.run.collect.waiters import LOCK
from tests.helpers.waiting import LONG, until


def square_slowly(x):
    time.sleep(x / 10)
    return x * x


def outcome_in_fork(call):
    """Return the result of a call in a forked process, or its error. Kill the process if it takes too long."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def run():
        try:
            sender.send(call())
        except BaseException as error:
            sender.send(repr(error))

    process = context.Process(target=run)
    process.start()
    try:
        assert receiver.poll(LONG), "The forked process does not answer."
        outcome = receiver.recv()
        process.join(LONG)
        assert process.exitcode == 0
        return outcome
    finally:
        process.kill()


@pytest.fixture(scope="module")
def knot(cloud):
    return ck.Knot(name="forked", func=square_slowly, cloud=cloud)


def test_future_ends_in_fork_and_in_parent(knot):
    future = knot.map([1, 12])
    threads = [threading.Thread(target=future.result) for _ in range(2)]
    for thread in threads:
        # They wait in the parent, and hold its locks again and again.
        thread.start()
    assert outcome_in_fork(lambda: (future[0].result(LONG), future.result(LONG))) == (1, [1, 144])
    assert outcome_in_fork(lambda: [element.result() for element in future.as_completed(LONG)]) == [1, 144]
    assert future.result(LONG) == [1, 144]
    for thread in threads:
        thread.join(LONG)


def test_fork_submits_reads_and_ends_jobs_of_its_own(knot, cloud):
    future = knot.map([1])
    future.result(LONG)

    def work():
        own = knot.map([2, 3])
        return future.job.status, own.result(LONG), ck.BatchJob(own.job.job_id, cloud=cloud).result(LONG)

    until(lambda: future.job.status == "SUCCEEDED")
    assert outcome_in_fork(work) == ("SUCCEEDED", [4, 9], [4, 9])


def test_callbacks_run_only_in_parent(knot):
    future, called = knot.map([1, 2]), []
    future.add_done_callback(lambda ended: called.append(os.getpid()))
    future[0].add_done_callback(lambda ended: called.append(os.getpid()))

    def work():
        future.result(LONG)
        # Those that ran in the parent before the fork are here, too.
        return os.getpid() in called

    assert outcome_in_fork(work) is False
    future.result(LONG)
    until(lambda: called == [os.getpid()] * 2)


def test_fork_works_although_other_thread_holds_locks(knot):
    future = knot.map([3])
    held, release = threading.Event(), threading.Event()

    def hold():
        view, door = future.job._view, knot.cloud.door
        with LOCK, view.lock, door._lock:
            held.set()
            release.wait(LONG)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(LONG)
    try:
        assert outcome_in_fork(lambda: future.result(LONG)) == [9]
    finally:
        release.set()
        thread.join(LONG)
    assert future.result(LONG) == [9]


def test_plain_fork_reads_results_and_exits(knot):
    future = knot.map([4])
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        # The interpreter's own end waits for threads.
        os.write(write_end, repr(future.result(LONG)).encode())
        threading._shutdown()
        os._exit(0)
    os.close(write_end)
    with open(read_end, "rb") as stream:
        assert stream.read() == b"[16]"
    assert os.waitpid(child, 0)[1] == 0
    assert future.result(LONG) == [16]
