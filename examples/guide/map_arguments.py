"""The arguments of `map`, with an example for each."""

import os

import cloudknot as ck


def area(width, height=10):
    unit = os.environ.get("UNIT", "")
    return f"{width * height}{unit}"


knot = ck.Knot(name="areas", func=area)

# Any iterable, with one element for each call. It is read once.
print(knot.map(width for width in (1, 2, 3)).result())

# Several arguments for each call.
print(knot.map([(1, 2), (3, 4), (5,)], starmap=True).result())

# 1,000 calls in 4 child jobs of 250 calls each.
future = knot.map(range(1000), chunksize=250)
print(len(future), future.result()[-1])

# Environment variables for the jobs.
print(knot.map([1, 2], env_vars={"UNIT": " m2"}).result())

# A map that starts after another map has succeeded.
first = knot.map([1, 2])
second = knot.map([3, 4], depends_on=[first])
print(second.result(), first.result())

# Keyword arguments for every call. They may be large: each is uploaded once, and read once by each child.
print(knot.map([1, 2], kwargs={"height": 7}).result())

# Memory, vCPUs, time and attempts for this map only.
print(knot.map([1, 2], memory=1000, vcpus=1, timeout=600, retries=2).result())

# One Batch job for each element, instead of one array job.
separate = knot.map([1, 2], job_type="independent")
print(separate.result(), len(separate.job.job_ids))
