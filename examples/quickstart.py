"""Estimate pi with 20 jobs on the embedded cloud. Without ``cloud="local"`` the same jobs run on AWS."""

import random

import cloudknot as ck


def count_hits(seed):
    random.seed(seed)
    return sum(random.random() ** 2 + random.random() ** 2 <= 1 for _ in range(100_000))


knot = ck.Knot(name="quickstart", func=count_hits, cloud="local")
future = knot.map(range(20))
print("pi is about", 4 * sum(future.result()) / 2_000_000)

# Another session finds the results like this.
knot = ck.Knot(name="quickstart", cloud="local")  # without func: connects to the existing knot
job = knot.jobs[-1]  # its newest map
print(job.job_id, job.result())
