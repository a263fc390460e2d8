"""Attempts that overlap, and retries beside them: every reader has the same outcome of an element, at any moment.

The model stores packs in memory, with the worker's own writer and all readers of the product. A scheduler decides
which attempt makes the next request. Readers look after every request.
"""

import itertools
import pickle
import threading
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudknot.run.collect.element_table import FAILURE, PENDING, VALUE, ElementTable
from cloudknot.run.collect.run_view import RunView
from cloudknot.run.jobs.retries.closing import close_gaps
from cloudknot.run.submit.rounds import Round, Rounds, Run
from cloudknot.run.submit.submit_job import Submission
from cloudknot.worker import child
from cloudknot.worker.previous_results import PreviousResults
from cloudknot.worker.results import ResultWriter
from cloudknot.worker.wire import failure
from cloudknot.worker.wire.keys import Location, RunKeys
from cloudknot.worker.wire.manifest import Manifest
from cloudknot.worker.wire.pack import Envelope, Origin, Pack
from cloudknot.worker.wire.pack_order import Gaps
from tests.unit.run.collect.fake_job import FakeJob, future_of

KEYS = RunKeys.of("bucket", "knot", "20260101T000000000000-abcdef")
LONG = 120
"""Seconds. A bound for waits that end at once unless the test fails."""


class Scheduler:
    """Runs actors in threads, of which only one at a time makes a request. ``choose`` picks the next one."""

    def __init__(self, choose, look):
        self._choose, self._look = choose, look
        self._changed = threading.Condition()
        self._waiting, self._granted, self._alive, self._errors = set(), None, set(), []

    def run(self, actors):
        """Run actors, callables by name, to their end. Call ``look`` after each request."""
        self._alive = set(actors)
        for name, actor in actors.items():
            threading.Thread(target=self._live, args=(name, actor), daemon=True).start()
        while True:
            with self._changed:
                settled = self._changed.wait_for(lambda: self._waiting >= self._alive and not self._granted, LONG)
                assert settled, "An actor neither makes a request nor ends."
            if self._errors:
                raise self._errors[0]
            self._look()
            if not self._alive:
                return
            with self._changed:
                self._granted = self._choose(sorted(self._waiting))
                self._changed.notify_all()

    def _live(self, name, actor):
        try:
            actor()
        except BaseException as error:
            self._errors.append(error)
        with self._changed:
            self._alive.discard(name)
            self._changed.notify_all()

    def step(self, name):
        """Wait for the turn of an actor."""
        with self._changed:
            self._waiting.add(name)
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._granted == name, LONG)
            self._waiting.discard(name)
            self._granted = None


class Objects:
    """Objects in memory, as the worker, the client's storage and the scheduler need them."""

    def __init__(self, objects, step=lambda: None, round=0, chunksize=0):
        self.objects, self._step = objects, step
        self.keys_of_run, self.s3 = KEYS, self
        self.manifest = SimpleNamespace(round=round, chunksize=chunksize)

    def put_new(self, key, body):
        self._step()
        return self.objects.setdefault(key, body) == body

    def write(self, key, *pieces):
        self._step()
        if key in self.objects:
            return False
        self.objects[key] = b"".join(pieces)
        return True

    def fetch(self, key, start=0, end=None):
        self._step()
        return self.objects[key][start:end]

    def pages(self, prefix, after=""):
        self._step()
        keys = sorted(key for key in self.objects if after < key)
        yield [SimpleNamespace(key=key, size=len(self.objects[key])) for key in keys]


class WorkerRun(Objects):
    """The run of a worker."""

    keys = KEYS

    def read(self, key, start=0, end=None):
        return self.fetch(key, start, end)


class WorkerS3(Objects):
    """The worker's S3 client."""

    def read(self, bucket, key, start=0, end=None):
        return self.fetch(key, start, end)

    def keys(self, bucket, prefix, after, until):
        return [key for key, _ in self.objects_of(after, until)]

    def objects_of(self, after, until):
        self._step()
        return [(k, len(v)) for k, v in sorted(self.objects.items()) if after < k <= until]


