"""Runs that claim and release one shared object, in any order of their requests, with a bucket in memory."""

import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cloudknot.aws.s3.storage import StoredObject
from cloudknot.run.submit.ids import ABANDONED, new_run_id, run_time
from cloudknot.run.submit.shared_objects import claim, discard_unused, release
from cloudknot.worker.wire.keys import RUNS, shared_key

KNOT, DIGEST = "shared", "d" * 64
KEY = shared_key(KNOT, DIGEST)


class Objects:
    """A bucket in memory. Each request waits for ``turn``, and every later request sees its effect, as in S3."""

    def __init__(self, turn=lambda: None):
        self.stored, self._turn = {}, turn

    @property
    def keys_(self):
        return self.stored.keys()

    def put(self, key, body):
        self._turn()
        self.stored[key] = datetime.now(UTC)

    def delete(self, key):
        self._turn()
        self.stored.pop(key, None)

    def pages(self, prefix):
        self._turn()
        yield [StoredObject(key, 0, at) for key, at in sorted(self.stored.items()) if key.startswith(prefix)]

    def keys(self, prefix):
        return [item.key for page in self.pages(prefix) for item in page]

    def folders(self, prefix):
        self._turn()
        rest = {key[len(prefix) :] for key in self.keys_ if key.startswith(prefix)}
        return sorted({name.partition("/")[0] for name in rest if "/" in name})


def take(objects, run_id):
    """Claim the object for a run, as its submission does, and return the key."""
    key, missing = claim(objects, KNOT, DIGEST, run_id)
    if missing:
        objects.put(key, b"")
    return key


class Interleaving:
    """A scheduler of concurrent calls that lets one request through at a time, in a chosen order.

    ``order`` has the position of the next call among those that still wait. After its end, the first one is next.
    """

    def __init__(self, order):
        self._order = list(order)
        self._waiting = {}
        self._changed = threading.Condition()
        self._number = threading.local()

    def turn(self):
        """Wait until this thread's request is next. Threads outside `run` do not wait."""
        number = getattr(self._number, "number", None)
        if number is not None:
            with self._changed:
                self._waiting[number] = True
                self._changed.notify_all()
                assert self._changed.wait_for(lambda: not self._waiting[number], 60)

    def run(self, calls):
        """Run each call in a thread and return the results."""
        results = [None] * len(calls)

        def run_call(number):
            self._number.number = number
            results[number] = calls[number]()
            with self._changed:
                self._waiting[number] = None
                self._changed.notify_all()

        threads = [threading.Thread(target=run_call, args=(number,)) for number in range(len(calls))]
        self._waiting = dict.fromkeys(range(len(calls)), False)
        for thread in threads:
            thread.start()
        while self._next():
            pass
        for thread in threads:
            thread.join(60)
        return results

    def _next(self):
        """Let one request through when every call waits or has ended. Return whether any call was left."""
        with self._changed:
            assert self._changed.wait_for(lambda: False not in self._waiting.values(), 60)
            waiting = [number for number, waits in self._waiting.items() if waits]
            if not waiting:
                return False
            position = self._order.pop(0) if self._order else 0
            self._waiting[waiting[position % len(waiting)]] = False
            self._changed.notify_all()
            return True


STRETCHES = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), max_size=8)
"""Pairs: a position among the waiting calls, and the number of requests that it sends in a row."""


@settings(max_examples=settings().max_examples * 4)
@given(STRETCHES, st.integers(1, 2), st.sampled_from(["a", "aa", "ab"]))
@example([(1, 2), (0, 5), (1, 3)], 1, "aa")
def test_claimed_object_survives_concurrent_release_by_other_runs(stretches, users, leaving):
    """In "aa", two sessions clobber the same run."""
    interleaving = Interleaving(number for number, requests in stretches for _ in range(requests))
    objects = Objects(interleaving.turn)
    for run_id in leaving:
        assert take(objects, run_id) == KEY
    calls = [lambda run_id=run_id: release(objects, KEY, run_id) for run_id in leaving]
    calls += [lambda number=number: take(objects, f"using{number}") for number in range(users)]
    keys = interleaving.run(calls)[len(leaving) :]
    assert objects.keys_ >= set(keys)
    for number, key in enumerate(keys):
        release(objects, key, f"using{number}")
    # The last releases delete the object and every mark, also when they ran at once.
    assert objects.keys_ == set()


def test_last_run_deletes_object_on_release():
    objects = Objects()
    assert take(objects, "a") == take(objects, "b") == KEY
    release(objects, KEY, "a")
    assert KEY in objects.keys_
    release(objects, KEY, "b")
    assert objects.keys_ == set()


@pytest.mark.parametrize("requests", range(6))
@pytest.mark.parametrize("repeated", [True, False])
def test_later_cleanup_completes_release_interrupted_at_any_request(requests, repeated):
    left = iter(range(requests))

    def turn():
        if next(left, None) is None:
            raise KeyboardInterrupt

    objects, run_id = Objects(), new_run_id()
    take(objects, run_id)
    objects._turn = turn
    with suppress(KeyboardInterrupt):
        release(objects, KEY, run_id)
    objects._turn = lambda: None
    if repeated:
        release(objects, KEY, run_id)
    assert KEY not in objects.keys_ or not repeated
    later = run_time(run_id) + ABANDONED + timedelta(hours=1)
    discard_unused(objects, KNOT, later)
    # Every later session cleans up again. A repetition does no harm.
    discard_unused(objects, KNOT, later)
    assert objects.keys_ == set()
    assert take(objects, "anew") == KEY


def test_cleanup_removes_abandoned_claim_of_killed_session():
    objects, killed, living = Objects(), new_run_id(), new_run_id()
    key = take(objects, killed)
    take(objects, living)
    objects.put(f"{RUNS}/{KNOT}/{living}/manifest.json", b"")
    now = run_time(living)
    discard_unused(objects, KNOT, now)
    assert any(killed in key for key in objects.keys_)
    discard_unused(objects, KNOT, now + ABANDONED + timedelta(hours=1))
    assert not any(killed in mark for mark in objects.keys_)
    assert key in objects.keys_
    objects.delete(f"{RUNS}/{KNOT}/{living}/manifest.json")
    discard_unused(objects, KNOT, now + ABANDONED + timedelta(hours=1))
    assert objects.keys_ == set()
