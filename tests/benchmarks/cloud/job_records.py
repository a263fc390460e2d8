"""Measure what the records of jobs cost: CPU time for each child of an array, with a store on disk and without one.

    python -m tests.benchmarks.cloud.job_records
    python -m tests.benchmarks.cloud.job_records --children 10000 --rounds 5

Both variants take turns in one process, with a runner that ends each task at once.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from cloudknot.local.batch import job_store
from cloudknot.local.batch.engine import Engine
from cloudknot.local.batch.job_store import JobStore
from cloudknot.local.batch.records import Action, Exited, Job, JobSpec, Queue, Start, Started
from cloudknot.local.directory.database import Database

QUEUE = Queue("q", "arn:aws:batch:us-east-1:123456789012:job-queue/q", 1, "ce", 256)
ARN = "arn:aws:batch:us-east-1:123456789012:job-definition/knot:1"


class _NoStore:
    def add(self, job: Job, jobs: object) -> None:
        pass

    def write(self, jobs: object) -> None:
        pass


def milliseconds(children: int, store: JobStore | _NoStore, first: int) -> float:
    """Run an array of jobs to its end. Return the CPU time of this process for each child."""
    ids = (f"00000000-0000-4000-8000-{number:012d}" for number in range(first * 2, first * 2 + 10 * children))
    engine, begun = Engine(2, lambda: next(ids), first), time.process_time()
    spec = JobSpec("map", QUEUE, ARN, "knot", "knot:tag", ("python", "-m", "cloudknot_worker"), array_size=children)
    job, actions = engine.submit(spec, time.time())
    store.add(job, engine.changed.values())
    engine.changed.clear()
    while actions:
        later: list[Action] = []
        for action in actions:
            assert isinstance(action, Start)
            engine.handle(Started(action.task.id), time.time())
            later += engine.handle(Exited(action.task.id, 0), time.time())
            store.write(engine.changed.values())
            engine.changed.clear()
        actions = later
    assert job.status.ended
    return 1000 * (time.process_time() - begun) / children


def main() -> None:
    """Print the medians of both variants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--children", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "jobs.sqlite"
        store = JobStore(Database(path, job_store.SCHEMA, is_synced=False))
        stored, free = [], []
        for _ in range(options.rounds):
            stored.append(milliseconds(options.children, store, store.next_number()))
            free.append(milliseconds(options.children, _NoStore(), 0))
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
        with_store, without = statistics.median(stored), statistics.median(free)
        print(f"CPU ms a child: {with_store:.3f} with records, {without:.3f} without them")
        print(f"Bytes on disk a child: {size / options.children / options.rounds:.0f}")


if __name__ == "__main__":
    main()