class ReadingS3(WorkerS3):
    """The S3 client of a job whose elements are these results."""

    def __init__(self, objects):
        super().__init__(objects)
        self.objects = lambda bucket, prefix, after, until: WorkerS3(objects).objects_of(after, until)
        self._stored = objects

    def load(self, *place):
        raise AssertionError("small packs are read whole")

    def read(self, bucket, key, start=0, end=None):
        return self._stored[key][start:end]


class Attempt(SimpleNamespace):
    """An attempt: its number, whether it is the last, the elements that fail, and those after which it stores."""

    def run(self, objects, step, round, elements, chunksize):
        run = WorkerRun(objects, step, round, chunksize)
        run.s3 = WorkerS3(objects, step)
        gaps = Gaps(elements)
        if self.number > 1:
            child._fill(run, gaps, list(elements))
        writer = ResultWriter(run, gaps)
        for index in gaps.elements():
            if not writer.needs(index):
                continue
            ok = index not in self.failing
            if ok or self.last:
                writer.add(index, self.outcome(index, ok, round), last=True)
            if index in self.stores_after:
                writer._store()
        writer.close()

    def outcome(self, index, ok, round):
        payload = b"round %d, attempt %d, element %d" % (round, self.number, index)
        pieces = (payload,) if ok and index in self.large else ()
        return Envelope(failure.VALUE if ok else failure.RAISED, b"" if pieces else payload, 0, 0, 0, pieces)


class World:
    """A run of one child, its attempts, a session that retries it, and all its readers."""

    def __init__(self, count, choose):
        self.count, self.objects = count, {}
        self.first = self.round_of(range(count), 0, 0)
        self.rounds = [self.first]
        self.scheduler = Scheduler(choose, self.look)
        self.live = ElementTable(count + 1)
        self.done = set()
        self.seen = {}

    def round_of(self, elements, start, number):
        manifest = Manifest(count=self.count, chunksize=self.count, round=number, todo=len(elements) * bool(number))
        return Round(Submission(KEYS, manifest, number), elements, start, {"job_ids": ["j"]}, {})

    def view(self, rounds, step=lambda: None):
        storage = Objects(self.objects, step)
        return RunView(SimpleNamespace(storage=storage), Run(KEYS, self.first.submission.manifest, Rounds(rounds)))

    def run(self, attempts, retry=None):
        actors = {f"attempt {attempt.number}": self.actor(attempt) for attempt in attempts}
        if retry:
            actors["retry"] = lambda: self.retry(retry)
        self.scheduler.run(actors)

    def actor(self, attempt):
        step = lambda: self.scheduler.step(f"attempt {attempt.number}")  # noqa: E731
        return lambda: attempt.run(self.objects, step, 0, range(self.count), self.count)

    def retry(self, attempt):
        """Run the elements without a value again, as `Retry.submit` does."""
        view = self.view(list(self.rounds), lambda: self.scheduler.step("retry"))
        table = ElementTable(self.count + 1)
        read_new(view, table, set())
        failed = [index for index in range(self.count) if table.state(index) != VALUE]
        values = close_gaps(view, [index for index in failed if table.state(index) == PENDING])
        todo = [index for index in failed if index not in values]
        if todo:
            self.rounds.append(self.round_of(todo, 1, 1))
            attempt.run(self.objects, lambda: self.scheduler.step("retry"), 1, todo, self.count)

    def look(self):
        """Read with every reader, and compare with all that any of them has seen before."""
        later = self.outcomes_of_session(self.view(self.rounds))
        assert later == self.outcomes_of_job(later)
        waiting = self.outcomes_of_waiting_future()
        for index in range(self.count):
            known, new, old = self.seen.get(index), later.get(index), waiting.get(index)
            # A value stays, and so does a failure unless the retry has an outcome of the same element.
            assert new == known or known is None or (known[0] == failure.RAISED and is_replaced(known, new))
            # The future that knows no retry shows the same, or a failure that the retry has replaced.
            assert old == new or (old and old[0] == failure.RAISED and is_replaced(old, new))
            self.seen[index] = new

    def outcomes_of_session(self, view):
        table = ElementTable(self.count + 1)
        read_new(view, table, set())
        return self.outcomes(view, table)

    def outcomes_of_waiting_future(self):
        """Return the outcomes of a future that began to wait before the first attempt, and knows no retry."""
        view = self.view([self.first])
        read_new(view, self.live, self.done)
        return self.outcomes(view, self.live)

    def outcomes(self, view, table):
        found = {}
        for index in range(self.count):
            if table.state(index) in (VALUE, FAILURE):
                location, _ = table.pack(index)
                envelope = Pack(view.read(location), Origin(KEYS.run_id, location))[index - location.first]
                assert envelope.ok == (table.state(index) == VALUE)
                found[index] = envelope.kind, bytes(envelope.payload)
        return found

    def outcomes_of_job(self, later):
        """Return the outcomes that a job takes as its elements."""
        source = {"source": KEYS.url, "source_count": self.count, "source_chunksize": self.count}
        manifest = Manifest(count=self.count, chunksize=1, **source)
        found = PreviousResults(ReadingS3(self.objects), manifest).outcomes(range(self.count))
        outcomes = {
            index: (outcome.kind, outcome.failure()) for index, outcome in enumerate(found) if outcome is not None
        }
        # A job does not know the rounds. While a retry has no outcome yet, it takes the failure of the map.
        return {index: outcome for index, outcome in outcomes.items() if outcome[0] == failure.VALUE or index in later}


