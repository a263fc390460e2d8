"""MapFuture and its collector, with a job whose state the test sets: no cloud, no processes."""

import asyncio
import copy
import io
import sys
import threading
import tracemalloc
from concurrent.futures import FIRST_COMPLETED, CancelledError, as_completed, wait
from dataclasses import dataclass
from functools import partial

import pytest

from cloudknot.aws.outages import Outages
from cloudknot.errors import (
    BatchJobFailedError,
    CKTimeoutError,
    CloudError,
    CloudknotError,
    ElementError,
    ImagePullError,
    JobCancelledError,
    JobRunningError,
    JobTimeoutError,
    PermissionDeniedError,
    WorkerDiedError,
)
from cloudknot.run.collect.element_errors import Place
from cloudknot.run.collect.map_future import MapFuture
from cloudknot.worker.element import run_element
from cloudknot.worker.wire.envelope import pack
from cloudknot.worker.wire.keys import Location
from tests.helpers.waiting import until

LONG = 30


class FakeJob:
    """A job in memory: `finish` stores a pack as a worker would, `end` is what Batch would say."""

    def __init__(self, function, inputs, chunksize=1):
        self.function, self.inputs, self.chunksize = function, inputs, chunksize
        self.patience, self.renewal, self.states, self.name = 0.2, 0.2, {}, "fake"
        self.outages = Outages()
        self.packs, self.ended, self.over = {}, {}, False
        self.silence, self.terminated = None, []
        self.polls = self.reads = 0
        self.pages, self.page = 0, 1000

    def finish(self, *indices):
        for index in indices:
            envelope = run_element(self.function, partial(copy.copy, self.inputs[index]), False)
            self.packs[Location(index, 1)] = pack([envelope])

    def end(self, child, **job):
        self.ended[child] = {"jobId": f"j:{child}", **job}

    def stored(self, element):
        if self.silence:
            raise self.silence
        first = self.begin_of(element)
        found = [
            (location, len(data)) for location, data in sorted(self.packs.copy().items()) if location.first >= first
        ]
        for start in range(0, len(found), self.page):
            self.pages += 1
            yield found[start : start + self.page]

    def read(self, location, start=0, end=None):
        self.reads += 1
        return self.packs[location][start:end]

    def open(self, location, start, end):
        return io.BytesIO(self.read(location, start, end))

    def poll(self, known):
        self.polls += 1
        return {child for child, job in self.ended.items() if job["status"] == "FAILED"} - known, self.over

    def describe(self, children):
        return {child: self.ended.get(child, {}) for child in children}

    def spans(self, child):
        return [range(child * self.chunksize, min(len(self.inputs), (child + 1) * self.chunksize))]

    def span_of(self, element):
        child = self.child_of(element)
        return child, self.spans(child)[0].stop

    def begin_of(self, element):
        return self.spans(self.child_of(element))[0].start

    def current(self, location, kinds):
        return kinds

    def may_grow(self, child, job):
        return False

    def end_stuck(self, endings):
        """None of these is."""

    def child_of(self, element, round=None):
        return element // self.chunksize

    def children_of(self, element):
        return [self.child_of(element)]

    def place(self, index, child=None):
        return Place(index, f"j:{self.child_of(index)}")

    states = {}
    name = "fake"

    def reason_of_waiting(self):
        return ""

    def growth(self, end):
        return ""

    def log_url(self, stream):
        return f"log:/{stream.group}/{stream.name}"

    def terminate(self, reason):
        self.terminated.append(reason)


def square(x):
    return x * x


@pytest.fixture
def submit():
    """Make a job and its future; whatever a test leaves open is cancelled."""
    futures = []

    def make(function=square, inputs=(1, 2, 3), chunksize=1):
        job = FakeJob(function, list(inputs), chunksize)
        futures.append(MapFuture(job, len(job.inputs), max_threads=4, how_to_return="look at knot.jobs"))
        return job, futures[-1]

    yield make
    for future in futures:
        future.cancel()


def test_result_is_the_list_in_input_order(submit):
    job, future = submit()
    job.finish(2, 0, 1)
    assert future.result(LONG) == [1, 4, 9]
    assert future.done()


def test_elements_end_one_by_one(submit):
    job, future = submit()
    job.finish(1)
    assert future[1].result(LONG) == 4
    assert not future.done()
    assert not future[0].done()
    job.finish(0, 2)
    assert [element.result(LONG) for element in future] == [1, 4, 9]


