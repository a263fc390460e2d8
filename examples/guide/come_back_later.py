"""Submit in one session, read the results in another.

python come_back_later.py submit
python come_back_later.py collect
"""

import sys

import cloudknot as ck


def count_primes(limit):
    """Return the number of primes below the limit."""
    return sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(2, limit))


def submit():
    knot = ck.Knot(name="primes", func=count_primes)
    future = knot.map([1_000, 10_000, 100_000])
    print("submitted", future.job.job_id)


def collect():
    knot = ck.Knot(name="primes")  # without func: connects to the existing knot
    job = knot.jobs[-1]  # its maps, oldest first
    print(job.job_id, job.result())

    same_job = ck.BatchJob(job.job_id)  # or find the job by its Batch id
    print(same_job.name, same_job.result())


if __name__ == "__main__":
    collect() if sys.argv[1:] == ["collect"] else submit()