def is_replaced(failed, outcome):
    """Return whether a retry has another outcome in place of a failure of the map, or will have one."""
    return failed[1].startswith(b"round 0") and (outcome is None or outcome[1].startswith(b"round 1"))


def read_new(view, table, done):
    """Store new packs in a table, as the collector does."""
    for page in view.list_packs(0):
        for location, size in page:
            if table.takes(location) and location not in done:
                table.store(location, size, view.mark_outdated(location, view.kinds(location)))
                if table.takes(location):
                    done.add(location)


@st.composite
def attempts(draw, count, number, last):
    some = st.frozensets(st.integers(0, count - 1))
    return Attempt(number=number, last=last, failing=draw(some), stores_after=draw(some), large=draw(some))


@settings(max_examples=settings().max_examples * 3)
@given(st.data(), st.integers(1, 7), st.integers(2, 4), st.booleans())
def test_all_readers_have_same_outcome_at_any_moment(data, count, number, is_retried):
    check_readers(data, count, number, is_retried)


@pytest.mark.more
@settings(max_examples=settings().max_examples * 10)
@given(st.data(), st.integers(1, 7), st.integers(2, 4), st.booleans())
def test_all_readers_have_same_outcome_at_any_moment_of_many_maps(data, count, number, is_retried):
    check_readers(data, count, number, is_retried)


def check_readers(data, count, number, is_retried):
    of_map = [data.draw(attempts(count, n, n == number)) for n in range(1, number + 1)]
    retry = data.draw(attempts(count, 1, True)) if is_retried else None
    world = World(count, lambda names: data.draw(st.sampled_from(names)))
    world.run(of_map, retry)
    # The last attempt has an outcome for each element, or leaves it to another attempt that has one.
    assert None not in world.seen.values()


def behaviours(number, last):
    """Return attempts with every choice of failing elements, and with one or two packs, for two elements."""
    subsets = [frozenset(), {0}, {1}, {0, 1}]
    return [
        Attempt(number=number, last=last, failing=failing, stores_after=stores_after, large=frozenset())
        for failing, stores_after in itertools.product(subsets, [frozenset(), {0}])
    ]


@pytest.mark.parametrize("is_retried", [False, True])
def test_all_interleavings_of_two_small_attempts(is_retried):
    explored = 0
    for first, second in itertools.product(behaviours(1, False), behaviours(1 if is_retried else 2, True)):
        for choose in every_choice(1000):
            world = World(2, choose)
            world.run([first] if is_retried else [first, second], second if is_retried else None)
            assert None not in world.seen.values()
            explored += 1
    assert explored > 200


