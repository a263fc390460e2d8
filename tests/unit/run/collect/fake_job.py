"""A fake job in memory, for tests of the collector and of futures."""

import copy
import io
from functools import partial
from types import SimpleNamespace

from cloudknot.aws.outages import Outages
from cloudknot.run.collect.element_errors import Place
from cloudknot.run.collect.map_future import collect
from cloudknot.worker.element import run_element
from cloudknot.worker.wire.keys import Location
from cloudknot.worker.wire.pack import Origin, Pack, pack

LONG = 120
"""Seconds. A bound for waits that end at once unless the test fails."""


class FakeJob:
    """A job in memory that is also its own `RunView`, cloud and run.

    `finish` stores packs as a worker does. `end` sets Batch's description of a child. ``over`` ends the job, and every
    listing of packs raises ``silence``. ``looks`` counts the listings from the first element, and ``polls`` the
    questions to Batch.
    """

    newest_round = newest_start = 0
    job_id = "j"

    def __init__(self, function, inputs, chunksize=1):
        self.function, self.inputs, self.chunksize = function, inputs, chunksize
        self.patience, self.renewal, self.states, self.name = 0.2, 0.2, {}, "fake"
        self.outages, self.cloud = Outages(), self
        self.keys = SimpleNamespace(knot=self.name)
        self.run = SimpleNamespace(
            manifest=SimpleNamespace(count=len(inputs), gather=False, chunksize=chunksize), keys=self.keys
        )
        self.packs, self.ended, self.over = {}, {}, False
        self.silence, self.terminated = None, []
        self.polls = self.reads = 0
        self.looks = self.pages = 0
        self.page = 1000

    def finish(self, *indices):
        """Call the function for each element and store the outcome."""
        for index in indices:
            envelope = run_element(self.function, partial(copy.copy, self.inputs[index]), False)
            self.store(Location(index, 1), envelope)

    def store(self, location, *envelopes):
        """Store a pack."""
        self.packs = {**self.packs, location: pack(envelopes, Origin("run", location))}

    def end(self, child, **job):
        """Set the description of a child job."""
        self.ended[child] = {"jobId": f"j:{child}", **job}

    def list_packs(self, element):
        self.looks += element == 0
        if self.silence:
            raise self.silence
        first = self.first_pack_start(element)
        listed = [
            (location, len(data)) for location, data in sorted(self.packs.copy().items()) if location.first >= first
        ]
        for start in range(0, len(listed), self.page):
            self.pages += 1
            yield listed[start : start + self.page]

    def read(self, location, start=0, end=None):
        self.reads += 1
        return self.packs[location][start:end]

    def open(self, location, start, end):
        return io.BytesIO(self.read(location, start, end))

    def unpack(self, location, data):
        return Pack(data, Origin("run", location))

    def poll(self, known):
        self.polls += 1
        return {child for child, job in self.ended.items() if job["status"] == "FAILED"} - known, self.over

    def is_running(self, element):
        return bool(self.states.get("RUNNING"))

    def describe(self, children):
        return {child: self.ended.get(child, {}) for child in children}

    def spans(self, child):
        return [range(child * self.chunksize, min(len(self.inputs), (child + 1) * self.chunksize))]

    def span_of(self, element):
        child = self.child_of(element)
        return child, self.spans(child)[0].stop

    def first_pack_start(self, element):
        return self.spans(self.child_of(element))[0].start

    def mark_outdated(self, location, kinds):
        return kinds

    def may_grow(self, child, job):
        return False

    def child_of(self, element, round=None):
        return element // self.chunksize

    def children_of(self, element):
        return [self.child_of(element)]

    def place(self, index, child=None):
        return Place(index, f"j:{self.child_of(index)}", show_log=f"cloudknot logs j {index}")

    def mean_seconds(self):
        return None

    def reason_of_waiting(self):
        return ""

    def growth_fix(self, end):
        return ""

    def log_url(self, stream):
        return f"log:/{stream.group}/{stream.name}"

    def terminate(self, reason):
        self.terminated.append(reason)


def future_of(job, **choices):
    """Start a collector for a fake job and return the future of its map."""
    return collect(job, job, job, **choices)[1]


class Odd(Exception):
    """An exception that hands only one of its two arguments to `Exception`."""

    def __init__(self, number, why="no reason"):
        super().__init__(number)
        self.number, self.why = number, why


def raise_on_two(x):
    if x == 2:
        raise Odd(x, why="two is even")
    return x
