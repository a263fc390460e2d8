"""Who uses a shared object and who deletes it, in every order in which their requests can reach S3."""

import threading
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudknot.run_ids import ABANDONED, new_run_id, run_time
from cloudknot.sharing import claim, release, release_abandoned
from cloudknot.worker.protocol import RUNS, shared_key

KNOT, DIGEST = "shared", "d" * 64
KEY = shared_key(KNOT, DIGEST)


class Objects:
    """A bucket in memory, whose every request waits for ``turn``: what is stored is seen at once, as in S3."""

    def __init__(self, turn=lambda: None):
        self.keys_, self._turn = set(), turn

    def put(self, key, body):
        self._turn()
        self.keys_.add(key)

    def delete(self, key):
        self._turn()
        self.keys_.discard(key)

    def keys(self, prefix):
        self._turn()
        return sorted(key for key in self.keys_ if key.startswith(prefix))

    def folders(self, prefix):
        self._turn()
        rest = {key[len(prefix) :] for key in self.keys_ if key.startswith(prefix)}
        return sorted({each.partition("/")[0] for each in rest if "/" in each})


def take(objects, run_id):
    """What a run does before it is submitted; gives the key that it relies on."""
    key, missing = claim(objects, KNOT, DIGEST, run_id)
    if missing:
        objects.put(key, b"")
    return key


class Interleaving:
    """Runs calls side by side, one request at a time: ``order`` says whose is next, as long as that has any left."""

    def __init__(self, order):
        self._order = list(order)
        self._waiting = {}
        self._changed = threading.Condition()
        self._number = threading.local()

    def turn(self):
        number = getattr(self._number, "number", None)
        if number is not None:
            with self._changed:
                self._waiting[number] = True
                self._changed.notify_all()
                assert self._changed.wait_for(lambda: not self._waiting[number], 60)

    def run(self, calls):
        results = [None] * len(calls)

        def one(number):
            self._number.number = number
            results[number] = calls[number]()
            with self._changed:
                self._waiting[number] = None
                self._changed.notify_all()

        threads = [threading.Thread(target=one, args=(number,)) for number in range(len(calls))]
        self._waiting = dict.fromkeys(range(len(calls)), False)
        for thread in threads:
            thread.start()
        while self._next():
            pass
        for thread in threads:
            thread.join(60)
        return results

    def _next(self):
        """Let one request through, once everybody waits or has ended; whether there was one."""
        with self._changed:
            assert self._changed.wait_for(lambda: False not in self._waiting.values(), 60)
            left = [number for number, waits in self._waiting.items() if waits]
            if not left:
                return False
            wanted = self._order.pop(0) if self._order else 0
            self._waiting[left[wanted % len(left)]] = False
            self._changed.notify_all()
            return True


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 2), st.integers(1, 2))
def test_what_a_run_relies_on_is_there_however_others_give_it_up(order, users, leavers):
    interleaving = Interleaving(order)
    objects = Objects(interleaving.turn)
    leaving = [f"leaving{number}" for number in range(leavers)]
    for run_id in leaving:
        assert take(objects, run_id) == KEY
    calls = [lambda run_id=run_id: release(objects, KEY, run_id) for run_id in leaving]
    calls += [lambda number=number: take(objects, f"using{number}") for number in range(users)]
    keys = interleaving.run(calls)[leavers:]
    assert objects.keys_.issuperset(keys)
    for number, key in enumerate(keys):
        release(objects, key, f"using{number}")
    # An object that is given up by all at once goes, too, and no mark is left of anybody.
    assert objects.keys_ == set()


def test_the_last_run_takes_the_object_along():
    objects = Objects()
    assert take(objects, "a") == take(objects, "b") == KEY
    release(objects, KEY, "a")
    assert KEY in objects.keys_
    release(objects, KEY, "b")
    assert objects.keys_ == set()


@pytest.mark.parametrize("requests", range(6))
def test_giving_up_can_be_repeated_after_it_was_interrupted_anywhere(requests):
    left = iter(range(requests))

    def turn():
        if next(left, None) is None:
            raise KeyboardInterrupt

    objects = Objects()
    take(objects, "a")
    objects._turn = turn
    try:
        release(objects, KEY, "a")
    except KeyboardInterrupt:
        objects._turn = lambda: None
        release(objects, KEY, "a")
    assert objects.keys_ == set()


def test_what_a_killed_session_had_claimed_goes_when_that_is_long_ago():
    objects, killed, living = Objects(), new_run_id(), new_run_id()
    key = take(objects, killed)
    take(objects, living)
    objects.put(f"{RUNS}/{KNOT}/{living}/manifest.json", b"")
    now = run_time(living)
    release_abandoned(objects, KNOT, now)
    assert any(killed in each for each in objects.keys_)
    release_abandoned(objects, KNOT, now + ABANDONED + timedelta(hours=1))
    assert not any(killed in each for each in objects.keys_)
    assert key in objects.keys_
    objects.delete(f"{RUNS}/{KNOT}/{living}/manifest.json")
    release_abandoned(objects, KNOT, now + ABANDONED + timedelta(hours=1))
    assert objects.keys_ == set()