def every_choice(limit):
    """Yield choosers that together make every sequence of choices, depth first."""
    prefix = []
    for _ in range(limit):
        made = []

        def choose(names, made=made, prefix=tuple(prefix)):
            position = prefix[len(made)] if len(made) < len(prefix) else 0
            made.append((position, len(names)))
            return names[position]

        yield choose
        while made and made[-1][0] + 1 == made[-1][1]:
            made.pop()
        if not made:
            return
        prefix = [position for position, _ in made[:-1]] + [made[-1][0] + 1]
    raise AssertionError("There are more interleavings than the limit.")


def test_value_of_later_round_replaces_failure_until_map_ends():
    elements = ElementTable(3)
    assert elements.store(Location(0, 2), 100, kinds([False, True])) == (0, b"\1\1")
    assert elements.takes(Location(0, 1, 1))
    assert not elements.takes(Location(0, 2))
    assert elements.store(Location(0, 1, 1), 100, kinds([True])) == (0, b"\0")
    assert (elements.pending, elements.without_value, elements.state(0)) == (1, 0, VALUE)
    assert not elements.takes(Location(0, 1, 1))
    elements.store(Location(2, 1), 100, kinds([False]))
    elements.store(Location(2, 1, 1), 100, kinds([True]))
    assert (elements.pending, elements.without_value, elements.state(2)) == (0, 1, FAILURE)


def test_pack_that_leaves_elements_open_is_read_once_and_again_after_reopening():
    elements = ElementTable(4)
    elements.store(Location(0, 4), 100, kinds([True, False]))
    assert not elements.takes(Location(0, 4))
    assert elements.takes(Location(2, 2))
    assert elements.reopened().takes(Location(0, 4))


def test_job_of_void_retry_stores_nothing_after_its_gaps_were_closed():
    """Another session has taken the retry over, and its job runs for a moment."""
    world = World(4, min)
    void, view = world.round_of([1, 2, 3], 1, 1), world.view([world.first])
    attempt = Attempt(number=1, last=True, failing={2}, stores_after=frozenset(), large=frozenset())
    # Its first two elements are stored before the other session closes the gaps.
    writer = ResultWriter(WorkerRun(world.objects, round=1), Gaps([1, 2, 3]))
    writer.add(1, attempt.outcome(1, True, 1), last=True)
    writer.add(2, attempt.outcome(2, False, 1), last=True)
    writer._store()
    assert close_gaps(view, [], [void]) == {1}
    stored = dict(world.objects)
    writer.add(3, attempt.outcome(3, True, 1), last=True)
    writer.close()
    attempt.run(world.objects, lambda: None, 1, [1, 2, 3], 4)
    assert world.objects == stored


def test_damaged_pack_costs_only_its_own_elements():
    job = FakeJob(lambda x: x * x, range(4), chunksize=4)
    job.packs[Location(0, 4)] = b"garbage"
    job.store(Location(2, 2), *(Envelope(failure.VALUE, pickle.dumps(x), 0, 0, 0) for x in (4, 9)))
    future = future_of(job)
    assert [element.result(LONG) for element in future[2:]] == [4, 9]
    assert not future[0].done()
    job.over = True
    assert {str(element.exception(LONG).args[0])[:9] for element in future[:2]} == {"Element 0", "Element 1"}
    assert all("damaged" in str(element.exception()) for element in future[:2])


def test_element_table_stores_round_numbers_up_to_40000():
    elements = ElementTable(2)
    for number in (0, 255, 256, 40_000):
        again = elements.reopened()
        again.store(Location(0, 1, number), 100, kinds([True]))
        assert again.pack(0) == (Location(0, 1, number), 1024)


def kinds(oks):
    return bytes(failure.VALUE if ok else failure.RAISED for ok in oks)


def test_every_choice_makes_each_sequence_once():
    sequences = []
    for choose in every_choice(100):
        sequences.append(tuple(choose(["a", "b"]) for _ in range(3)))
    assert sorted(sequences) == sorted(itertools.product("ab", repeat=3))