def test_it_is_a_sequence_of_its_elements(submit):
    _, future = submit()
    assert len(future) == 3
    assert future[-1] is future[2]
    assert future[:2] == [future[0], future[1]]
    assert [element.index for element in future] == [0, 1, 2]


def test_an_empty_map_is_done():
    future = MapFuture(None, 0)
    assert future.done()
    assert future.result() == []
    assert list(future) == []


def test_as_completed_and_wait_take_elements_and_map(submit):
    job, future = submit()
    job.finish(0)
    first = wait(future, LONG, FIRST_COMPLETED)
    assert [element.index for element in first.done] == [0]
    job.finish(1, 2)
    assert {element.result() for element in as_completed(future, LONG)} == {1, 4, 9}
    assert wait([future], LONG).not_done == set()


def test_asyncio_can_await_an_element(submit):
    job, future = submit()
    job.finish(0, 1, 2)

    async def main():
        return await asyncio.wrap_future(future[2])

    assert asyncio.run(main()) == 9


def test_none_is_a_value(submit):
    job, future = submit(lambda x: None)
    job.finish(0, 1, 2)
    assert future.result(LONG) == [None, None, None]


class Odd(Exception):
    def __init__(self, number, why="no reason"):
        super().__init__(number)
        self.number, self.why = number, why


def raise_on_two(x):
    if x == 2:
        raise Odd(x, why="two is even")
    return x


def test_an_exception_comes_back_with_its_type_attributes_traceback_and_place(submit):
    job, future = submit(raise_on_two)
    job.finish(0, 1, 2)
    with pytest.raises(Odd) as caught:
        future.result(LONG)
    assert (caught.value.number, caught.value.why) == (2, "two is even")
    assert "raise_on_two" in str(caught.value.__cause__)
    assert "element 1" in caught.value.__notes__[0]
    assert "job.logs(1)" in caught.value.__notes__[0]
    assert future[0].result() == 1
    assert future[2].result() == 3


class Custom(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")
        self.a, self.lock = a, threading.Lock()


class Reworded(Exception):
    def __init__(self, a, b=0):
        super().__init__(f"{a} and {b}")
        self.a = a


@pytest.mark.parametrize("kind", [Custom, Reworded])
def test_an_exception_comes_back_without_its_init(submit, kind):
    def raise_it(x):
        raise kind(x, x)

    job, future = submit(raise_it, [5])
    job.finish(0)
    with pytest.raises(kind, match=r"^5 and 5(\n|$)") as caught:
        future.result(LONG)
    assert type(caught.value) is kind
    assert (caught.value.a, caught.value.args, hasattr(caught.value, "lock")) == (5, ("5 and 5",), False)
    assert "raise_it" in str(caught.value.__cause__)


@dataclass(frozen=True)
class Frozen(Exception):
    code: int


def test_an_exception_that_takes_no_attributes_comes_back_and_its_neighbours_run(submit):
    def raise_it(x):
        if x == 5:
            raise Frozen(x)
        return x

    job, future = submit(raise_it, [5, 6])
    job.finish(0, 1)
    with pytest.raises(Frozen) as caught:
        future.result(LONG)
    assert caught.value.code == 5
    assert "raise_it" in str(caught.value.__cause__)
    assert "element 0" in caught.value.__notes__[0]
    assert future[1].result(LONG) == 6


def raise_badly(x):
    raise ValueError("with a lock", threading.Lock())


def test_an_exception_that_cannot_travel_is_described(submit):
    job, future = submit(raise_badly, [5])
    job.finish(0)
    with pytest.raises(ElementError, match=r"raised ValueError: \('with a lock'.* cannot be sent back") as caught:
        future.result(LONG)
    assert caught.value.index == 0
    assert "raise_badly" in str(caught.value.__cause__)


def test_a_result_that_cannot_be_pickled_is_described(submit):
    job, future = submit(lambda x: threading.Lock(), [1])
    job.finish(0)
    with pytest.raises(ElementError, match=r"Element 0 .* cannot be pickled.*lock"):
        future.result(LONG)


@pytest.mark.parametrize(("code", "exit_code"), [(3, 3), (None, 0), ("bye", 1)])
def test_sys_exit_is_an_error_that_does_not_end_the_session(submit, code, exit_code):
    def leave(x):
        raise SystemExit(code)

    job, future = submit(leave, [1])
    job.finish(0)
    with pytest.raises(ElementError, match=r"sys\.exit") as caught:
        future.result(LONG)
    assert caught.value.exit_code == exit_code


def test_keyboard_interrupt_in_the_job_does_not_interrupt_the_session(submit):
    def interrupt(x):
        raise KeyboardInterrupt

    job, future = submit(interrupt, [1])
    job.finish(0)
    text = r"raised KeyboardInterrupt, which would end this session if it were raised here\."
    with pytest.raises(ElementError, match=text):
        future.result(LONG)


FAILED = {"status": "FAILED"}


@pytest.mark.parametrize(
    ("ending", "kind", "text"),
    [
        ({"container": {"exitCode": 9}}, WorkerDiedError, "exit code 9"),
        ({"container": {"exitCode": 137}}, WorkerDiedError, "exit code 137.*SIGKILL"),
        ({"container": {"exitCode": 139}}, WorkerDiedError, "signal 11"),
        ({"statusReason": "Job attempt duration exceeded timeout"}, JobTimeoutError, "timeout"),
        ({"isTerminated": True, "statusReason": "stop it"}, JobCancelledError, "stop it"),
        ({"attempts": [{"container": {"reason": "CannotPullContainerError: x"}}]}, ImagePullError, "CannotPull"),
    ],
)
def test_a_child_that_failed_without_a_result_says_why(submit, ending, kind, text):
    job, future = submit()
    job.finish(0, 2)
    job.end(1, **FAILED, **ending)
    with pytest.raises(kind, match=rf"Element 1 \(job j:1\).*{text}") as caught:
        future.result(LONG)
    assert type(caught.value) is kind
    assert caught.value.exit_code == ending.get("container", {}).get("exitCode")
    assert future[0].result() == 1


def test_the_error_names_the_log(submit):
    job, future = submit(inputs=[1])
    job.end(0, **FAILED, container={"exitCode": 9, "logStreamName": "s/default/1"})
    with pytest.raises(WorkerDiedError, match=r"job\.logs\(0\)") as caught:
        future.result(LONG)
    assert caught.value.log_url == "log://aws/batch/job/s/default/1"


def test_in_a_chunk_what_was_stored_before_the_death_is_kept(submit):
    job, future = submit(inputs=range(6), chunksize=3)
    job.finish(0, 1, 2, 3)
    job.end(1, **FAILED, container={"exitCode": 9})
    assert [future[i].result(LONG) for i in range(4)] == [0, 1, 4, 9]
    for index in (4, 5):
        with pytest.raises(WorkerDiedError, match=f"Element {index} "):
            future[index].result(LONG)


def test_a_stored_result_wins_over_a_failed_status(submit):
    job, future = submit(inputs=[3])
    job.end(0, **FAILED, container={"exitCode": 1})
    job.finish(0)
    assert future.result(LONG) == [9]


def test_success_without_a_result_is_an_error(submit):
    job, future = submit(inputs=[3])
    job.end(0, status="SUCCEEDED", container={"exitCode": 0})
    job.over = True
    with pytest.raises(BatchJobFailedError, match="stored no result"):
        future.result(LONG)


def test_a_job_that_batch_forgot_ends_too(submit):
    job, future = submit()
    job.finish(0)
    job.over = True
    with pytest.raises(BatchJobFailedError, match="no longer knows"):
        future.result(LONG)
    assert future[0].result() == 1


def test_timeout_leaves_the_job_and_says_how_to_return(submit):
    job, future = submit()
    with pytest.raises(CKTimeoutError, match=r"look at knot\.jobs") as caught:
        future.result(0.01)
    assert isinstance(caught.value, TimeoutError)
    with pytest.raises(TimeoutError):
        future[0].exception(0.01)
    assert job.terminated == []
    job.finish(0, 1, 2)
    assert future.result(LONG) == [1, 4, 9]


def test_callbacks_run_once_for_each_future(submit):
    job, future = submit()
    called = []
    for each in (future, *future):
        each.add_done_callback(called.append)
    job.finish(0, 1, 2)
    future.result(LONG)
    late = []
    future.add_done_callback(late.append)
    assert set(called) <= {future, *future}
    assert late == [future]
    wait([future], LONG)
    assert len(called) == 4


def test_cancel_ends_the_job_and_the_elements_that_are_left(submit):
    job, future = submit()
    job.finish(0)
    assert future[0].result(LONG) == 1
    assert future.cancel()
    assert len(job.terminated) == 1
    assert future.cancelled()
    assert future[0].result() == 1
    with pytest.raises(CancelledError):
        future[1].result(LONG)
    with pytest.raises(CancelledError):
        future.result(LONG)
    assert wait(future, LONG).not_done == set()


def test_cancel_does_not_mistake_the_end_it_makes_for_a_failure(submit):
    """The collector may see the job end before `terminate` has returned."""
    job, future = submit()

    def terminate(reason):
        job.over = True
        for child in range(3):
            job.end(child, status="FAILED", statusReason=reason)
        seen = job.polls
        until(lambda: job.polls > seen + 2)

    job.terminate = terminate
    future.add_done_callback(lambda _: None)
    assert future.cancel()
    assert [future.cancelled(), *(element.cancelled() for element in future)] == [True] * 4


def test_cancel_takes_what_was_stored_until_the_job_ended(submit):
    job, future = submit()
    job.terminate = lambda reason: job.finish(0, 2)
    assert future.cancel()
    assert [element.cancelled() for element in future] == [False, True, False]
    assert [future[0].result(), future[2].result()] == [1, 9]


def test_cancel_of_what_ends_meanwhile_is_no_cancel(submit):
    job, future = submit()
    job.terminate = lambda reason: job.finish(0, 1, 2)
    assert not future.cancel()
    assert future.result(0) == [1, 4, 9]


def test_cancel_when_the_cloud_falls_silent_still_cancels(submit, caplog):
    job, future = submit()

    def terminate(reason):
        job.silence = CloudError("no answer")

    job.terminate = terminate
    assert future.cancel()
    assert all(element.cancelled() for element in future)
    assert "What a cancelled map stored last could not be read" in caplog.text


@pytest.mark.parametrize("submits", [False, True])
def test_cancel_and_memory_that_is_about_to_grow(submit, submits):
    """Nothing is run again once the job was ended; what is just being submitted is waited for, and ended too."""
    job, future = submit()
    asked, cancelling, events = threading.Event(), threading.Event(), []

    def about_to_grow(child, description):
        if not submits:
            asked.set()
            cancelling.wait(LONG)
        return True

    def grow(elements):
        asked.set()
        until(lambda: future._collector._held.is_set())
        events.append("grown")

    job.may_grow, job.grow = about_to_grow, grow
    job.terminate = lambda reason: events.append("ended")
    for child in range(3):
        job.end(child, status="FAILED")
    job.over = True
    assert asked.wait(LONG)
    assert future.cancel()
    cancelling.set()
    until(lambda: not future._collector._thread.is_alive())
    assert events == (["grown", "ended"] if submits else ["ended"])


def test_a_cancel_that_the_cloud_refuses_leaves_the_map_as_it_is(submit):
    job, future = submit()

    def refuse(reason):
        raise PermissionDeniedError("You may not")

    job.terminate, terminate = refuse, job.terminate
    with pytest.raises(PermissionDeniedError):
        future.cancel()
    job.terminate = terminate
    job.finish(0, 1, 2)
    assert future.result(LONG) == [1, 4, 9]


def test_an_element_that_waits_is_not_cancelled_and_never_known_to_run(submit):
    job, future = submit()
    assert (future[0].cancel(), future[0].running(), future[0].cancelled()) == (False, False, False)
    assert job.terminated == []
    job.finish(0, 1, 2)
    assert future.result(LONG) == [1, 4, 9]


def test_a_value_of_another_attempt_takes_the_place_of_a_failure(submit):
    """Both attempts run at once; the one whose element failed was seen first."""
    job, future = submit(inputs=[1, 2, 3], chunksize=3)
    good, bad = run_element(square, lambda: 1, False), run_element(len, lambda: 1, False)
    job.packs = {Location(0, 2): pack([bad, good])}
    assert isinstance(future[0].exception(LONG), TypeError)
    job.packs = {**job.packs, Location(0, 1): pack([good])}
    until(lambda: future[0].exception() is None)
    reads = job.reads
    polls = job.polls
    until(lambda: job.polls > polls + 2)
    assert job.reads == reads
    job.finish(2)
    assert future.result(LONG) == [1, 1, 9]


def test_memory_that_another_session_lets_grow_is_looked_for_and_no_outage(submit, caplog):
    job, future = submit()
    job.patience, refused = 0, []

    def grow(elements):
        refused.append(elements)
        if len(refused) == 3:
            job.finish(*elements)
        raise JobRunningError("Another session is submitting")

    job.may_grow, job.grow = lambda child, description: True, grow
    for child in range(3):
        job.end(child, status="FAILED")
    job.over = True
    assert future.result(LONG) == [1, 4, 9]
    assert refused == [[0, 1, 2]] * 3
    assert "does not answer" not in caplog.text
    assert caplog.records == []


def test_cancel_after_the_end_does_nothing(submit):
    job, future = submit()
    job.finish(0, 1, 2)
    future.result(LONG)
    assert not future.cancel()
    assert job.terminated == []
    assert not future[0].cancel()


def test_a_cloud_that_is_silent_for_a_while_is_asked_again(submit):
    job, future = submit()
    job.patience = LONG
    job.silence = CloudError("no answer")
    polls = job.polls
    while job.polls < polls + 2:
        pass
    job.finish(0, 1, 2)
    job.silence = None
    assert future.result(LONG) == [1, 4, 9]


@pytest.mark.parametrize("error", [CloudError("no answer"), PermissionDeniedError("no")])
def test_a_cloud_that_stays_silent_ends_the_wait(submit, error):
    job, future = submit()
    job.silence = error
    with pytest.raises(BatchJobFailedError, match=r"Element 0 \(job j:0\)") as caught:
        future.result(LONG)
    assert caught.value.__cause__ is error
    assert [element.exception().index for element in future] == [0, 1, 2]


def test_an_unexpected_failure_of_the_collector_ends_the_wait(submit):
    job, future = submit()
    job.silence = RuntimeError("surprise")
    with pytest.raises(CloudknotError, match="surprise"):
        future.result(LONG)


def test_an_elements_future_is_the_same_as_long_as_somebody_holds_it(submit):
    job, future = submit(inputs=range(1000))
    held = future[3]
    assert future[3] is held
    assert len(list(future)) == 1000
    assert len(future._futures._made) == 1
    job.finish(*range(1000))
    assert held.result(LONG) == 9
    assert held.result(LONG) is future[3].result(LONG)


def test_all_futures_of_one_element_are_equal(submit):
    job, future = submit(inputs=range(1000))
    other = submit(inputs=range(1000))[1]
    numbers = {element: number for number, element in enumerate(future)}
    job.finish(*range(1000))
    assert sorted(numbers[element] for element in as_completed(future, LONG)) == list(range(1000))
    assert all(numbers[future[number]] == number for number in (0, 255, 256, 999))
    assert set(wait(numbers, LONG).done) == numbers.keys() == set(future)
    assert future[3] in future[2:4]
    assert future[3] not in (future[2], other[3], 3)


def test_a_million_futures_of_elements_take_less_than_a_hundred_bytes_each(submit):
    future = submit(inputs=range(10_000))[1]
    held = [None] * len(future)
    tracemalloc.start()
    try:
        for index, element in enumerate(future):
            held[index] = element
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used / len(held) < 100


def test_a_future_with_a_callback_is_kept(submit):
    job, future = submit()
    called = []
    future[1].add_done_callback(lambda done: called.append(done.result()))
    job.finish(0, 1, 2)
    future.result(LONG)
    assert called == [4]
    assert not future.callbacks


def test_a_waiter_of_the_standard_library_leaves_nothing_behind(submit):
    job, future = submit(inputs=range(50))
    with pytest.raises(TimeoutError):
        list(as_completed(future, 0.01))
    assert not future.element_waiters
    job.finish(*range(50))
    assert len(list(as_completed(future, LONG))) == 50
    assert not future.element_waiters


def test_its_own_as_completed_holds_no_futures(submit):
    job, future = submit(inputs=range(100))
    job.finish(5, 7)
    ending = future.as_completed(LONG)
    assert {next(ending).index, next(ending).index} == {5, 7}
    job.finish(*range(100))
    assert sorted(element.result() for element in ending) == sorted(x * x for x in range(100) if x not in (5, 7))
    assert not future._futures._made


def test_its_own_as_completed_has_a_bound(submit):
    job, future = submit()
    job.finish(0)
    ending = future.as_completed(0.3)
    assert next(ending).result() == 1
    with pytest.raises(CKTimeoutError):
        next(ending)


def test_the_list_has_the_same_objects_as_the_elements(submit):
    job, future = submit(lambda x: [x], range(3))
    job.finish(0, 1, 2)
    first = future[1]
    value = first.result(LONG)
    assert future.result(LONG)[1] is value
    assert future[2].result() is future.result()[2]


def test_what_has_no_room_is_read_when_it_is_asked_for(submit):
    job, future = submit(lambda x: bytes(1000), range(20))
    future.results.packs._room = 5000
    job.finish(*range(20))
    assert [len(element.result(LONG)) for element in future] == [1000] * 20
    assert future.results.packs._used <= 5000
    assert future.result(LONG) == [bytes(1000)] * 20


def test_a_straggler_at_the_front_does_not_have_all_listed_again(submit):
    """10,000 children, of which the first is late: a look lists what is before and behind the done ones."""
    job, future = submit(lambda x: x, range(10_000))
    job.page = 1000
    job.finish(*range(1, 9_999))
    assert future[9_998].result(LONG) == 9_998
    # The look that found all of them may be going on. The next one has begun when there is one more poll.
    polls = job.polls
    until(lambda: job.polls > polls)
    polls, pages = job.polls, job.pages
    until(lambda: job.polls >= polls + 10)
    assert job.pages - pages <= 2 * (job.polls - polls + 1)
    job.finish(0, 9_999)
    assert len(future.result(LONG)) == 10_000


class Thing:
    """Unpickles only where what it needs is there."""

    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        return make_thing, (self.number,)


missing = []


def make_thing(number):
    if missing:
        raise ImportError("no such module here")
    return f"thing {number}"


def test_what_cannot_be_unpickled_can_be_once_what_it_needs_is_there(submit):
    job, future = submit(Thing, range(3))
    element = future[1]
    missing.append("module")
    try:
        job.finish(0, 1, 2)
        with pytest.raises(ElementError, match="cannot be unpickled in this session: ImportError"):
            element.result(LONG)
        with pytest.raises(ElementError, match="cannot be unpickled in this session: ImportError"):
            future.result(LONG)
    finally:
        missing.clear()
    assert future.result(LONG) == ["thing 0", "thing 1", "thing 2"]
    assert element.result(LONG) == "thing 1"


def test_two_who_wait_for_elements_of_two_maps_do_not_wait_for_each_other(submit):
    """The standard library locks futures by their ids, which of two maps alternate."""
    (_, one), (_, other) = submit(inputs=range(2000)), submit(inputs=range(2000))

    def go_on(maps):
        for _ in range(30):
            wait([element for pair in zip(*maps, strict=True) for element in pair], timeout=0.001)

    threads = [threading.Thread(target=go_on, args=(maps,), daemon=True) for maps in ((one, other), (other, one))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert not any(thread.is_alive() for thread in threads)


class InterruptedJob(FakeJob):
    """Ctrl-C comes while the main thread reads what was stored last."""

    def stored(self, element):
        if self.terminated and threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        return super().stored(element)


def test_a_cancel_that_is_interrupted_leaves_nobody_waiting():
    future = MapFuture(InterruptedJob(square, [1, 2], 1), 2)
    waiting = future[1]
    with pytest.raises(KeyboardInterrupt):
        future.cancel()
    with pytest.raises(CancelledError):
        future.result(LONG)
    with pytest.raises(CancelledError):
        waiting.result(LONG)


def test_a_callback_that_interrupts_a_cancel_leaves_nobody_waiting(submit):
    _, future = submit()
    called = []

    def interrupt(_):
        raise KeyboardInterrupt

    future[0].add_done_callback(interrupt)
    future[1].add_done_callback(called.append)
    with pytest.raises(KeyboardInterrupt):
        future.cancel()
    assert called == [future[1]]
    with pytest.raises(CancelledError):
        future.result(LONG)


def test_a_callback_that_ends_its_thread_does_not_end_the_collector(submit, caplog):
    job, future = submit()
    future[0].add_done_callback(lambda element: sys.exit("enough"))
    job.finish(0)
    assert future[0].result(LONG) == 1
    job.finish(1, 2)
    assert future.result(LONG) == [1, 4, 9]
    assert "A callback of an element's future failed" in caplog.text


def test_a_snapshot_is_what_asyncio_asks_for(submit):
    """From Python 3.14 on, in place of the fields that a future of the standard library has."""
    job, future = submit(raise_on_two, [1, 2])
    assert future._get_snapshot() == (False, False, None, None)
    job.finish(0, 1)
    assert future.exception(LONG) is future._get_snapshot()[3]
    assert future[0]._get_snapshot() == (True, False, 1, None)
    _, cancelled = submit()
    cancelled.cancel()
    assert cancelled._get_snapshot() == (True, True, None, None)
